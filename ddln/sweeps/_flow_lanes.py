"""Lanes of a sweep: flows through the queue, and dynamics with fixed steps side by side."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import all_finite
from ddln._types import Array, Int, PyTree
from ddln.engine import AbstractDynamics, AbstractFixedSteps, Solve, integrate
from ddln.engine.internal import (
    FlowStepper,
    StepperInputs,
    StepperState,
    chosen_solver,
    forbid_forward,
    integrate_all,
    integrate_all_recorded,
    is_recordable,
    per_lane_values,
    record_bytes,
    with_values,
    without_values,
)
from ddln.sweeps._batches import in_batches
from ddln.sweeps._initializations import Initializations, LaneData, describe_loss
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps._widths import Widths
from ddln.sweeps.store import describe_function, describe_tree

Observe = Callable[[Any], Any] | None


def observed(trajectory: Any, observe: Observe) -> Lane:
    """The part of a trajectory that a sweep keeps."""
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
    """An integration from each initialization, through the queue of lanes.

    Attributes:
        data: the start and the per-lane values of each lane.
        stepper: the dynamics, the loss and the settings, with places for the per-lane values.
        observe: from a trajectory to the values that are kept.
        widths: how many of them at once.
    """

    data: LaneData
    stepper: FlowStepper
    observe: Observe
    widths: Widths = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        starts: Initializations,
        dynamics: AbstractDynamics,
        loss: Any,
        solve: Solve,
        observe: Observe,
        widths: Widths,
    ) -> "FlowLanes":
        """The lanes of a sweep whose dynamics, loss and settings may have `PerLane` values."""
        stepper = FlowStepper(dynamics, loss, solve)
        data = LaneData(starts, tuple(per_lane_values(stepper)))
        return cls(data, without_values(stepper), observe, widths)

    @property
    def size(self) -> int:
        return self.data.size

    def compute(self, indices: Int[Array, " lanes"]) -> Lane:
        return self._of(lambda index: self.stepper.begin(*self.data.take(index)), indices)

    def rows(self) -> PyTree[Array]:
        return self.data.rows()

    def of_rows(self, rows: PyTree[Array]) -> Lane:
        return self._of(lambda row: self.stepper.begin(*self.data.of_row(row)), rows)

    def of_rows_recorded(self, rows: PyTree[Array]) -> Lane:
        """`of_rows` through the recorded adjoint, for reverse mode by a recordable solver."""

        def begin(row):
            numbers, rest = eqx.partition(self.data.of_row(row), eqx.is_inexact_array)
            refused = self.stepper.begin(*eqx.combine(jax.lax.stop_gradient(numbers), rest))
            okay = refused[0].startable
            # A lane that cannot start has the derivative zero, not NaN times zero.
            numbers = jax.tree.map(lambda leaf: jnp.where(okay, leaf, 1), numbers)
            inputs, progress = self.stepper.begin(*eqx.combine(numbers, rest))
            progress = eqx.tree_at(lambda p: p.running, progress, progress.running & okay)
            return okay, (inputs, progress), refused

        okay, (inputs, progress), refused = eqx.filter_vmap(begin)(rows)
        # Forward mode through it is an error.
        guarded = forbid_forward(None, self.stepper.solve.solver, (self.stepper, inputs, progress))
        stepper, inputs, progress = guarded
        found = self._finished(
            inputs, integrate_all_recorded(stepper, inputs, progress, self.widths.queue)
        )
        return jax.tree.map(
            lambda a, b: jnp.where(jnp.expand_dims(okay, range(1, a.ndim)), a, b),
            found,
            jax.lax.stop_gradient(self._finished(*refused)),
        )

    def record_bytes(self) -> int | None:
        """The memory that the record of one lane takes; None for a solver with memory."""

        def first():
            inputs, progress = self._first()
            lane = self.stepper.with_values(inputs.values)
            solver = lane.solve.solver
            return progress.state, chosen_solver(
                lane.dynamics, inputs.states, lane.loss, solver, reverse=False
            )

        state, solver = eqx.filter_eval_shape(first)
        if not is_recordable(solver):
            return None
        return record_bytes(state, self.stepper.solve.max_steps)

    def vmapped(self, adjoint: diffrax.AbstractAdjoint | None, rows: PyTree) -> Lane:
        """The same lanes, each by itself, as they are differentiated by an adjoint of diffrax."""

        def one(row):
            numbers, rest = eqx.partition(self.data.of_row(row), eqx.is_inexact_array)
            finite = all_finite(numbers)
            # A lane that cannot start has the derivative zero, not NaN times zero.
            numbers = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 1), numbers)
            start, values = eqx.combine(numbers, rest)
            lane = self.stepper.with_values(values)
            solve = eqx.tree_at(
                lambda s: s.adjoint, lane.solve, adjoint, is_leaf=lambda leaf: leaf is None
            )
            trajectory = integrate(lane.dynamics, start, lane.loss, solve, throw=False)
            return observed(trajectory, self.observe)

        return eqx.filter_vmap(one)(rows)

    def _of(self, begin: Callable, rows: PyTree[Array]) -> Lane:
        inputs, progress = eqx.filter_vmap(begin)(rows)
        arrays, static = eqx.partition(inputs, eqx.is_array)

        def advance(row, progress):
            return self.stepper.step(eqx.combine(row, static), progress), None

        ended, _ = integrate_all(advance, arrays, progress, self.widths.queue)
        return self._finished(inputs, ended)

    def _finished(self, inputs: StepperInputs, ended: StepperState) -> Lane:
        arrays, static = eqx.partition(inputs, eqx.is_array)

        def lane(row):
            inputs, progress = row
            trajectory = self.stepper.finish(eqx.combine(inputs, static), progress)
            return observed(trajectory, self.observe)

        if self.observe is None:
            return jax.vmap(lane)((arrays, ended))
        # A few at a time, for the memory that observing them takes.
        return in_batches(lane, (arrays, ended), self.widths.observed)

    def one(self) -> Lane:
        return eqx.filter_eval_shape(observed, self._trajectory(), self.observe)

    def weights(self) -> int:
        rows = 1 if self.stepper.solve.ts is None else self._trajectory().ts.shape[0]
        return rows * self.data.numbers()

    def describe(self) -> dict[str, Any]:
        trajectory = self._trajectory()
        theta = jax.ShapeDtypeStruct(trajectory.theta.shape[1:], trajectory.theta.dtype)
        described = {
            **self.data.describe(),
            "loss": describe_loss(self.stepper.loss, theta),
            "dynamics": type(self.stepper.dynamics).__name__,
            "method": trajectory.method,
            "dtype": str(theta.dtype),
            **describe_tree(self.stepper.solve, without=("adjoint",)),
            **describe_tree(self.stepper.dynamics),
        }
        if self.observe is not None:
            described["observe"] = describe_function(self.observe, trajectory)
        return described

    def _trajectory(self) -> Any:
        return eqx.filter_eval_shape(lambda: self.stepper.finish(*self._first()))

    def _first(self) -> tuple[StepperInputs, StepperState]:
        return self.stepper.begin(*self.data.first())


class FixedStepRun(eqx.Module):
    """The run of a dynamics with fixed steps in one lane, by its index."""

    data: LaneData
    experiment: tuple[AbstractFixedSteps, Any, Solve]

    @classmethod
    def of(
        cls, starts: Initializations, dynamics: AbstractFixedSteps, loss: Any, solve: Solve
    ) -> "FixedStepRun":
        """The runs of a sweep whose dynamics, loss and settings may have `PerLane` values."""
        experiment = dynamics, loss, solve
        data = LaneData(starts, tuple(per_lane_values(experiment)))
        return cls(data, without_values(experiment))

    def __call__(self, index: Int[Array, ""]) -> Any:
        start, values = self.data.take(index)
        dynamics, loss, solve = self.experiment
        # Before the values are filled in: a key that differs between lanes already stays.
        experiment = dynamics.for_lane(index), loss, solve
        dynamics, loss, solve = with_values(experiment, values)
        return dynamics.run(start, loss, solve)
