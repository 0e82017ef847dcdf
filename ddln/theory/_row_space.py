"""Vectors in the range of X^T: the optimality condition of a point among equal predictions."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.losses import AbstractPredictionLoss


def row_space(loss: Loss) -> tuple[Float[Array, " r"], Float[Array, "r D"]]:
    """The singular values and right singular vectors of X, zero below rounding.

    Raises:
        ValueError: if the loss has no design matrix.
    """
    if not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            "Argument `loss` must be a `ddln.AbstractPredictionLoss`, "
            f"but it is a {type(loss).__name__}."
        )
    _, singular, right = jnp.linalg.svd(loss.design, full_matrices=False)
    cutoff = max(loss.design.shape) * jnp.finfo(singular.dtype).eps * singular[0]
    kept = singular > cutoff
    return jnp.where(kept, singular, 0), jnp.where(kept[:, None], right, 0)


def projection(
    vectors: Float[Array, "T D"], errors: Float[Array, "T D"], right: Float[Array, "r D"]
) -> tuple[Float[Array, "T D"], Float[Array, "T D"]]:
    """The projection of vectors on the row space, and the error of their distance from it."""
    # A projection does not lengthen.
    return (vectors @ right.T) @ right, errors + jnp.linalg.norm(errors, axis=1, keepdims=True)
