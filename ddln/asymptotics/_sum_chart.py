"""Quadrature nodes on the common curve of a sum of terms, whose points have a coordinate for each term.

No coordinate of one term serves everywhere: the term that moves most changes along the curve. The curve is
walked from the start in cells, over which no term moves far, and within a cell the nodes are placed in xi,
of which every term is a smooth function there. Here t counts the cells, with the share of the change of xi
over the cell as its fraction: t is 0 at the start and grows with z. Panels end where cells do.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import gauss_legendre
from ddln._types import Array, Float, Int
from ddln.asymptotics._nodes import NODES, QUANTILES, Chart, Nodes, over
from ddln.potentials import AbstractCurve, SumCurve

# Cells on each side of the start, and the logarithm of the growth of theta over one, at most.
CELLS = 96
GROWTH = 1.2
# The first step in z, and the factor by which steps lengthen while they are below 1.
FIRST, LENGTHENING = 1 / 16, 1.4
# Newton's steps that place a quantile, for which three would do, and the zero of theta.
PLACING = 10


class SumChart(eqx.Module):
    """The common curves of the terms of the starts, in cells.

    Attributes:
        curve: the curves.
        v: the points between the cells, at increasing t, the start in the middle.
        theta: theta there; infinite where the walk has left the range of floats.
        xi: xi there.
        change: the change of xi over a cell.
        step: the step in z of the curve over a cell.
    """

    curve: SumCurve
    v: Any
    theta: Float[Array, "T K"]
    xi: Float[Array, "T K"]
    change: Float[Array, "cell K"]
    step: Float[Array, "cell K"]

    @classmethod
    def of(cls, curve: SumCurve) -> "SumChart":
        """The chart of a curve, not differentiated; it serves for every noise and penalty."""
        curve = jax.lax.stop_gradient(curve)
        side = jnp.ones_like(curve.offset)[None] * jnp.asarray([[-1], [1]], curve.offset.dtype)

        def walk(v: Any, longest: Array) -> tuple[Any, Any]:
            growth = over(curve.steepness, v)
            step = side * jnp.minimum(longest, GROWTH / jnp.maximum(growth, GROWTH))
            there, change = over(curve.move, v, step)
            # Beyond the range of floats the walk stands still.
            usable = jnp.isfinite(over(curve.at, there) + change)
            there = jax.tree.map(lambda new, old: jnp.where(usable, new, old), there, v)
            return there, (there, jnp.where(usable, change, 0), step, usable)

        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, side.shape), curve.origin)
        # The steepness is that of each cell's inner end, and at the start it is 0.
        longest = jnp.asarray(np.minimum(1, FIRST * LENGTHENING ** np.arange(CELLS)), side.dtype)
        outward = jax.lax.scan(walk, start, longest)[1]
        ends, change, step, usable = jax.tree.map(lambda rows: rows.swapaxes(0, 1), outward)

        def joined(rows: Array, middle: Array) -> Array:
            return jnp.concatenate([rows[0, ::-1], middle[None], rows[1]])

        v = jax.tree.map(joined, ends, curve.origin)
        inside = joined(usable, jnp.ones_like(usable[0, 0]))
        t = jnp.asarray(_t(), side.dtype)[:, None]
        return cls(
            curve,
            v,
            theta=jnp.where(inside, over(curve.at, v), jnp.sign(t) * jnp.inf),
            xi=joined(jnp.cumsum(change, axis=1), jnp.zeros_like(change[0, 0])),
            change=jnp.concatenate([change[0, ::-1], change[1]]),
            step=jnp.concatenate([step[0, ::-1], step[1]]),
        )

    def panels(
        self,
        means: Float[Array, "J K"],
        deviations: Float[Array, "J K"],
        penalty: Float[Array, ""],
    ) -> Float[Array, "J E K"]:
        """The ends of the panels in t, as `Chart.panels`."""
        means, deviations, penalty = jax.lax.stop_gradient((means, deviations, penalty))
        deep = jnp.asarray(QUANTILES, means.dtype)[None, :, None]
        targets = means[:, None] + deep * deviations[:, None]
        low, high = jnp.min(targets[:, 0], axis=0), jnp.max(targets[:, -1], axis=0)
        z = self.theta + penalty * self.xi
        t = jnp.asarray(_t(), means.dtype)[:, None]
        first = jnp.max(jnp.where((t < 0) & (z <= low[None]), t, t[:1]), axis=0)
        last = jnp.min(jnp.where((t > 0) & (z >= high[None]), t, t[-1:]), axis=0)
        ends = jnp.broadcast_to(t[None], (len(means), *z.shape))
        # Where z is at the quantiles, and where theta alone is 0.
        targets = jnp.concatenate([targets, jnp.zeros_like(targets[:, :1])], axis=1)
        ends = jnp.concatenate([ends, self._placed(targets, penalty)], axis=1)
        return jnp.sort(jnp.clip(ends, first[None, None], last[None, None]), axis=1)

    def _placed(
        self, targets: Float[Array, "J Q K"], penalty: Float[Array, ""]
    ) -> Float[Array, "J Q K"]:
        """The t at which z is at the targets; for the last one, at which theta is."""
        weight = np.append(np.ones(targets.shape[1] - 1), 0)
        weight = penalty * jnp.asarray(weight, targets.dtype)[None, :, None]
        weight = jnp.broadcast_to(weight, targets.shape)
        theta, xi = self.theta[:, None, None], self.xi[:, None, None]
        passed = jnp.sum(theta + weight[None] * xi <= targets[None], axis=0)
        cell = jnp.clip(passed - 1, 0, 2 * CELLS - 1)
        v, theta, xi, change, step = self._inner(cell)
        missing = targets - theta - weight * xi

        def place(_, state):
            low, high, share = state
            there = over(self.curve.follow, v, share * change, step)
            excess = over(self.curve.at, there) - theta + weight * share * change - missing
            # In shares of the cell, outward.
            excess = excess / ((over(self.curve.metric, there) + weight) * change)
            low, high = jnp.where(excess < 0, share, low), jnp.where(excess < 0, high, share)
            newton = share - excess
            good = (newton >= low) & (newton <= high)
            return low, high, jnp.where(good, newton, 0.5 * (low + high))

        ends = jnp.zeros_like(missing), jnp.ones_like(missing)
        share = jax.lax.fori_loop(0, PLACING, place, (*ends, ends[1]))[2]
        return self._t_of(cell, share)

    def nodes(self, panels: Float[Array, "J E K"], count: int = NODES) -> Nodes:
        """The nodes of the panels, `count` on each, not differentiated."""
        panels = jax.lax.stop_gradient(panels)
        begin, length = panels[:, :-1], jnp.diff(panels, axis=1)
        x = jnp.asarray(gauss_legendre(count, panels.dtype)[0])[:, None, None, None]
        cell = jnp.floor(begin + 0.5 * length).astype(jnp.int32) + CELLS
        cell = jnp.clip(cell, 0, 2 * CELLS - 1)
        v, _, xi, of_cell, step = self._inner(cell)
        share = jnp.abs(begin[None] + x * length[None] - self._t_of(cell, 0)[None])
        change = share * of_cell[None]

        def everywhere(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf[None], change.shape)

        there = over(self.curve.follow, jax.tree.map(everywhere, v), change, everywhere(step))
        over_panel = everywhere(length * jnp.abs(of_cell))
        return Nodes(there, over_panel, begin >= 0, xi[None] + change)

    def _inner(self, cell: Int[Array, "J Q K"]) -> tuple[Any, Array, Array, Array, Array]:
        """v, theta and xi at the inner end of cells, and the change of xi and the step outward."""

        def at(index: Array, rows: Array) -> Array:
            rows = jnp.broadcast_to(rows[None], (len(index), *rows.shape))
            return jnp.take_along_axis(rows, index, axis=1, mode="promise_in_bounds")

        end = jnp.where(cell < CELLS, cell + 1, cell)
        v = jax.tree.map(lambda leaf: at(end, leaf), self.v)
        return v, at(end, self.theta), at(end, self.xi), at(cell, self.change), at(cell, self.step)

    def _t_of(self, cell: Int[Array, "J Q K"], share: Any) -> Float[Array, "J Q K"]:
        """t at a share of cells, from the inner end."""
        end = jnp.where(cell < CELLS, cell + 1, cell) - CELLS
        return end.astype(self.xi.dtype) + jnp.where(cell < CELLS, -share, share)


def chart_of(curve: AbstractCurve) -> "Chart | SumChart":
    """The chart of a curve."""
    return SumChart.of(curve) if isinstance(curve, SumCurve) else Chart.of(curve)


def _t() -> np.ndarray:
    return np.arange(-CELLS, CELLS + 1)
