"""Gradient flows through the queue of lanes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Int, PyTree
from ddln.flows import Trajectory
from ddln.flows._adjoint import before
from ddln.flows._queue import WIDTH, drain
from ddln.flows._recorded import drain_recorded, record_bytes
from ddln.flows._segments import Progress, SegmentedFlow, Start
from ddln.flows._setup import choose_solver
from ddln.parameterizations import AbstractParameterization
from ddln.solvers import AbstractRosenbrock
from ddln.sweeps._batches import in_batches
from ddln.sweeps._initializations import Initializations
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps.store import describe_function, describe_tree


def observed(trajectory: Trajectory, observe: Callable[[Any], Any] | None) -> Lane:
    """What a sweep keeps of a trajectory."""
    return Lane.make(
        ts=trajectory.ts,
        theta=trajectory.theta if observe is None else None,
        loss=trajectory.loss,
        result=trajectory.result,
        stats=trajectory.stats,
        values=None if observe is None else observe(trajectory),
        method=trajectory.method,
    )


class FlowLanes(AbstractLanes):
    """The gradient flow from each initialization."""

    lanes: Initializations
    flow: SegmentedFlow
    observe: Callable[[Any], Any] | None

    @property
    def size(self) -> int:
        return self.lanes.size

    def compute(self, indices: Int[Array, " lanes"]) -> Lane:
        return self._of(self.lanes.take(indices))

    def rows(self) -> PyTree[Array]:
        return self.lanes.rows()

    def of_rows(self, rows: PyTree[Array]) -> Lane:
        return self._of(eqx.filter_vmap(self.lanes.of_row)(rows))

    def of_rows_recorded(self, rows: PyTree[Array]) -> Lane:
        """`of_rows` with steps that are recorded, for reverse mode through a solver without a state."""

        def begin(row):
            weights, rest = eqx.partition(self.lanes.of_row(row), eqx.is_inexact_array)
            refused = self.flow.begin(eqx.combine(jax.lax.stop_gradient(weights), rest))
            okay = refused[0].startable
            # A lane that cannot start has the derivative zero, not NaN times zero.
            weights = jax.tree.map(lambda leaf: jnp.where(okay, leaf, 1), weights)
            start, progress = self.flow.begin(eqx.combine(weights, rest))
            progress = eqx.tree_at(lambda p: p.running, progress, progress.running & okay)
            return okay, (start, progress), refused

        okay, (starts, progress), refused = eqx.filter_vmap(begin)(rows)
        # Forward mode through it is an error.
        flow, starts, progress = before(None, self.flow.solver, (self.flow, starts, progress))
        found = self._finished(starts, drain_recorded(flow, starts, progress))
        return jax.tree.map(
            lambda a, b: jnp.where(jnp.expand_dims(okay, range(1, a.ndim)), a, b),
            found,
            jax.lax.stop_gradient(self._finished(*refused)),
        )

    def record_bytes(self) -> int | None:
        """The memory that the record of one lane takes; None for a solver that keeps a state."""
        start, progress = eqx.filter_eval_shape(self._first)
        solver, _ = choose_solver(start.space, self.flow.loss, self.flow.solver, reverse=False)
        if not isinstance(solver, AbstractRosenbrock):
            return None
        return record_bytes(progress.state, self.flow.max_steps)

    def _of(self, initializations: AbstractParameterization) -> Lane:
        starts, progress = eqx.filter_vmap(self.flow.begin)(initializations)
        arrays, static = eqx.partition(starts, eqx.is_array)

        def advance(row, progress):
            return self.flow.step(eqx.combine(row, static), progress), None

        ended, _ = drain(advance, arrays, progress)
        return self._finished(starts, ended)

    def _finished(self, starts: Start, ended: Progress) -> Lane:
        arrays, static = eqx.partition(starts, eqx.is_array)

        def lane(row):
            start, progress = row
            return observed(self.flow.finish(eqx.combine(start, static), progress), self.observe)

        if self.observe is None:
            return jax.vmap(lane)((arrays, ended))
        # A few at a time, for what it takes to observe them.
        return in_batches(lane, (arrays, ended), WIDTH)

    def one(self) -> Lane:
        return eqx.filter_eval_shape(observed, self._trajectory(), self.observe)

    def weights(self) -> int:
        times = 1 if self.flow.ts is None else len(self.flow.ts)
        return times * weight_count(self.lanes)

    def describe(self) -> dict[str, Any]:
        trajectory = self._trajectory()
        theta = jax.ShapeDtypeStruct(trajectory.theta.shape[1:], trajectory.theta.dtype)
        described = {
            "initializations": describe_initializations(self.lanes),
            "loss": describe_function(self.flow.loss, theta),
            "method": trajectory.method,
            "dtype": str(theta.dtype),
            **describe_tree(self.flow, without=("loss",)),
        }
        if self.observe is not None:
            described["observe"] = describe_function(self.observe, trajectory)
        return described

    def _trajectory(self) -> Trajectory:
        return eqx.filter_eval_shape(lambda: self.flow.finish(*self._first()))

    def _first(self) -> tuple[Start, Progress]:
        return self.flow.begin(self.lanes.function(jnp.zeros((), int)))


def weight_count(lanes: Initializations) -> int:
    """How many weights one initialization has."""
    one = eqx.filter_eval_shape(lambda: lanes.function(jnp.zeros((), int)))
    return sum(leaf.size for leaf in jax.tree.leaves(one) if hasattr(leaf, "size"))


def describe_initializations(lanes: Initializations) -> dict[str, Any]:
    index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
    return {"size": lanes.size, **describe_function(lanes.function, index)}
