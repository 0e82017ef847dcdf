"""Quadrature nodes on the curve of a mirror flow, for expectations over a Gaussian z.

The state evolution needs expectations of functions of theta, where theta + gamma xi = z and z is normal.
As functions of z they have kinks for small starts. As functions of the curve's own coordinate t (the one in
which theta and xi change mildly, d v / d t = `scale`) they are analytic in |Im t| < pi/2 or so, whatever the
scale of the start. So the integral is taken over t, and nothing is solved at the nodes:

    E f = int f(t) phi(z(t)) (d z / d t) dt,      z(t) = theta(t) + gamma xi(t).

Each side of the start is cut into panels at equal steps of t and near quantiles of z: on a panel neither t
nor z, in units of its deviation, moves far, and Gauss-Legendre nodes are at rounding. A panel also ends where
theta is 0, for functions such as |theta|.

Arrays here have the axes [node, side, component, panel, coordinate], or some of them in this order.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre
from ddln._types import Array, Float
from ddln.potentials import AbstractCurve

# Gauss-Legendre nodes of a panel.
NODES = 12
# Panels of equal steps in t, on each side.
STEPS = 16
# Quantiles of z near which panels end, in deviations: beyond the last one the mass is 1e-17.
QUANTILES = np.array([-8.5, -6.5, -4.7, -3.0, -1.5, 0.0, 1.5, 3.0, 4.7, 6.5, 8.5])
# Newton's steps that place a quantile. A panel may end a third of a deviation beside it.
PLACING = 3
# Longest step in t of the search for the length of a side.
LONGEST = 2.0
# Steps that find the zero of theta: the first ones halve the step of the table it lies in.
HALVING, FINDING = 8, 14


class Nodes(eqx.Module):
    """Nodes on both sides of the start, in v, for each component of the signal.

    Attributes:
        v: the nodes; axis 0 runs over the nodes of a panel, outward.
        dv: d v / d x, x in [0, 1] the coordinate of the panel.
        side: 1 where z grows outward, else -1, shape [1, 2, 1, 1, 1].
    """

    v: Float[Array, "node 2 J P K"]
    dv: Float[Array, "node 2 J P K"]
    side: Float[Array, "1 2 1 1 1"]


def over(function: Callable[..., Any], *arrays: Array) -> Any:
    """Apply a function of arrays [K], with one value or several, to arrays [..., K] of one rank."""
    arrays = tuple(jnp.broadcast_arrays(*arrays))
    shape = arrays[0].shape
    values = jax.vmap(function)(*(array.reshape(-1, shape[-1]) for array in arrays))
    return jax.tree.map(lambda rows: rows.reshape(shape), values)


def place_nodes(
    curve: AbstractCurve,
    means: Float[Array, "J K"],
    deviations: Float[Array, "J K"],
    penalty: Float[Array, ""],
    count: int = NODES,
) -> Nodes:
    """Place the nodes for z ~ N(means_jk, deviations_jk^2), theta + penalty xi = z. Not differentiated.

    Args:
        curve: the curves of the starts k.
        means: the mean of z for each component and start.
        deviations: its deviation.
        penalty: gamma.
        count: the number of nodes of a panel.
    """
    curve, means, deviations, penalty = jax.lax.stop_gradient((curve, means, deviations, penalty))
    return _Placement(curve, penalty).nodes(means, deviations, count)


class _Table(eqx.Module):
    """Points at the ends of equal steps on each side, arrays [side, STEPS + 1, coordinate]."""

    v: Array
    z: Array
    log_rate: Array


class _Placement(eqx.Module):
    """The curve z = theta + penalty xi, walked outward from the start on both sides."""

    curve: AbstractCurve
    penalty: Float[Array, ""]

    @property
    def _sides(self) -> Float[Array, "2 1"]:
        return jnp.asarray([[-1], [1]], self.penalty.dtype)

    @property
    def _outward(self) -> Float[Array, "2 K"]:
        """The signs of d t on both sides: theta may decrease with t."""
        return self._sides * jnp.sign(self.curve.slope(self.curve.origin))[None]

    @property
    def _origins(self) -> Float[Array, "2 K"]:
        """The start on both sides."""
        return jnp.broadcast_to(self.curve.origin, (2, self.curve.origin.size))

    def _rate(self, v: Array) -> Array:
        """|d z / d t|, for arrays [K]."""
        curve = self.curve
        metric = curve.metric(v)
        dual = curve.slope(v) * curve.scale(v) / metric
        return jnp.abs(dual) * (metric + self.penalty)

    def _reach(self, low: Float[Array, " K"], high: Float[Array, " K"]) -> Float[Array, "2 K"]:
        """A length of t within which z leaves [low, high], on each side."""
        outward = self._outward
        bound = jnp.stack([-low, high])

        def inside(v, xi):
            z = self._sides * (over(self.curve.at, v) + self.penalty * xi)
            return (z < bound) & jnp.isfinite(z)

        def grow(state):
            v, xi, length, count = state
            dt = jnp.where(inside(v, xi), jnp.minimum(0.5 * length, LONGEST), 0)
            v, change = over(self.curve.move, v, outward * dt)
            return v, xi + change, length + dt, count + 1

        v, xi = over(self.curve.move, self._origins, outward)
        state = (v, xi, jnp.ones_like(outward), jnp.asarray(0))
        return jax.lax.while_loop(
            lambda state: jnp.any(inside(*state[:2])) & (state[3] < 100), grow, state
        )[2]

    def _zero(
        self, v: Float[Array, "2 P K"], step: Float[Array, "2 K"]
    ) -> tuple[Float[Array, "2 K"], Float[Array, "2 K"]]:
        """The distance in t at which theta is 0, and the point there, or the last of the equal steps v."""
        heights = self._sides[..., None] * over(self.curve.at, v)
        passed = jnp.sum(heights <= 0, axis=1)
        index = jnp.clip(passed - 1, 0, STEPS - 1)

        def here(table: Array) -> Array:
            return jnp.take_along_axis(table, index[:, None], axis=1)[:, 0]

        start, outward = here(v), self._outward

        def nearer(count, state):
            low, high = state[:2]
            middle = 0.5 * (low + high)
            offset = jnp.where(count < HALVING, middle, jnp.clip(state[2], low, high))
            there = over(self.curve.advance, start, outward * offset)
            height = self._sides * over(self.curve.at, there)
            low, high = jnp.where(height < 0, offset, low), jnp.where(height < 0, high, offset)
            slope = over(self.curve.slope, there) * over(self.curve.scale, there)
            return low, high, offset - height / jnp.abs(slope)

        first = (jnp.zeros_like(step), step, jnp.zeros_like(step))
        offset = jnp.clip(jax.lax.fori_loop(0, FINDING, nearer, first)[2], 0, step)
        offset = jnp.where((passed > 0) & (here(heights) < 0), offset, 0)
        offset = jnp.where(passed > STEPS, step, offset)
        there = over(self.curve.advance, start, outward * offset)
        return index.astype(step.dtype) * step + offset, there

    def _walk(self, step: Float[Array, "2 K"]) -> _Table:
        """The table of equal steps: each starts from the last one, so that small |v| keep their digits."""

        def move(v, _):
            there, change = over(self.curve.move, v, self._outward * step)
            return there, (there, change)

        origin = self._origins
        _, (v, change) = jax.lax.scan(move, origin, None, length=STEPS)

        def joined(first: Array, rest: Array) -> Array:
            return jnp.moveaxis(jnp.concatenate([first[None], rest]), 0, 1)

        v = joined(origin, v)
        xi = jnp.cumsum(joined(jnp.zeros_like(step), change), axis=1)
        z = self._sides[..., None] * (over(self.curve.at, v) + self.penalty * xi)
        return _Table(v, z, jnp.log(over(self._rate, v)))

    def _quantiles(
        self,
        table: _Table,
        step: Float[Array, "2 K"],
        means: Float[Array, "J K"],
        deviations: Float[Array, "J K"],
    ) -> tuple[Float[Array, "2 J Q K"], Float[Array, "2 J Q K"]]:
        """The distances in t near which z is at its quantiles, and the points v there."""
        sides, outward = self._sides[:, :, None, None], self._outward
        deep = jnp.asarray(QUANTILES, means.dtype)[None, :, None]
        target = sides * (means[:, None] + deep * deviations[:, None])[None]
        passed = jnp.sum(table.z[:, None, None] <= target[..., None, :], axis=-2)
        index = jnp.clip(passed - 1, 0, STEPS - 1)

        def at(leaf, index):
            leaf = jnp.broadcast_to(leaf[:, None], (2, len(means), *leaf.shape[1:]))
            return jnp.take_along_axis(leaf, index, axis=2, mode="promise_in_bounds")

        here = at(table.v, index)
        lengths = jnp.broadcast_to(step[:, None, None], target.shape)
        signs = jnp.broadcast_to(outward[:, None, None], target.shape)
        missing = target - at(table.z, index)

        # Within a step the rate of z is nearly an exponential function of t.
        share = missing / (at(table.z, index + 1) - at(table.z, index))
        growth = at(table.log_rate, index + 1) - at(table.log_rate, index)
        bent = jnp.isfinite(growth) & (jnp.abs(growth) > 1e-3)
        growth = jnp.where(bent, growth, 1)
        share = jnp.clip(share, 0, 1)
        share = jnp.where(bent, jnp.log1p(share * jnp.expm1(growth)) / growth, share)
        theta = over(self.curve.at, here)

        def place(_, state):
            low, high, offset = state
            there, change = over(self.curve.move, here, signs * offset)
            excess = sides * (over(self.curve.at, there) - theta + self.penalty * change) - missing
            low, high = jnp.where(excess < 0, offset, low), jnp.where(excess < 0, high, offset)
            newton = offset - excess / over(self._rate, there)
            good = (newton >= low) & (newton <= high)
            return low, high, jnp.where(good, newton, 0.5 * (low + high))

        state = (jnp.zeros_like(lengths), lengths, share * lengths)
        offset = jax.lax.fori_loop(0, PLACING, place, state)[2]
        offset = jnp.clip(jnp.where(passed > 0, offset, 0), 0, lengths)
        offset = jnp.where(passed > STEPS, lengths, offset)
        placed = over(self.curve.advance, here, signs * offset)
        return index.astype(step.dtype) * lengths + offset, placed

    def nodes(
        self, means: Float[Array, "J K"], deviations: Float[Array, "J K"], count: int
    ) -> Nodes:
        dtype, outward, components = means.dtype, self._outward, len(means)
        spread = QUANTILES[-1] * deviations
        length = self._reach(jnp.min(means - spread, axis=0), jnp.max(means + spread, axis=0))
        step = length / STEPS
        table = self._walk(step)
        distances, placed = self._quantiles(table, step, means, deviations)

        # Panels between all of them, in order outward.
        zero, at_zero = self._zero(table.v, step)
        steps = jnp.arange(STEPS + 1).astype(dtype)[None, :, None] * step[:, None]

        def ends(steps: Array, zero: Array, quantiles: Array) -> Array:
            shared = jnp.concatenate([steps, zero[:, None]], axis=1)[:, None]
            shared = jnp.broadcast_to(shared, (2, components, *shared.shape[2:]))
            return jnp.concatenate([shared, quantiles], axis=2)

        distance, places = jax.lax.sort(
            (ends(steps, zero, distances), ends(table.v, at_zero, placed)), dimension=2, num_keys=1
        )
        dt = outward[:, None, None] * (distance[:, :, 1:] - distance[:, :, :-1])
        x = jnp.asarray(gauss_legendre(count, dtype)[0])[:, None, None, None, None]
        v = over(self.curve.advance, places[None, :, :, :-1], x * dt[None])
        dv = dt[None] * over(self.curve.scale, v)
        return Nodes(v, dv, self._sides[None, :, :, None, None])
