"""The row space of a design matrix, by a singular value decomposition that knows its rounding."""

from typing import NamedTuple

import jax.numpy as jnp

from ddln._numerics._product import product
from ddln._types import Array, Bool, Float


def above_rounding(singular: Float[Array, " m"], shape: tuple[int, ...]) -> Bool[Array, " m"]:
    """Mask of the singular values, decreasing, of a matrix [n, d] that count: s > max(n, d) eps s_1."""
    return singular > max(shape) * jnp.finfo(singular.dtype).eps * singular[0]


class RowSpace(NamedTuple):
    """The compact singular value decomposition X = U S V^T, up to rounding.

    Singular values below rounding, and their rows of V^T, are zero, so that V V^T is the orthogonal
    projection onto the row space of X.

    Attributes:
        left: U, shape [n, m], m = min(n, d).
        singular: the diagonal of S, decreasing, shape [m].
        right: V^T, shape [m, d].
    """

    left: Float[Array, "n m"]
    singular: Float[Array, " m"]
    right: Float[Array, "m d"]

    @classmethod
    def of(cls, matrix: Float[Array, "n d"]) -> "RowSpace":
        """The decomposition of a matrix."""
        left, singular, right = jnp.linalg.svd(matrix, full_matrices=False)
        kept = above_rounding(singular, matrix.shape)
        return cls(left, jnp.where(kept, singular, 0), jnp.where(kept[:, None], right, 0))

    def project(self, vectors: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        """The orthogonal projections of vectors onto the row space."""
        return product(product(vectors, self.right.T), self.right)
