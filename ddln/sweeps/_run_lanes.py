"""Any runs that make a trajectory, vmapped."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Int
from ddln.flows import MirrorTrajectory, Trajectory
from ddln.sweeps._flow_lanes import observed
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps.store import describe_function


class RunLanes(AbstractLanes):
    """`run(index)` for each index."""

    run: Callable[[Int[Array, ""]], Trajectory | MirrorTrajectory]
    count: int = eqx.field(static=True)
    observe: Callable[[Any], Any] | None

    @property
    def size(self) -> int:
        return self.count

    def compute(self, indices: Int[Array, " lanes"]) -> Lane:
        return eqx.filter_vmap(lambda index: observed(self.run(index), self.observe))(indices)

    def rows(self) -> Int[Array, " lanes"]:
        return jnp.arange(self.count)

    def of_rows(self, rows: Int[Array, " lanes"]) -> Lane:
        return self.compute(rows)

    def one(self) -> Lane:
        return eqx.filter_eval_shape(observed, self._trajectory(), self.observe)

    def weights(self) -> int:
        trajectory = self._trajectory()
        leaves = jax.tree.leaves(getattr(trajectory, "parameterization", trajectory.theta))
        return sum(leaf.size for leaf in leaves if hasattr(leaf, "size"))

    def describe(self) -> dict[str, Any]:
        trajectory = self._trajectory()
        index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
        described = {
            "run": {"size": self.count, **describe_function(self.run, index)},
            "method": trajectory.method,
            "dtype": str(trajectory.theta.dtype),
        }
        if self.observe is not None:
            described["observe"] = describe_function(self.observe, trajectory)
        return described

    def _trajectory(self) -> Trajectory | MirrorTrajectory:
        trajectory = eqx.filter_eval_shape(lambda: self.run(jnp.zeros((), int)))
        if not isinstance(trajectory, Trajectory | MirrorTrajectory):
            raise ValueError(
                "Argument `run` must return a `ddln.Trajectory`, but it returns a "
                f"{type(trajectory).__name__}."
            )
        return trajectory
