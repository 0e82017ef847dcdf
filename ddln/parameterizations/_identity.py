"""The trivial parameterization."""

from typing import ClassVar

import jax.numpy as jnp

from ddln._types import Array, Float, Theta
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates


class Identity(AbstractParameterization):
    """theta = w: plain gradient flow. The metric is the identity.

    Args:
        theta: the effective parameter, of any shape.

    Raises:
        ValueError: if `theta` is empty, not real, or has known values that are not finite.
    """

    theta: Array
    separable: ClassVar[bool] = True

    def __init__(self, theta):
        self.theta = float_array("theta", theta, "...")

    def effective(self) -> Theta:
        return self.theta

    @property
    def homogeneity(self) -> int:
        return 1

    def reduced(self) -> "IdentityCoordinates | None":
        return IdentityCoordinates(self.theta) if self.theta.ndim == 1 else None


class IdentityCoordinates(AbstractReducedCoordinates):
    """The reduced coordinate v = theta, of speed 1."""

    start: Array

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return v

    def effective_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def speed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def speed_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.zeros_like(v)

    def decayed(self, total: Float[Array, ""]) -> "IdentityCoordinates":
        return self

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        return (v,)
