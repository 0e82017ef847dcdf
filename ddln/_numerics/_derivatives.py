"""Derivatives that do not exist, or are wrong: errors in their place."""

import contextlib
import functools
from collections.abc import Iterator

import equinox as eqx
import jax

from ddln._types import PyTree


def first_order(name: str, inputs: PyTree) -> PyTree:
    """The inputs of a computation, unchanged, whose second derivatives are an error.

    The derivative of a Rayleigh quotient of a fixed vector, or of the last Newton step from a fixed
    solution, is right; its own derivative is not.

    Args:
        name: the function that is differentiated, for the message.
        inputs: any pytree, of which the inexact arrays are guarded.

    Raises:
        ValueError: where they are differentiated twice.
    """
    arrays, rest = eqx.partition(inputs, eqx.is_inexact_array)
    return eqx.combine(_once(name, arrays), rest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _once(name: str, arrays: PyTree) -> PyTree:
    return arrays


@_once.defjvp
def _once_jvp(name, primals, tangents):
    return _never(name, primals[0]), tangents[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _never(name: str, arrays: PyTree) -> PyTree:
    return arrays


@_never.defjvp
def _never_jvp(name, primals, tangents):
    raise ValueError(
        f"`{name}` has derivatives of first order only, but it was differentiated twice. Take differences of "
        "its first derivatives."
    )


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Raise an informative error if a program within needs a second derivative that does not exist.

    Raises:
        ValueError: in place of the `TypeError` of `jax.custom_vjp`.
    """
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise ValueError(
            "Argument `loss` must be twice differentiable, but it, or the map, has a `jax.custom_vjp`, "
            "which has first derivatives only. Use `jax.custom_jvp`."
        ) from error
