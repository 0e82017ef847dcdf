"""Vectors in the range of X^T: the optimality condition of a point among equal predictions."""

import jax.numpy as jnp

from ddln._numerics import RowSpace
from ddln._types import Array, Float, Loss
from ddln.losses import AbstractPredictionLoss


def row_space(loss: Loss) -> RowSpace:
    """The row space of X.

    Raises:
        ValueError: if the loss has no design matrix.
    """
    if not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            "Argument `loss` must be a `ddln.AbstractPredictionLoss`, "
            f"but it is a {type(loss).__name__}."
        )
    return RowSpace.of(loss.design)


def projection(
    vectors: Float[Array, "T D"], errors: Float[Array, "T D"], rows: RowSpace
) -> tuple[Float[Array, "T D"], Float[Array, "T D"]]:
    """The projection of vectors on the row space, and the error of their distance from it."""
    # A projection does not lengthen.
    return rows.project(vectors), errors + jnp.linalg.norm(errors, axis=1, keepdims=True)
