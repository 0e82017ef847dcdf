"""Limits from many initializations: the sweep to t = infinity."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Int, Loss
from ddln.limits import limit
from ddln.sweeps._batches import in_batches
from ddln.sweeps._initializations import Initializations

# Lanes of one batch wait for each other; this many keep the cost of a step low.
BATCH = 16


def chunk_of_limits(
    lanes: Initializations,
    indices: Int[Array, " lanes"],
    loss: Loss,
    observe: Callable | None,
) -> dict[str, Any]:
    """The fields of a `SweepResult` for some lanes, stacked."""
    weights, static = eqx.partition(lanes.take(indices), eqx.is_array)

    def lane(weights):
        end = limit(eqx.combine(weights, static), loss, throw=False)
        return {
            "ts": jnp.full((1,), jnp.inf),
            "theta": end.theta[None] if observe is None else None,
            "loss": loss(end.theta)[None],
            "result": end.result,
            "stats": end.stats,
            "values": None if observe is None else observe(end),
        }

    return in_batches(lane, weights, BATCH)
