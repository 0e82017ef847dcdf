"""The normal equations X^T (X theta - y) = 0 as equations with orthonormal rows."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Bool, Float
from ddln.solvers._product import product


class Constraints(eqx.Module):
    """A theta = b with A = V^T, b = S^-1 U^T y, from the singular value decomposition X = U S V^T.

    Equivalent to X^T (X theta - y) = 0 for any X: fewer or more samples than coordinates, dependent
    rows, targets that cannot be met. Rows of singular values below rounding are zero.

    Attributes:
        rows: A, shape [m, d], m = min(n, d).
        target: b, shape [m].
        singular: the singular values that count, 0 for the others, shape [m].
        multiplier: U S^-1, which takes multipliers of A to those of X, shape [n, m].
    """

    rows: Float[Array, "m d"]
    target: Float[Array, " m"]
    singular: Float[Array, " m"]
    multiplier: Float[Array, "n m"]

    @classmethod
    def of(cls, design: Float[Array, "n d"], target: Float[Array, " n"]) -> "Constraints":
        left, singular, right = jnp.linalg.svd(design, full_matrices=False)
        kept = singular > max(design.shape) * jnp.finfo(design.dtype).eps * singular[0]
        multiplier = jnp.where(kept[None], left / jnp.where(kept, singular, 1)[None], 0)
        return cls(
            jnp.where(kept[:, None], right, 0),
            product(multiplier.T, target),
            jnp.where(kept, singular, 0),
            multiplier,
        )

    @property
    def empty(self) -> Bool[Array, " m"]:
        """The rows that are zero."""
        return self.singular == 0

    @property
    def rounding(self) -> float:
        """Of a Cholesky factorization of A M A^T, relative, generously."""
        return float(jnp.finfo(self.rows.dtype).eps) * (4 + len(self.rows) / 8)

    def normal_matrix(
        self, metric: Float[Array, " d"], regularization: Float[Array, ""]
    ) -> Float[Array, "m m"]:
        """A M A^T with its diagonal raised by a relative amount, and ones where it is zero.

        Relative to each entry, as the rounding of a Cholesky factorization is.
        """
        matrix = product(self.rows * metric[None], self.rows.T)
        diagonal = jnp.diagonal(matrix)
        return matrix + jnp.diag(jnp.where(diagonal > 0, regularization * diagonal, 1))
