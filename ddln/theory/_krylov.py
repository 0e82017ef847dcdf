"""Lanczos' method with full reorthogonalization."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddln._numerics import product as at_full_precision
from ddln._types import Array, Bool, Float


class Krylov(NamedTuple):
    """Ritz pairs of a symmetric matrix.

    Attributes:
        basis: an orthonormal basis of the Krylov space as rows, zero beyond its dimension, shape [m, P].
        values: the Ritz values, ascending, shape [m].
        vectors: the Ritz vectors in the basis, as columns, shape [m, m].
        alive: mask of the pairs that are in the space, shape [m].
    """

    basis: Float[Array, "m P"]
    values: Float[Array, " m"]
    vectors: Float[Array, "m m"]
    alive: Bool[Array, " m"]


def krylov(product: Callable[[Array], Array], start: Float[Array, " P"], iterations: int) -> Krylov:
    """The Krylov space of `start`, of at most `iterations` dimensions, and the Ritz pairs in it."""

    def step(carry, index):
        basis, vector = carry
        basis = basis.at[index].set(vector)
        image = product(vector)
        diagonal = at_full_precision(vector, image)
        rest = image
        for _ in range(2):
            # Once is not enough if the Krylov space is nearly complete.
            rest = rest - at_full_precision(basis.T, at_full_precision(basis, rest))
        length = jnp.linalg.norm(rest)
        grown = length > 1e3 * float(jnp.finfo(start.dtype).eps) * jnp.linalg.norm(image)
        following = jnp.where(grown, rest / jnp.where(grown, length, 1), 0)
        # A zero vector ends the space; its diagonal entry must not be mistaken for an eigenvalue.
        alive = jnp.any(vector != 0)
        return (basis, following), (diagonal, jnp.where(grown, length, 0), alive)

    basis = jnp.zeros((iterations, start.size), start.dtype)
    first = start / jnp.linalg.norm(start)
    (basis, _), (diagonal, lengths, alive) = jax.lax.scan(
        step, (basis, first), jnp.arange(iterations)
    )
    diagonal = jnp.where(alive, diagonal, jnp.min(diagonal) - 1)
    tridiagonal = jnp.diag(diagonal) + jnp.diag(lengths[:-1], 1) + jnp.diag(lengths[:-1], -1)
    values, vectors = jnp.linalg.eigh(tridiagonal)
    # Dead rows are decoupled: their pairs are unit vectors.
    inside = jnp.sum(jnp.where(alive[:, None], jnp.square(vectors), 0), axis=0) > 0.5
    return Krylov(basis, values, vectors, inside)
