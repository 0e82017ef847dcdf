"""The inverse of a Cholesky factor, from matrix products instead of LAPACK."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics._platform import default_platform
from ddln._numerics._product import product
from ddln._types import Array, Float

# Blocks of BLOCK rows are eliminated row by row. For more than MOST_BLOCKS of them the program would be long:
# quarters of the matrix are then eliminated in a loop, by blocks of STRIDE rows.
BLOCK = 16
MOST_BLOCKS = 16
STRIDE = 32
# On an accelerator blocks of at most ENTRIES rows are written out, entry by entry: a loop would launch each
# of its trips.
ENTRIES = 10


def inverse_factor(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """K = C^-1 of a positive definite matrix A = C C^T; not finite if A is not definite.

    Recursion by halves: with A = [[P, B^T], [B, D]], K_P for P, V = B K_P^T and K_S for the Schur
    complement D - V V^T,

        K = [[K_P, 0], [-K_S V K_P, K_S]].

    Under `jax.vmap` on the CPU, for 20 rows and 32 lanes, the recursion takes half the time of a
    batched LAPACK factorization with an inversion of the factor by products, and a triangular solve
    takes far more. Two batched LAPACK calls at once can also deadlock, in jaxlib 0.10.
    """
    m = matrix.shape[0]
    if default_platform() != "cpu" and m <= MOST_BLOCKS * ENTRIES:
        return _by_halves(matrix, ENTRIES, _by_entries)
    if m <= MOST_BLOCKS * BLOCK:
        return _by_halves(matrix, BLOCK, _by_elimination)
    return _by_halves(matrix, -(-m // 4), _by_blocks)


def _by_halves(matrix: Float[Array, "m m"], block: int, small: Callable) -> Float[Array, "m m"]:
    m = matrix.shape[0]
    if m <= block:
        return small(matrix)
    half = m // 2
    first = _by_halves(matrix[:half, :half], block, small)
    v = product(matrix[half:, :half], first.T)
    second = _by_halves(matrix[half:, half:] - product(v, v.T), block, small)
    corner = -product(second, product(v, first))
    zero = jnp.zeros((half, m - half), matrix.dtype)
    return jnp.block([[first, zero], [corner, second]])


def _by_elimination(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """[A, I] -> [D C^T, (C D)^-1] by row operations; D is the diagonal of C."""
    m = matrix.shape[0]

    def eliminate(j, rows):
        below = jnp.arange(m) > j
        factors = jnp.where(below, rows[:, j] / rows[j, j], 0)
        return rows - factors[:, None] * rows[j][None, :]

    rows = jnp.concatenate([matrix, np.eye(m, dtype=matrix.dtype)], axis=1)
    rows = jax.lax.fori_loop(0, m - 1, eliminate, rows)
    # Not `jnp.diagonal`, which gathers.
    pivots = jnp.sum(jnp.where(np.eye(m, dtype=bool), rows[:, :m], 0), axis=1)
    return rows[:, m:] * jax.lax.rsqrt(pivots)[:, None]


def _by_blocks(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """C and K by STRIDE columns and rows at a time; what follows them is zero until then."""
    m = matrix.shape[0]
    extra = -m % STRIDE
    # Ones on the diagonal of further rows.
    padded = jnp.pad(matrix, (0, extra)) + np.diag(np.arange(m + extra) >= m).astype(matrix.dtype)

    def step(number, factors):
        c, k = factors
        first = number * STRIDE
        before = jax.lax.dynamic_slice_in_dim(c, first, STRIDE, 0)
        columns = jax.lax.dynamic_slice_in_dim(padded, first, STRIDE, 1) - product(c, before.T)
        small = _by_elimination(jax.lax.dynamic_slice_in_dim(columns, first, STRIDE, 0))
        below = (jnp.arange(m + extra) >= first)[:, None]
        columns = jnp.where(below, product(columns, small.T), 0)
        rows = jax.lax.dynamic_update_slice_in_dim(
            -product(before, k), jnp.eye(STRIDE, dtype=matrix.dtype), first, 1
        )
        return (
            jax.lax.dynamic_update_slice_in_dim(c, columns, first, 1),
            jax.lax.dynamic_update_slice_in_dim(k, product(small, rows), first, 0),
        )

    zero = jnp.zeros_like(padded)
    return jax.lax.fori_loop(0, len(padded) // STRIDE, step, (zero, zero))[1][:m, :m]


@jax.jit
def _by_entries(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """C row by row, and K = C^-1 column by column, as arithmetic of the entries."""
    m = matrix.shape[0]
    c: dict[tuple[int, int], Array] = {}
    for i in range(m):
        for j in range(i):
            c[i, j] = (matrix[i, j] - sum(c[i, p] * c[j, p] for p in range(j))) * c[j, j]
        # The reciprocals of the diagonal.
        c[i, i] = jax.lax.rsqrt(matrix[i, i] - sum(c[i, p] * c[i, p] for p in range(i)))
    # Kept, or each entry of K would compute C anew.
    packed = jax.lax.optimization_barrier(jnp.stack(list(c.values())))
    c = {place: packed[number] for number, place in enumerate(c)}
    k: dict[tuple[int, int], Array] = {}
    for j in range(m):
        k[j, j] = c[j, j]
        for i in range(j + 1, m):
            k[i, j] = -c[i, i] * sum(c[i, p] * k[p, j] for p in range(j, i))
    zero = jnp.zeros((), matrix.dtype)
    return jnp.stack([jnp.stack([k.get((i, j), zero) for j in range(m)]) for i in range(m)])
