"""Gradient flows through the queue of lanes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Int, PyTree
from ddln.flows import Trajectory
from ddln.flows._segments import SegmentedFlow
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps._batches import in_batches
from ddln.sweeps._fingerprint import describe_function, describe_tree
from ddln.sweeps._initializations import Initializations
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps._queue import WIDTH, drain


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

    def _of(self, initializations: AbstractParameterization) -> Lane:
        starts, progress = eqx.filter_vmap(self.flow.begin)(initializations)
        finished = drain(self.flow, starts, progress)
        arrays, static = eqx.partition(starts, eqx.is_array)

        def lane(row):
            start, progress = row
            return observed(self.flow.finish(eqx.combine(start, static), progress), self.observe)

        return in_batches(lane, (arrays, finished), WIDTH)

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
        def first():
            return self.flow.finish(*self.flow.begin(self.lanes.function(jnp.zeros((), int))))

        return eqx.filter_eval_shape(first)


def weight_count(lanes: Initializations) -> int:
    """How many weights one initialization has."""
    one = eqx.filter_eval_shape(lambda: lanes.function(jnp.zeros((), int)))
    return sum(leaf.size for leaf in jax.tree.leaves(one) if hasattr(leaf, "size"))


def describe_initializations(lanes: Initializations) -> dict[str, Any]:
    index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
    return {"size": lanes.size, **describe_function(lanes.function, index)}
