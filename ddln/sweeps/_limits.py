"""Limits from many initializations: the sweep to t = infinity."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Int, PyTree
from ddln.engine.internal import per_lane_values, with_values, without_values
from ddln.limits import Limit, limit
from ddln.sweeps._batches import in_batches
from ddln.sweeps._initializations import Initializations, LaneData, describe_loss
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps.store import describe_function, describe_tree


class LimitLanes(AbstractLanes):
    """The limit of the flow from each initialization.

    Attributes:
        data: the start and the per-lane values of each lane.
        loss: the loss, with places for the per-lane values.
        weight_decay: a number, a place for one, or None.
        observe: from a limit to the values that are kept.
        batch: how many of them at once.
    """

    data: LaneData
    loss: Any
    weight_decay: Any
    observe: Callable[[Any], Any] | None
    batch: int = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        starts: Initializations,
        loss: Any,
        weight_decay: Any,
        observe: Callable | None,
        batch: int,
    ) -> "LimitLanes":
        """The lanes of a sweep whose loss and weight decay may have `PerLane` values."""
        data = LaneData(starts, tuple(per_lane_values((loss, weight_decay))))
        return cls(data, *without_values((loss, weight_decay)), observe, batch)

    @property
    def size(self) -> int:
        return self.data.size

    def compute(self, indices: Int[Array, " lanes"]) -> Lane:
        return self._of(eqx.filter_vmap(self.data.take)(indices))

    def rows(self) -> PyTree[Array]:
        return self.data.rows()

    def of_rows(self, rows: PyTree[Array]) -> Lane:
        return self._of(eqx.filter_vmap(self.data.of_row)(rows))

    def _of(self, lanes: PyTree) -> Lane:
        arrays, static = eqx.partition(lanes, eqx.is_array)
        return in_batches(lambda lane: self._lane(*eqx.combine(lane, static)), arrays, self.batch)

    def one(self) -> Lane:
        return eqx.filter_eval_shape(lambda: self._lane(*self.data.first()))

    def weights(self) -> int:
        return self.data.numbers()

    def describe(self) -> dict[str, Any]:
        end = eqx.filter_eval_shape(lambda: self._limit(*self.data.first()))
        described = {
            **self.data.describe(),
            "loss": describe_loss(self.loss, end.theta),
            "method": "limit",
            "dtype": str(end.theta.dtype),
        }
        if self.weight_decay is not None:
            described |= describe_tree({"weight_decay": self.weight_decay})
        if self.observe is not None:
            described["observe"] = describe_function(self.observe, end)
        return described

    def _limit(self, start: Any, values: tuple[PyTree, ...]) -> Limit:
        loss, decay = with_values((self.loss, self.weight_decay), values)
        return limit(start, loss, weight_decay=decay, throw=False)

    def _lane(self, start: Any, values: tuple[PyTree, ...]) -> Lane:
        end = self._limit(start, values)
        loss, _ = with_values((self.loss, self.weight_decay), values)
        return Lane.make(
            ts=jnp.full((1,), jnp.inf),
            theta=end.theta[None] if self.observe is None else None,
            loss=loss(end.theta)[None],
            result=end.result,
            stats=end.stats,
            values=None if self.observe is None else self.observe(end),
            method="limit",
        )
