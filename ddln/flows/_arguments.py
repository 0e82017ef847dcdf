"""Checks of what a flow is given, before it starts. All raise ValueError."""

import warnings
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ddln._types import Loss
from ddln._validation import is_known, require_finite, require_positive
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization, DeepDiagonal


def check_times(t1: Any, ts: Any) -> None:
    """The end of the integration, and the times to save at if there are any."""
    require_positive("t1", t1)
    if ts is None:
        return
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        raise ValueError(
            f"Argument `ts` must be a list of times, not empty, but it has shape {np.shape(ts)}."
        )
    if is_known(ts) and is_known(t1):
        times = np.asarray(ts)
        require_finite("ts", times)
        if np.any(np.diff(times) < 0):
            raise ValueError("Argument `ts` must be increasing, but it is not. Sort it first.")
        if times[0] < 0 or times[-1] > np.asarray(t1):
            raise ValueError(
                f"Argument `ts` must lie in [0, t1] = [0, {t1}], "
                f"but it spans [{times[0]}, {times[-1]}]."
            )


def check_tolerances(rtol: Any, atol: Any, max_steps: int) -> None:
    """The numbers that control a solve."""
    require_positive("rtol", rtol)
    require_positive("atol", atol)
    if max_steps < 1:
        raise ValueError(f"Argument `max_steps` must be at least 1, but it is {max_steps}.")


def check_model(parameterization: AbstractParameterization, loss: Loss) -> jax.ShapeDtypeStruct:
    """Shapes and dtypes of theta and of the loss; returns those of theta."""
    if not isinstance(parameterization, AbstractParameterization):
        raise ValueError(
            "Argument `parameterization` must be a `ddln.AbstractParameterization`, "
            f"but it is a {type(parameterization).__name__}. For plain flow wrap theta in "
            "`ddln.Identity(theta)`."
        )
    theta = eqx.filter_eval_shape(lambda p: p.effective(), parameterization)
    check_loss(loss, theta, "parameterization")
    return theta


def check_loss(loss: Loss, theta: jax.ShapeDtypeStruct, start: str) -> None:
    """Whether the loss is a scalar function of theta, which the argument named `start` gives."""
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


def check_start(parameterization: AbstractParameterization) -> None:
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
