"""Checks of a start and a loss, made before work starts. All raise ValueError."""

import warnings
from typing import Any

import equinox as eqx
import jax

from ddln._types import Loss
from ddln._validation import is_known, require_finite
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization, DeepDiagonal


def check_model(parameterization: AbstractParameterization, loss: Loss) -> jax.ShapeDtypeStruct:
    """Shapes and dtypes of theta and of the loss; returns those of theta."""
    if not isinstance(parameterization, AbstractParameterization):
        raise ValueError(
            "Argument `parameterization` must be a `ddln.AbstractParameterization`, "
            f"but it is a {type(parameterization).__name__}. For plain flow wrap theta in "
            "`ddln.Identity(theta)`."
        )
    if not jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array)):
        raise ValueError(
            "Argument `parameterization` must have weights, but it has no floating-point leaf. "
            "A constant is a term of a `ddln.Sum`."
        )
    theta = eqx.filter_eval_shape(lambda p: p.effective(), parameterization)
    check_loss(loss, theta, "parameterization")
    return theta


def check_loss(loss: Loss, theta: jax.ShapeDtypeStruct, start: str) -> None:
    """Check that the loss is a scalar function of theta, which the argument named `start` gives."""
    if isinstance(loss, type) or not callable(loss):
        raise ValueError(
            "Argument `loss` must be a loss such as `ddln.LeastSquares(X, y)`, or a function of theta, but "
            f"it is {loss.__name__ if isinstance(loss, type) else f'a {type(loss).__name__}'}."
        )
    if isinstance(loss, AbstractPredictionLoss):
        if loss.X.shape[1:] != theta.shape:
            raise ValueError(
                f"Arguments `{start}` and `loss` must have the same theta: the effective "
                f"parameter has shape {theta.shape}, but the rows of `loss.X` have shape "
                f"{loss.X.shape[1:]}."
            )
        if loss.X.dtype != theta.dtype:
            raise ValueError(
                f"Arguments `{start}` and `loss` must have the same dtype, but they have "
                f"{theta.dtype} and {loss.X.dtype}. Convert one of them."
            )
    value = eqx.filter_eval_shape(loss, theta)
    if getattr(value, "shape", None) != ():
        raise ValueError(f"Argument `loss` must return a scalar, but it returns {value}.")


def check_start(parameterization: Any) -> None:
    """Known weights must be finite; coordinates that can never move are worth a warning."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameterization):
        if eqx.is_inexact_array(leaf):
            require_finite(f"parameterization{jax.tree_util.keystr(path)}", leaf)
    if isinstance(parameterization, DeepDiagonal) and is_known(parameterization.layers):
        frozen = parameterization.frozen()
        if frozen.size:
            warnings.warn(
                f"Coordinates {frozen.tolist()} have two or more layers at zero: "
                "they never move under gradient flow.",
                stacklevel=4,
            )
