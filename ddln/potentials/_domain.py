"""Membership in a domain: an error for known values, nan for traced ones."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Bool, Theta
from ddln._validation import is_known


def require_shape(name: str, value: Array, like: Array) -> None:
    """Raise unless an argument has the shape of the effective parameter."""
    if value.shape != like.shape:
        raise ValueError(
            f"Argument `{name}` must have the shape {like.shape} of the effective parameter, "
            f"but it has shape {value.shape}."
        )


def require_inside(
    name: str, value: Theta, inside: Bool[Array, "*theta"], bounds: tuple[Theta, Theta], why: str
) -> None:
    """Raise if a known argument leaves its domain; name the coordinate, the domain and the reason.

    Args:
        name: the argument's name.
        value: the argument.
        inside: a mask of its admitted coordinates.
        bounds: the ends of the domain, for the message.
        why: the reason for the domain, for the message.
    """
    if not is_known(inside):
        return
    outside = np.argwhere(~np.asarray(inside))
    if outside.size == 0:
        return
    first = tuple(int(i) for i in outside[0])
    lower, upper = (np.broadcast_to(np.asarray(bound), value.shape)[first] for bound in bounds)
    where = f"between {lower} and {upper}" if lower < upper else f"equal to {lower}"
    raise ValueError(
        f"Argument `{name}` must be {where} at coordinate {list(first)}, "
        f"but it is {np.asarray(value)[first]}: {why}"
    )


def only_inside(inside: Bool[Array, "*theta"], value: Theta) -> Theta:
    """The value where it is inside of the domain and nan elsewhere."""
    return jnp.where(inside, value, jnp.nan)


def require_positive_start(name: str, value: Theta) -> None:
    """Raise if a known entry is not positive: a coordinate that starts at zero never moves."""
    if is_known(value) and not (np.asarray(value) > 0).all():
        first = tuple(int(i) for i in np.argwhere(~(np.asarray(value) > 0))[0])
        raise ValueError(
            f"Argument `{name}` must be positive, but entry {list(first)} is "
            f"{np.asarray(value)[first]}. Leave out coordinates that start at zero."
        )
