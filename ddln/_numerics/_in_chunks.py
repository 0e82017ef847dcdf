"""Functions whose `jax.vmap` takes some lanes at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def in_chunks(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """The function, which under `jax.vmap` runs `size` lanes after another, all axes merged into one.

    For a `while_loop` whose lanes end at different times: a chunk waits for its own slowest lane alone, and
    its arrays stay in the cache. Arguments and values are trees of arrays; none carries a derivative.
    """

    @custom_vmap
    def lane(*args):
        return function(*args)

    @custom_vmap
    def lanes(*args):
        count = len(jax.tree.leaves(args)[0])
        if count <= size:
            return jax.vmap(function)(*args)
        chunks = -(-count // size)
        length = -(-count // chunks)
        # Copies of the last lane fill the last chunk: one program for all chunks.
        index = jnp.minimum(jnp.arange(chunks * length), count - 1).reshape(chunks, length)
        rows = jax.tree.map(lambda leaf: leaf[index], args)
        found = jax.lax.map(lambda row: jax.vmap(function)(*row), rows)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)

    @lane.def_vmap
    def _(count, batched, *args):
        found = lanes(*_along_an_axis(count, batched, args))
        return found, jax.tree.map(lambda _: True, found)

    @lanes.def_vmap
    def _(count, batched, *args):
        args = _along_an_axis(count, batched, args)
        merged = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), args)
        found = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), lanes(*merged))
        return found, jax.tree.map(lambda _: True, found)

    return lane


def _along_an_axis(count: int, batched: Any, args: Any) -> Any:
    """The arguments with a leading axis, those that all lanes share repeated."""

    def repeated(given, leaf):
        return leaf if given else jnp.broadcast_to(leaf[None], (count, *leaf.shape))

    return jax.tree.map(repeated, tuple(batched), args)
