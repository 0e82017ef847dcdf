"""Differences of powers."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Theta
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates
from ddln.parameterizations._power import require_depth


class PowerDifference(AbstractParameterization):
    """theta = u^L - v^L, elementwise. M = diag(L^2 (u^(2L-2) + v^(2L-2))).

    For u, v > 0 the flow keeps their signs, and theta can have any sign. It conserves u v for L = 2,
    and u^(2-L) + v^(2-L) for L >= 3. Source: Woodworth et al. 2020.

    Args:
        positive: u, of any shape.
        negative: v, of the same shape.
        depth: L >= 2.

    Raises:
        ValueError: if the shapes differ, or an array is empty, not real, or has known values that are
            not finite; if `depth` < 2.
    """

    positive: Array
    negative: Array
    depth: int = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, positive, negative, depth: int):
        self.positive = float_array("positive", positive, "...")
        self.negative = float_array("negative", negative, "...")
        if self.positive.shape != self.negative.shape:
            raise ValueError(
                f"Argument `negative` must have the shape {self.positive.shape} of `positive`, but "
                f"it has shape {self.negative.shape}."
            )
        self.depth = require_depth(depth)

    def effective(self) -> Theta:
        return self.positive**self.depth - self.negative**self.depth

    @property
    def homogeneity(self) -> int:
        return self.depth

    def metric_diagonal(self) -> Theta:
        power = 2 * self.depth - 2
        return self.depth**2 * (jnp.abs(self.positive) ** power + jnp.abs(self.negative) ** power)

    def reduced(self) -> "PowerDifferenceCoordinates | None":
        if self.positive.ndim != 1:
            return None
        return PowerDifferenceCoordinates((self.positive, self.negative), self.depth)


class PowerDifferenceCoordinates(AbstractReducedCoordinates):
    """The reduced coordinates u, v: theta = u^L - v^L."""

    start: tuple[Array, Array]
    depth: int = eqx.field(static=True)

    def effective(self, v: tuple[Array, Array]) -> Float[Array, " d"]:
        positive, negative = v
        return positive**self.depth - negative**self.depth

    def effective_slope(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        positive, negative = v
        power = self.depth - 1
        return self.depth * positive**power, -self.depth * negative**power

    def speed(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        return self.effective_slope(v)

    def speed_slope(self, v: tuple[Array, Array]) -> tuple[Array, Array]:
        positive, negative = v
        power, factor = self.depth - 2, self.depth * (self.depth - 1)
        return factor * positive**power, -factor * negative**power

    def decayed(self, total: Float[Array, ""]) -> "PowerDifferenceCoordinates":
        return self

    def weights(self, v: tuple[Array, Array]) -> tuple[Array, ...]:
        return v
