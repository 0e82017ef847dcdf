"""Matrix products at full precision."""

import jax
import jax.numpy as jnp

from ddln._types import Array


def product(left: Array, right: Array) -> Array:
    """Contract the last axis of `left` with the first axis of `right`, at the full precision of their dtype.

    For matrices and vectors this is `left @ right`. At its default precision `@` rounds float32
    factors on accelerators, to TF32 on a GPU and to bfloat16 on a TPU, whatever tolerance a flow asks for.
    """
    dtype = jnp.result_type(left, right)
    contracted = (((left.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(
        left.astype(dtype), right.astype(dtype), contracted, precision="highest"
    )
