"""A function of many lanes, a batch at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ddln._types import PyTree


def in_batches(function: Callable[[PyTree], Any], lanes: PyTree, size: int) -> Any:
    """Maps a function of one lane over the leading axis, vmapped over a batch at a time.

    Batches are whole: the last one repeats its last lane. A shorter one would be a second program
    beside the first, and two batched factorizations of jaxlib's CPU backend can wait for each other.

    Args:
        function: of one lane.
        lanes: arrays with a leading axis.
        size: the largest batch.
    """
    count = jax.tree.leaves(lanes)[0].shape[0]
    size = min(size, count)
    if count % size:
        whole = jnp.minimum(jnp.arange(count + -count % size), count - 1)
        lanes = jax.tree.map(lambda leaf: leaf[whole], lanes)
    values = jax.lax.map(function, lanes, batch_size=size)
    return jax.tree.map(lambda leaf: leaf[:count], values)
