"""Quadrature nodes on the curve of a mirror flow, for expectations over a Gaussian z.

The state evolution needs expectations of functions of theta, where theta + gamma xi = z and z is normal.
As functions of z they have kinks for small starts. As functions of the curve's own coordinate t (the one in
which theta and xi change mildly, d v / d t = `scale`) they are analytic in |Im t| < pi/2 or so, whatever the
scale of the start. So the integral is taken over t, and nothing is solved at the nodes:

    E f = int f(t) phi(z(t)) (d z / d t) dt,      z(t) = theta(t) + gamma xi(t).

Each side of the start is cut into panels at equal steps of t and at quantiles of z: on a panel neither t nor
z, in units of its deviation, moves far, and Gauss-Legendre nodes are at rounding. A panel also ends where
theta is 0, for functions such as |theta|.

Arrays here have the axes [node, side, component, panel, coordinate], or some of them in this order.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float
from ddln.potentials import AbstractCurve

# Gauss-Legendre nodes of a panel.
NODES = 12
# Panels of equal steps in t, on each side.
STEPS = 16
# Quantiles of z at which panels end, in deviations: beyond the last one the mass is 1e-17.
QUANTILES = np.array([-8.5, -6.5, -4.7, -3.0, -1.5, 0.0, 1.5, 3.0, 4.7, 6.5, 8.5])
# Nodes for the integrals of xi that only place panels.
FEW = 4
# Newton's steps that place a quantile.
PLACING = 7
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


def over(function: Callable[..., Array], *arrays: Array) -> Array:
    """Apply a function of one array [K], or of several, to arrays [..., K]."""
    arrays = tuple(jnp.broadcast_arrays(*arrays))
    rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
    return jax.vmap(function)(*rows).reshape(arrays[0].shape)


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


class _Placement(eqx.Module):
    """The curve z = theta + penalty xi, walked outward from the start on both sides."""

    curve: AbstractCurve
    penalty: Float[Array, ""]

    @property
    def _sides(self) -> Float[Array, "2 1"]:
        return jnp.asarray([[-1], [1]], self.curve.origin.dtype)

    @property
    def _outward(self) -> Float[Array, "2 K"]:
        """The signs of d t on both sides: theta may decrease with t."""
        return self._sides * jnp.sign(self.curve.slope(self.curve.origin))[None]

    def _rate(self, v: Array) -> Array:
        """d xi / d t."""
        curve = self.curve
        return curve.slope(v) * curve.scale(v) / curve.metric(v)

    def _moved(self, v: Array, dt: Array) -> tuple[Array, Array]:
        """v after a step in t, and the change of xi, for arrays of one shape [..., K]."""
        nodes, weights = gauss_legendre(FEW, v.dtype)
        shape = (FEW,) + (1,) * v.ndim
        inner = over(self.curve.advance, v[None], jnp.asarray(nodes).reshape(shape) * dt[None])
        mean = product(jnp.asarray(weights), over(self._rate, inner))
        return over(self.curve.advance, v, dt), dt * mean

    def _z(self, v: Array, xi: Array) -> Array:
        return over(self.curve.at, v) + self.penalty * xi

    def _reach(self, low: Float[Array, " K"], high: Float[Array, " K"]) -> Float[Array, "2 K"]:
        """A length of t within which z leaves [low, high], on each side."""
        outward = self._outward
        bound = jnp.stack([-low, high])
        origin = jnp.broadcast_to(self.curve.origin, outward.shape)
        length = jnp.ones_like(outward)

        def inside(v, xi):
            z = self._sides * self._z(v, xi)
            return (z < bound) & jnp.isfinite(z)

        def grow(state):
            v, xi, length, count = state
            within = inside(v, xi)
            dt = jnp.where(within, 0.5 * length, 0)
            v, change = self._moved(v, outward * dt)
            return v, xi + change, length + dt, count + 1

        v, xi = self._moved(origin, outward)
        state = (v, xi, length, jnp.asarray(0))
        return jax.lax.while_loop(
            lambda state: jnp.any(inside(*state[:2])) & (state[3] < 100), grow, state
        )[2]

    def _zero(self, v: Float[Array, "2 P K"], step: Float[Array, "2 K"]) -> Float[Array, "2 K"]:
        """The distance in t at which theta is 0, at most that of the last of the equal steps v."""
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
        return index.astype(step.dtype) * step + offset

    def nodes(
        self, means: Float[Array, "J K"], deviations: Float[Array, "J K"], count: int
    ) -> Nodes:
        dtype, outward = means.dtype, self._outward
        spread = QUANTILES[-1] * deviations
        length = self._reach(jnp.min(means - spread, axis=0), jnp.max(means + spread, axis=0))
        step = length / STEPS

        # Equal steps: v and xi at their ends, axes [side, panel, coordinate].
        def walk(v, _):
            there, change = self._moved(v, outward * step)
            return there, (there, change)

        origin = jnp.broadcast_to(self.curve.origin, outward.shape)
        _, (v, change) = jax.lax.scan(walk, origin, None, length=STEPS)
        v = jnp.moveaxis(jnp.concatenate([origin[None], v]), 0, 1)
        xi = jnp.cumsum(jnp.concatenate([jnp.zeros_like(origin)[None], change]), axis=0)
        xi = jnp.moveaxis(xi, 0, 1)
        z = self._sides[..., None] * self._z(v, xi)

        # Quantiles of z: the step in which each lies, and Newton's method for the place within it.
        deep = jnp.asarray(QUANTILES, dtype)[None, :, None]
        quantiles = means[:, None] + deep * deviations[:, None]
        target = self._sides[:, :, None, None] * quantiles[None]
        passed = jnp.sum(z[:, None, None] <= target[..., None, :], axis=-2)
        index = jnp.clip(passed - 1, 0, STEPS - 1)

        def at(table, index):
            table = jnp.broadcast_to(table[:, None], (2, len(means), *table.shape[1:]))
            return jnp.take_along_axis(table, index, axis=2, mode="promise_in_bounds")

        here, missing = at(v, index), target - at(z, index)
        lengths = jnp.broadcast_to(step[:, None, None], here.shape)
        signs = jnp.broadcast_to(outward[:, None, None], here.shape)
        sides = self._sides[:, :, None, None]
        share = missing / (at(z, index + 1) - at(z, index))
        theta = over(self.curve.at, here)

        def place(_, state):
            low, high, offset = state
            there, change = self._moved(here, signs * offset)
            excess = sides * (over(self.curve.at, there) - theta + self.penalty * change) - missing
            low, high = jnp.where(excess < 0, offset, low), jnp.where(excess < 0, high, offset)
            metric = over(self.curve.metric, there)
            slope = sides * signs * over(self._rate, there) * (metric + self.penalty)
            newton = offset - excess / slope
            good = (newton > low) & (newton < high)
            return low, high, jnp.where(good, newton, 0.5 * (low + high))

        start = jnp.clip(share, 0, 1) * lengths
        state = (jnp.zeros_like(start), lengths, start)
        offset = jax.lax.fori_loop(0, PLACING, place, state)[2]
        offset = jnp.clip(jnp.where(passed > 0, offset, 0), 0, lengths)
        offset = jnp.where(passed > STEPS, lengths, offset)
        placed = over(self.curve.advance, here, signs * offset)

        # Panels between all of them, in order outward.
        zero = self._zero(v, step)
        steps = jnp.arange(STEPS + 1).astype(dtype)[None, :, None] * step[:, None]
        steps = jnp.concatenate([steps, zero[:, None]], axis=1)
        v = jnp.concatenate([v, over(self.curve.advance, origin, outward * zero)[:, None]], axis=1)
        shape = (2, len(means), *steps.shape[1:])
        ends = jnp.concatenate(
            [jnp.broadcast_to(steps[:, None], shape), index.astype(dtype) * lengths + offset],
            axis=2,
        )
        places = jnp.concatenate([jnp.broadcast_to(v[:, None], shape), placed], axis=2)
        ends, places = jax.lax.sort((ends, places), dimension=2, num_keys=1)
        dt = outward[:, None, None] * (ends[:, :, 1:] - ends[:, :, :-1])
        x = jnp.asarray(gauss_legendre(count, dtype)[0])
        v = over(
            self.curve.advance,
            places[None, :, :, :-1],
            x[:, None, None, None, None] * dt[None],
        )
        return Nodes(v, dt[None] * over(self.curve.scale, v), self._sides[None, :, :, None, None])
