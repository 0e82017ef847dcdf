"""Quadrature nodes on the curve of a mirror flow, for expectations over a Gaussian z.

The state evolution needs expectations of functions of theta, where theta + gamma xi = z and z is normal.
As functions of z they have kinks for small starts. As functions of the curve's own coordinate t (the one in
which theta and xi change mildly, d v / d t = `scale`) they are analytic in |Im t| < pi/2 or so, whatever the
scale of the start. So the integral is taken over t, and nothing is solved at the nodes:

    E f = int f(t) phi(z(t)) (d z / d t) dt,      z(t) = theta(t) + gamma xi(t).

Here t is 0 at the start, and its sign is such that z grows with it. Panels end at equal steps of t on each side
of the start and near quantiles of z: on a panel neither t nor z, in units of its deviation, moves far, and
Gauss-Legendre nodes are at rounding. A panel also ends where theta is 0, for functions such as |theta|.

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
# Panels of equal steps in t, on each side, and as many where theta grows from rounding to its size.
STEPS = 10
# The logarithm of this growth.
GROWTH = 30.0
# Distances from the start to which the nodes may have to reach: of logarithms, or of theta itself.
REACHES = 1.15 ** np.arange(132)
# Quantiles of z near which panels end, in deviations: beyond the last one the mass is 1e-17.
QUANTILES = np.array([-8.5, -6.5, -4.7, -3.0, -1.5, 0.0, 1.5, 3.0, 4.7, 6.5, 8.5])
# Newton's steps that place a quantile. A panel may end a third of a deviation beside it.
PLACING = 3
# Steps that find the zero of theta: the first ones halve the step of the table it lies in.
HALVING, FINDING = 8, 14


def over(function: Callable[..., Any], *arrays: Array) -> Any:
    """Apply a function of arrays [K], with one value or several, to arrays [..., K] of one shape."""
    shape = arrays[0].shape
    values = jax.vmap(function)(*(array.reshape(-1, shape[-1]) for array in arrays))
    return jax.tree.map(lambda rows: rows.reshape(shape), values)


class Nodes(eqx.Module):
    """Nodes in v, for each component of the signal.

    Attributes:
        v: the nodes; axis 0 runs over the nodes of a panel, in the direction of growing z.
        dv: d v / d x, x in [0, 1] the coordinate of the panel.
        beyond: True for the panels above the start.
    """

    v: Float[Array, "node J P K"]
    dv: Float[Array, "node J P K"]
    beyond: Bool[Array, "J P K"]


class Chart(eqx.Module):
    """The curves of the starts in the coordinate t, with a table of theta and xi far from the start.

    Attributes:
        curve: the curves.
        sense: the sign of d v / d t.
        zero: the t at which theta is 0, or 0 if there is none.
        steepness: d log theta / d t far from the start, on both sides.
        theta: theta at the distances `REACHES` on both sides.
        xi: xi there, roughly.
    """

    curve: AbstractCurve
    sense: Float[Array, " K"]
    zero: Float[Array, " K"]
    steepness: Float[Array, "2 K"]
    theta: Float[Array, "2 R K"]
    xi: Float[Array, "2 R K"]

    @classmethod
    def of(cls, curve: AbstractCurve) -> "Chart":
        """The chart of a curve, not differentiated; it serves for every noise and penalty."""
        curve = jax.lax.stop_gradient(curve)
        origin = curve.origin
        sense = jnp.sign(curve.slope(origin))
        signs = jnp.asarray([-1, 1], origin.dtype)[:, None]
        far = np.concatenate([[0], REACHES])
        t = signs[..., None] * jnp.asarray(far, origin.dtype)[None, :, None]
        t = jnp.broadcast_to(t, (2, far.size, origin.size))
        v = _points(curve, sense, t)
        theta = over(curve.at, v)
        change = _steps(curve, sense, v[:, :-1], jnp.diff(t, axis=1))
        # Where theta overflows, the change of xi may be of any value.
        change = jnp.where(jnp.isfinite(theta[:, 1:]), change, 0)
        sums = jnp.asarray(np.tri(REACHES.size), origin.dtype)
        xi = jnp.moveaxis(product(sums, jnp.moveaxis(change, 1, 0)), 0, 1)
        zero = _zero(curve, sense, signs, signs[..., None] * theta)
        steepness = over(curve.steepness, v)
        steepness = jnp.max(jnp.where(jnp.isfinite(steepness), steepness, 1), axis=1)
        return cls(curve, sense, zero, steepness, theta[:, 1:], xi)

    def _reach(
        self, low: Float[Array, " K"], high: Float[Array, " K"], penalty: Float[Array, ""]
    ) -> Float[Array, "2 K"]:
        """A distance at which z is outside of [low, high], on each side."""
        z = self.theta + penalty * self.xi
        inside = jnp.stack([z[0] > low[None], z[1] < high[None]]) & jnp.isfinite(z)
        reaches = jnp.asarray(REACHES, z.dtype)
        return jnp.min(jnp.where(inside, reaches[-1], reaches[None, :, None]), axis=1)

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
        spread = QUANTILES[-1] * deviations
        reach = self._reach(
            jnp.min(means - spread, axis=0), jnp.max(means + spread, axis=0), penalty
        )
        t = self._ends(reach)
        deep = jnp.asarray(QUANTILES, means.dtype)[None, :, None]
        targets = means[:, None] + deep * deviations[:, None]
        quantiles = self._placed(targets, t, penalty)
        fixed = jnp.concatenate([t, self.zero[None]])[None]
        fixed = jnp.broadcast_to(fixed, (len(means), *fixed.shape[1:]))
        return jnp.sort(jnp.concatenate([fixed, quantiles], axis=1), axis=1)

    def _ends(self, reach: Float[Array, "2 K"]) -> Float[Array, "S K"]:
        """The ends of steps on both sides, increasing, the start in the middle."""
        steps = jnp.arange(1, STEPS + 1).astype(reach.dtype)[None, :, None] / STEPS
        growing = jnp.minimum(GROWTH / jnp.maximum(self.steepness, 1), reach)
        ends = [reach[:, None] * steps, reach[:, None] - growing[:, None] * (1 - steps)]
        lower, upper = jnp.sort(jnp.concatenate(ends, axis=1), axis=1)
        return jnp.concatenate([-lower[::-1], jnp.zeros_like(reach[:1]), upper])

    def _placed(
        self, targets: Float[Array, "J Q K"], t: Float[Array, "S K"], penalty: Float[Array, ""]
    ) -> Float[Array, "J Q K"]:
        """The t near which z is at the targets, from its values at the ends of equal steps."""
        curve, sense = self.curve, self.sense
        v = _points(curve, sense, t)
        step = jnp.diff(t, axis=0)
        change = _steps(curve, sense, v[:-1], step)
        # The sums from the start, in the middle of the steps.
        sums = np.tri(len(t), len(step), -1) - (np.arange(len(step)) < len(step) // 2)
        z = over(curve.at, v) + penalty * product(jnp.asarray(sums, t.dtype), change)

        def rate(v: Array) -> Array:
            """d z / d t."""
            metric = over(curve.metric, v)
            dual = jnp.abs(over(curve.slope, v)) * over(curve.scale, v) / metric
            return dual * (metric + penalty)

        passed = jnp.sum(z[:, None, None] <= targets[None], axis=0)
        index = jnp.clip(passed - 1, 0, len(step) - 1)
        rows = jnp.stack([z, jnp.log(rate(v)), t, v])

        def at(index: Array) -> Array:
            rows_of = jnp.broadcast_to(rows[:, None], (4, len(targets), *t.shape))
            return jnp.take_along_axis(rows_of, index[None], axis=2, mode="promise_in_bounds")

        # Outward from the inner end of the step, which may be the start, next to which t is small.
        below = (index < len(step) // 2).astype(index.dtype)
        height, log_rate, begin, here = at(index + below)
        next_height, next_rate, end, _ = at(index + 1 - below)
        missing, length = targets - height, end - begin

        # Within a step the rate of z is nearly an exponential function of t.
        share = jnp.clip(missing / (next_height - height), 0, 1)
        growth = next_rate - log_rate
        bent = jnp.isfinite(growth) & (jnp.abs(growth) > 1e-3)
        growth = jnp.where(bent, growth, 1)
        share = jnp.where(bent, jnp.log1p(share * jnp.expm1(growth)) / growth, share)
        theta = over(curve.at, here)

        def place(_, state):
            low, high, share = state
            there, change = over(lambda v, dt: curve.move(v, sense * dt), here, share * length)
            excess = over(curve.at, there) - theta + penalty * change - missing
            # In shares of the step, outward.
            excess = excess / (rate(there) * length)
            low, high = jnp.where(excess < 0, share, low), jnp.where(excess < 0, high, share)
            newton = share - excess
            good = (newton >= low) & (newton <= high)
            return low, high, jnp.where(good, newton, 0.5 * (low + high))

        state = (jnp.zeros_like(share), jnp.ones_like(share), share)
        share = jax.lax.fori_loop(0, PLACING, place, state)[2]
        outside = (passed == 0) | (passed > len(step))
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


def _steps(curve: AbstractCurve, sense: Float[Array, " K"], v: Array, dt: Array) -> Array:
    """The changes of xi over steps of t."""
    return over(lambda v, dt: curve.step(v, sense * dt), v, dt)


def _zero(
    curve: AbstractCurve,
    sense: Float[Array, " K"],
    signs: Float[Array, "2 1"],
    heights: Float[Array, "2 R K"],
) -> Float[Array, " K"]:
    """The t at which theta is 0, or 0: from theta at the start and at the reaches, times `signs`."""
    far = jnp.asarray(np.concatenate([[0], REACHES]), heights.dtype)
    passed = jnp.sum(heights <= 0, axis=1)
    crossing = (passed < far.size) & (heights[:, 0] < 0)
    index = jnp.where(crossing, passed, 1)

    def nearer(count, state):
        low, high, newton = state
        offset = jnp.where(count < HALVING, 0.5 * (low + high), jnp.clip(newton, low, high))
        there = _points(curve, sense, signs * offset)
        height = signs * over(curve.at, there)
        low, high = jnp.where(height < 0, offset, low), jnp.where(height < 0, high, offset)
        slope = over(curve.slope, there) * over(curve.scale, there)
        return low, high, offset - height / jnp.abs(slope)

    first = (far[index - 1], far[index], far[index])
    low, high, offset = jax.lax.fori_loop(0, FINDING, nearer, first)
    return jnp.sum(jnp.where(crossing, signs * jnp.clip(offset, low, high), 0), axis=0)
