"""Differences of powers."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Theta
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates
from ddln.parameterizations._power import power, require_base, require_depth


class PowerDifference(AbstractParameterization):
    """theta = u^L - v^L, elementwise, for any real L > 1. M = diag(L^2 (u^(2L-2) + v^(2L-2))).

    For u, v > 0 the flow keeps their signs, and theta can have any sign. It conserves u v for L = 2,
    and u^(2-L) + v^(2-L) for other L. Source: Woodworth et al. 2020.

    For L that is no integer the weights are positive, and w^L = 0 for w <= 0. For L < 2 a weight can
    reach zero in finite time, where it stays: the potential holds until then.

    Args:
        positive: u, of any shape.
        negative: v, of the same shape.
        depth: L > 1.

    Raises:
        ValueError: if the shapes differ, or an array is empty, not real, or has known values that are
            not finite, or, for L that is no integer, negative, or, for L < 2, zero; if `depth` <= 1.
    """

    positive: Array
    negative: Array
    depth: int | float = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, positive, negative, depth: int | float):
        self.positive = float_array("positive", positive, "...")
        self.negative = float_array("negative", negative, "...")
        if self.positive.shape != self.negative.shape:
            raise ValueError(
                f"Argument `negative` must have the shape {self.positive.shape} of `positive`, but "
                f"it has shape {self.negative.shape}."
            )
        self.depth = require_depth(depth)
        require_base("positive", self.positive, self.depth)
        require_base("negative", self.negative, self.depth)

    def effective(self) -> Theta:
        return power(self.positive, self.depth) - power(self.negative, self.depth)

    @property
    def homogeneity(self) -> int | float:
        return self.depth

    def metric_diagonal(self) -> Theta:
        twice = 2 * self.depth - 2
        return self.depth**2 * (jnp.abs(self.positive) ** twice + jnp.abs(self.negative) ** twice)

    def reduced(self) -> "PowerDifferenceCoordinates | None":
        if self.positive.ndim != 1:
            return None
        return PowerDifferenceCoordinates((self.positive, self.negative), self.depth)


class PowerDifferenceCoordinates(AbstractReducedCoordinates):
    """The reduced coordinates u, v: theta = u^L - v^L."""

    start: tuple[Array, Array]
    depth: int | float = eqx.field(static=True)

    def effective(self, v: tuple[Array, Array]) -> Float[Array, " d"]:
        positive, negative = v
        return power(positive, self.depth) - power(negative, self.depth)

    def effective_slope(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        positive, negative = v
        less = self.depth - 1
        return self.depth * power(positive, less), -self.depth * power(negative, less)

    def speed(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        return self.effective_slope(v)

    def speed_slope(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        positive, negative = v
        less, factor = self.depth - 2, self.depth * (self.depth - 1)
        return factor * power(positive, less), -factor * power(negative, less)

    def decayed(self, total: Float[Array, ""]) -> "PowerDifferenceCoordinates":
        return self

    def weights(self, v: tuple[Array, Array]) -> tuple[Array, ...]:
        return v
