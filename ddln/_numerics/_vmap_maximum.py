"""A maximum over the axes of `jax.vmap`."""

import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ddln._types import Array


@custom_vmap
def max_over_vmap(value: Array) -> Array:
    """Maximum of a number or a flag over all enclosing `jax.vmap` axes, itself not batched.

    A `while_loop` or `cond` on it keeps a scalar condition: a batched one would run both branches
    in every lane. The maximum of flags says whether one of them is set.
    """
    return value


@max_over_vmap.def_vmap
def _max_over_axis(size: int, batched: list[bool], value: Array) -> tuple[Array, bool]:
    del size, batched
    return max_over_vmap(jnp.max(value, axis=0)), False
