"""Limits from many initializations: the sweep to t = infinity."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Int, Loss, PyTree
from ddln.limits import Limit, limit
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps._batches import in_batches
from ddln.sweeps._flow_lanes import describe_initializations, weight_count
from ddln.sweeps._initializations import Initializations
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps.store import describe_function

# Lanes of one batch wait for each other; this many keep the cost of a step low.
BATCH = 16


class LimitLanes(AbstractLanes):
    """The limit of the flow from each initialization."""

    lanes: Initializations
    loss: Loss
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
        weights, static = eqx.partition(initializations, eqx.is_array)
        return in_batches(lambda lane: self._lane(eqx.combine(lane, static)), weights, BATCH)

    def one(self) -> Lane:
        return eqx.filter_eval_shape(lambda: self._lane(self._first()))

    def weights(self) -> int:
        return weight_count(self.lanes)

    def describe(self) -> dict[str, Any]:
        end = eqx.filter_eval_shape(lambda: self._limit(self._first()))
        described = {
            "initializations": describe_initializations(self.lanes),
            "loss": describe_function(self.loss, end.theta),
            "method": "limit",
            "dtype": str(end.theta.dtype),
        }
        if self.observe is not None:
            described["observe"] = describe_function(self.observe, end)
        return described

    def _first(self):
        return self.lanes.function(jnp.zeros((), int))

    def _limit(self, parameterization) -> Limit:
        return limit(parameterization, self.loss, throw=False)

    def _lane(self, parameterization) -> Lane:
        end = self._limit(parameterization)
        return Lane.make(
            ts=jnp.full((1,), jnp.inf),
            theta=end.theta[None] if self.observe is None else None,
            loss=self.loss(end.theta)[None],
            result=end.result,
            stats=end.stats,
            values=None if self.observe is None else self.observe(end),
            method="limit",
        )
