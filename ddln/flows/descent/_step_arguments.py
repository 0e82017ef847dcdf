"""Checks of the arguments of a descent in discrete time. All raise ValueError."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ddln._types import Array, Loss, PRNGKeyArray, PyTree
from ddln._validation import is_known, require_finite
from ddln.losses import AbstractPredictionLoss


def check_steps(steps: Any, ts: Any) -> None:
    """The number of steps, and the steps to save at if there are any."""
    whole = isinstance(steps, int | np.integer) or (
        isinstance(steps, float | np.floating) and float(steps).is_integer()
    )
    if not whole or steps < 1:
        raise ValueError(f"Argument `steps` must be a whole number, at least 1, but it is {steps}.")
    if ts is None:
        return
    if np.ndim(ts) != 1 or np.size(ts) == 0:
        raise ValueError(
            f"Argument `ts` must be a list of steps, not empty, but it has shape {np.shape(ts)}."
        )
    if is_known(ts):
        numbers = np.asarray(ts)
        require_finite("ts", numbers)
        if np.any(numbers != np.round(numbers)):
            raise ValueError(
                "Argument `ts` must be whole numbers of steps, but it has others. Round it."
            )
        if np.any(np.diff(numbers) < 0):
            raise ValueError("Argument `ts` must be increasing, but it is not. Sort it first.")
        if numbers[0] < 0 or numbers[-1] > steps:
            raise ValueError(
                f"Argument `ts` must lie in [0, steps] = [0, {steps}], "
                f"but it spans [{numbers[0]}, {numbers[-1]}]."
            )


def check_randomness(
    loss: Loss, key: PRNGKeyArray | None, batch_size: int | None, label_noise: Any
) -> None:
    """Check that samples can be drawn and labels can have noise."""
    if batch_size is None and label_noise is None:
        return
    what = "label_noise" if batch_size is None else "batch_size"
    if key is None:
        raise ValueError(
            f"Argument `key` must be given with `{what}`, but it is None. "
            "Pass a random key such as `jax.random.key(0)`."
        )
    if not hasattr(key, "dtype"):
        raise ValueError(
            f"Argument `key` must be a random key such as `jax.random.key(0)`, but it is {key!r}."
        )
    if not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            f"Argument `loss` must be a `ddln.AbstractPredictionLoss` with `{what}`, but it is a "
            f"{type(loss).__name__}: only a loss of samples has any to draw. "
            "Write it as a `ddln.GeneralizedLinear`."
        )
    samples = loss.X.shape[0]
    if batch_size is not None and not 1 <= batch_size <= samples:
        raise ValueError(
            f"Argument `batch_size` must be from 1 to the {samples} samples of the loss, "
            f"but it is {batch_size}."
        )
    if label_noise is not None and is_known(label_noise):
        deviation = np.asarray(label_noise)
        if not (np.isfinite(deviation) and deviation >= 0):
            raise ValueError(
                "Argument `label_noise` must be a standard deviation, finite and at least 0, "
                f"but it is {label_noise}."
            )


def check_optimizer(optimizer: Any, weights: PyTree[Array]) -> None:
    """Check that the argument is an optax optimizer that fits the weights."""
    # optax itself is not imported: that would take a tenth of the time to import this package.
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        raise ValueError(
            "Argument `optimizer` must be an optax optimizer such as `optax.sgd(0.1)`, "
            f"but it is a {type(optimizer).__name__}."
        )
    try:
        jax.eval_shape(optimizer.init, weights)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "Argument `optimizer` must fit the weights of the parameterization, but its `init` "
            f"fails on them: {_first_line(error)}"
        ) from error


def accepted(optimizer: Any, more: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the update accepts beside gradients, state and weights, such as the loss."""
    parameters = inspect.signature(optimizer.update).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return more
    return {name: value for name, value in more.items() if name in parameters}


def converted_update(
    what: str, update: Callable, gradients: Any, state: Any, *rest: Any
) -> Callable:
    """The update with all that it closes over as leaves, if its results are like its arguments."""
    try:
        converted = eqx.filter_closure_convert(update, gradients, state, *rest)
        updates, new = jax.eval_shape(converted, gradients, state, *rest)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            f"Argument `optimizer` must accept {what}, its state and the weights alone, or with the "
            f"loss where all samples are used, but its `update` fails: {_first_line(error)}"
        ) from error
    for name, expected, found in (("updates", gradients, updates), ("a state", state, new)):
        if _shapes(expected) != _shapes(found):
            raise ValueError(
                f"Argument `optimizer` must return {name} like those it is given for {what}, but "
                "the tree or the shapes differ."
            )
    return converted


def _shapes(tree: Any) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [leaf.shape for leaf in leaves]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
