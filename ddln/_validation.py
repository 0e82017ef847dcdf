"""Checks of arguments, made before any work starts.

Shapes and dtypes are always checked; values only when they are known, that is outside of JAX
transformations. Under `jax.jit` and `jax.vmap` bad values become result codes instead.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ddln._types import Array


def is_known(value: Any) -> bool:
    """True if the values of an array can be read: it is not being traced."""
    return not isinstance(value, jax.core.Tracer)


def float_array(name: str, value: Any, axes: str) -> Array:
    """Converts an argument to a floating-point array with the named axes.

    Args:
        name: the argument's name, for messages.
        value: anything array-like; integers and booleans become the default float dtype.
        axes: the names of the axes, separated by spaces; a leading `...` admits any number more.

    Raises:
        ValueError: if the number of axes differs, an axis is empty, the dtype is neither real nor
            integer, or a known value is not finite.
    """
    _require_numeric(name, value)
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Argument `{name}` must be a numeric array, but {error}.") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"Argument `{name}` must be real, but it has dtype {array.dtype}.")
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    # Of the same dtype it makes an array of weak type an ordinary one.
    array = array.astype(array.dtype if floating else jnp.result_type(float))
    names = axes.split()
    fits = array.ndim >= len(names) - 1 if names[0] == "..." else array.ndim == len(names)
    if not fits:
        raise ValueError(
            f"Argument `{name}` must have the axes [{', '.join(names)}], but it has shape {array.shape}."
            + f" Leave out the last axis: `{name}[..., 0]`."
            * (array.ndim == len(names) + 1 and array.shape[-1] == 1)
        )
    if array.size == 0:
        raise ValueError(f"Argument `{name}` must not be empty, but it has shape {array.shape}.")
    require_finite(name, array)
    return array


def _require_numeric(name: str, value: Any) -> None:
    """Raises for texts, objects and lists of unequal lists, and says what to do about them."""
    if hasattr(value, "dtype") and not isinstance(value, np.ndarray | np.generic):
        return
    try:
        kind = np.asarray(value).dtype.kind
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must be a numeric array, but its rows have different lengths, or it has "
            "other objects beside numbers."
        ) from None
    except TypeError:
        # Such as a list of traced values, which only JAX can read.
        return
    if kind in "USTMm":
        found = "text" if kind in "UST" else "dates"
        raise ValueError(
            f"Argument `{name}` must be a numeric array, but it holds {found}: {value!r}."
        )
    if kind == "O" and not any(map(_is_traced, jax.tree.leaves(value))):
        raise ValueError(
            f"Argument `{name}` must be a numeric array, but it holds objects: it is "
            f"{'None' if value is None else f'a {type(value).__name__}'}. Convert it, as by "
            "`numpy.asarray(..., float)`."
        )


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def require_real(name: str, value: Any) -> None:
    """Raises if a known value is neither a real number nor an array of them."""
    if is_known(value):
        dtype = np.asarray(value).dtype
        if not (jnp.issubdtype(dtype, jnp.floating) or dtype.kind in "iub"):
            raise ValueError(f"Argument `{name}` must be a real number, but it is {value!r}.")


def require_finite(name: str, array: Array | np.ndarray) -> None:
    """Raises if a known array has a NaN or infinite entry, and says where the first one is."""
    if not is_known(array):
        return
    finite = np.isfinite(np.asarray(array))
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"Argument `{name}` must be finite, but entry {list(first)} is {array[first]}. "
            "Remove or impute such entries first."
        )


def require_positive(name: str, value: Any, remedy: str = "") -> None:
    """Raises if a known number, or one of an array, is not finite and positive."""
    require_real(name, value)
    # By NumPy: inside of `jax.jit` an operation on a known JAX array is traced.
    if is_known(value) and not np.all(np.isfinite(value) & (np.asarray(value) > 0)):
        raise ValueError(
            f"Argument `{name}` must be finite and positive, but it is {value}.{remedy}"
        )


def require_not_negative(name: str, value: Any) -> None:
    """Raises if a known number, or one of an array, is not finite or negative."""
    require_real(name, value)
    if is_known(value) and not np.all(np.isfinite(value) & (np.asarray(value) >= 0)):
        raise ValueError(f"Argument `{name}` must be finite and not negative, but it is {value}.")


def constant(name: str, value: Any) -> float:
    """A number that is a part of the program, not of its data."""
    if not is_known(value):
        raise ValueError(
            f"Argument `{name}` must be a constant, but it is being traced or differentiated. "
            "Put what varies into arrays: a factor of theta into one layer, weights of samples into "
            "`ddln.Weighted`."
        )
    require_real(name, value)
    return float(value)


def require_option(name: str, value: str, options: Sequence[str]) -> None:
    """Raises unless a value is one of the options."""
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"Argument `{name}` must be one of {listed}, but it is {value!r}.")
