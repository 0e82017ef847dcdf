"""Quadrature nodes on the curve of a mirror flow, for expectations over a Gaussian z.

The state evolution needs expectations of functions of theta, where theta + gamma xi = z and z is normal.
As functions of z they have kinks for small starts. As functions of the curve's own coordinate t (the one in
which theta and xi change mildly, d v / d t = `scale`) they are analytic in |Im t| < pi/2 or so, whatever the
scale of the start. So the integral is taken over t, and nothing is solved at the nodes:

    E f = int f(t) phi(z(t)) (d z / d t) dt,      z(t) = theta(t) + gamma xi(t).

Here t is 0 at the start, and its sign is such that z grows with it. Panels end at steps of t on each side of
the start and near quantiles of z: on a panel neither t nor z, in units of its deviation, moves far, and
Gauss-Legendre nodes are at rounding. The steps are short where theta grows from rounding to its size, as
M / (M + gamma) has its poles there, the nearer to the real line the deeper the network is. A panel also ends
where theta is 0, for functions such as |theta|.

Arrays here have the axes [node, component, panel, coordinate], or some of them in this order.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Bool, Float
from ddln.potentials import AbstractCurve

# Gauss-Legendre nodes of a panel.
NODES = 12
# Panels of steps in t on each side: half of them where theta grows from rounding to its size.
STEPS = 16
# The logarithm of this growth.
GROWTH = 30.0
# Distances from the start in the table: of logarithms, or of theta itself.
REACHES = 1.15 ** np.arange(132)
# Quantiles of z near which panels end, in deviations: beyond the last one the mass is 1e-17.
QUANTILES = np.array([-8.5, -6.5, -4.7, -3.0, -1.5, 0.0, 1.5, 3.0, 4.7, 6.5, 8.5])
# Newton's steps that place a quantile, for which three would do, and the zero of theta.
PLACING = 6


def over(function: Callable[..., Any], *arrays: Any) -> Any:
    """Apply a function of arrays [K], or of trees of them, to arrays [..., K] of one shape."""
    shape = jax.tree.leaves(arrays)[0].shape
    flat = jax.tree.map(lambda array: array.reshape(-1, shape[-1]), arrays)
    values = jax.vmap(function)(*flat)
    return jax.tree.map(lambda rows: rows.reshape(shape), values)


class Nodes(eqx.Module):
    """Nodes in v, for each component of the signal.

    Attributes:
        v: the nodes; axis 0 runs over the nodes of a panel, in the direction of growing z. Of a sum, a tree.
        dv: d v / d x, x in [0, 1] the coordinate of the panel; of a sum, d xi / d x.
        beyond: True for the panels above the start.
        xi: xi at the nodes of a sum; None where it is an integral over v.
    """

    v: Any
    dv: Float[Array, "node J P K"]
    beyond: Bool[Array, "J P K"]
    xi: Float[Array, "node J P K"] | None = None


class Chart(eqx.Module):
    """The curves of the starts in the coordinate t, with a table of points on both sides of the start.

    Attributes:
        curve: the curves.
        sense: the sign of d v / d t.
        steepness: d log theta / d t far from the start, at least 1.
        table: theta, xi, t and v at increasing t, the start in the middle.
    """

    curve: AbstractCurve
    sense: Float[Array, " K"]
    steepness: Float[Array, " K"]
    table: Float[Array, "4 T K"]

    @classmethod
    def of(cls, curve: AbstractCurve) -> "Chart":
        """The chart of a curve, not differentiated; it serves for every noise and penalty."""
        curve = jax.lax.stop_gradient(curve)
        origin = curve.origin
        sense = jnp.sign(curve.slope(origin))
        t = jnp.asarray(np.concatenate([-REACHES[::-1], [0], REACHES]), origin.dtype)
        t = jnp.broadcast_to(t[:, None], (t.size, origin.size))
        v = _points(curve, sense, t)
        theta, steepness = over(curve.at, v), over(curve.steepness, v)
        change = over(lambda v, dt: curve.step(v, sense * dt), v[:-1], jnp.diff(t, axis=0))
        # Where theta overflows, or underflows at the end of its range, the change of xi may be anything.
        change = jnp.where(jnp.isfinite(theta[1:] + theta[:-1] + change), change, 0)
        middle = len(REACHES)
        sums = np.tri(len(t), len(change), -1) - (np.arange(len(change)) < middle)
        xi = product(jnp.asarray(sums, t.dtype), change)
        steepness = jnp.max(jnp.where(jnp.isfinite(steepness), steepness, 1), axis=0)
        return cls(curve, sense, jnp.maximum(steepness, 1), jnp.stack([theta, xi, t, v]))

    def panels(
        self,
        means: Float[Array, "J K"],
        deviations: Float[Array, "J K"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "J E K"]:
        """The ends of the panels in t for z ~ N(means_jk, deviations_jk^2), theta + penalty xi = z.

        Args:
            means: the mean of z for each component and start.
            deviations: its deviation.
            penalty: gamma.
        """
        means, deviations, penalty = jax.lax.stop_gradient((means, deviations, penalty))
        deep = jnp.asarray(QUANTILES, means.dtype)[None, :, None]
        targets = means[:, None] + deep * deviations[:, None]
        ends = self._ends(jnp.min(targets[:, 0], axis=0), jnp.max(targets[:, -1], axis=0), penalty)
        ends = jnp.broadcast_to(ends[None], (len(means), *ends.shape))
        # Where z is at the quantiles, and where theta alone is 0.
        targets = jnp.concatenate([targets, jnp.zeros_like(targets[:, :1])], axis=1)
        ends = jnp.concatenate([ends, self._placed(targets, penalty)], axis=1)
        # Without mass beyond the fixed ends, where the table may be at infinity.
        return jnp.sort(jnp.clip(ends, ends[:, :1], ends[:, 2 * STEPS : 2 * STEPS + 1]), axis=1)

    def _ends(
        self, low: Float[Array, " K"], high: Float[Array, " K"], penalty: Float[Array, ""]
    ) -> Float[Array, "F K"]:
        """The ends of steps that all components share, from where z is below `low` to above `high`."""
        theta, xi, t, _ = self.table
        z = theta + penalty * xi
        below, above = (z <= low[None]) | ~jnp.isfinite(z), (z >= high[None]) | ~jnp.isfinite(z)
        first = jnp.max(jnp.where(below & (t < 0), t, t[:1]), axis=0)
        last = jnp.min(jnp.where(above & (t > 0), t, t[-1:]), axis=0)
        far = jnp.stack([first, last])
        growing = jnp.minimum(GROWTH / self.steepness[None], 0.5 * jnp.abs(far))
        near = far - jnp.sign(far) * growing
        steps = jnp.arange(1, STEPS // 2 + 1).astype(t.dtype)[None, :, None] / (STEPS // 2)
        ends = jnp.concatenate(
            [near[:, None] * steps, near[:, None] + (far - near)[:, None] * steps], 1
        )
        return jnp.concatenate([ends[0, ::-1], jnp.zeros_like(far[:1]), ends[1]])

    def _placed(
        self, targets: Float[Array, "J Q K"], penalty: Float[Array, ""]
    ) -> Float[Array, "J Q K"]:
        """The t near which z is at the targets; for the last one, at which theta is."""
        curve, sense = self.curve, self.sense
        size, components = self.table.shape[1], len(targets)
        weight = np.append(np.ones(targets.shape[1] - 1), 0)
        weight = penalty * jnp.asarray(weight, targets.dtype)[None, :, None]
        weight = jnp.broadcast_to(weight, targets.shape)
        theta, xi = self.table[:2, :, None, None]
        passed = jnp.sum(theta + weight[None] * xi <= targets[None], axis=0)
        index = jnp.clip(passed - 1, 0, size - 2)

        def at(index: Array) -> Array:
            rows = jnp.broadcast_to(self.table[:, None], (4, components, *self.table.shape[1:]))
            return jnp.take_along_axis(rows, index[None], axis=2, mode="promise_in_bounds")

        def rate(v: Array) -> Array:
            """d z / d t."""
            dual = over(lambda v: jnp.abs(curve.slope(v)) * curve.scale(v) / curve.metric(v), v)
            return dual * (over(curve.metric, v) + weight)

        # Outward from the inner end of the step, which may be the start, next to which t is small.
        below = (index < size // 2).astype(index.dtype)
        theta, xi, begin, here = at(index + below)
        next_theta, next_xi, end, there = at(index + 1 - below)
        missing, length = targets - theta - weight * xi, end - begin

        # Within a step the rate of z is nearly an exponential function of t.
        share = jnp.clip(missing / (next_theta - theta + weight * (next_xi - xi)), 0, 1)
        growth = jnp.log(rate(there) / rate(here))
        bent = jnp.isfinite(growth) & (jnp.abs(growth) > 1e-3)
        growth = jnp.where(bent, growth, 1)
        share = jnp.where(bent, jnp.log1p(share * jnp.expm1(growth)) / growth, share)

        def place(_, state):
            low, high, share = state
            there, change = over(lambda v, dt: curve.move(v, sense * dt), here, share * length)
            excess = over(curve.at, there) - theta + weight * change - missing
            # In shares of the step, outward.
            excess = excess / (rate(there) * length)
            low, high = jnp.where(excess < 0, share, low), jnp.where(excess < 0, high, share)
            newton = share - excess
            good = (newton >= low) & (newton <= high)
            return low, high, jnp.where(good, newton, 0.5 * (low + high))

        state = (jnp.zeros_like(share), jnp.ones_like(share), share)
        share = jax.lax.fori_loop(0, PLACING, place, state)[2]
        outside = (passed == 0) | (passed >= size)
        return jnp.where(outside, end, begin + jnp.clip(share, 0, 1) * length)

    def nodes(self, panels: Float[Array, "J E K"], count: int = NODES) -> Nodes:
        """The nodes of the panels, `count` on each, not differentiated."""
        panels = jax.lax.stop_gradient(panels)
        begin, length = panels[:, :-1], jnp.diff(panels, axis=1)
        x = jnp.asarray(gauss_legendre(count, panels.dtype)[0])[:, None, None, None]
        v = _points(self.curve, self.sense, begin[None] + x * length[None])
        scale = over(lambda v: self.sense * self.curve.scale(v), v)
        return Nodes(v, length[None] * scale, begin >= 0)


def _points(curve: AbstractCurve, sense: Float[Array, " K"], t: Float[Array, "..."]) -> Array:
    """v at t."""
    return over(lambda t: curve.travel(curve.origin, sense * t), t)
