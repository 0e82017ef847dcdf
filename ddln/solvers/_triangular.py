"""The inverse of a small triangular matrix, by matrix products alone."""

import jax.numpy as jnp

from ddln._types import Array, Float


def lower_inverse(factor: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """The inverse of a lower triangular matrix.

    Diagonal blocks are inverted by doubling: where A and B are inverses of neighbouring blocks and C is
    the block below the first one, [[A, 0], [-B C A, B]] is that of the block of twice the size. That is
    log2(m) batched products. XLA's triangular solve of many right-hand sides, under `jax.vmap`, is
    hundreds of times slower on the CPU (m = 32, 64 lanes).
    """
    m = factor.shape[0]
    size = 1 << (m - 1).bit_length()
    # Padding with the identity leaves the inverse of the leading block as it is.
    padded = jnp.eye(size, dtype=factor.dtype).at[:m, :m].set(factor)
    inverse = (1 / jnp.diagonal(padded))[:, None, None]
    width = 1
    while width < size:
        blocks = padded.reshape(size // (2 * width), 2 * width, size // (2 * width), 2 * width)
        below = jnp.diagonal(blocks, axis1=0, axis2=2)[width:, :width]
        below = jnp.moveaxis(below, -1, 0)
        first, second = inverse[0::2], inverse[1::2]
        corner = -jnp.matmul(
            second, jnp.matmul(below, first, precision="highest"), precision="highest"
        )
        top = jnp.concatenate([first, jnp.zeros_like(first)], axis=2)
        inverse = jnp.concatenate([top, jnp.concatenate([corner, second], axis=2)], axis=1)
        width *= 2
    return inverse[0, :m, :m]
