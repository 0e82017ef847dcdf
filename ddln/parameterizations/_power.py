"""Powers of the weights."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Theta
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates


class Power(AbstractParameterization):
    """theta = w^L, elementwise. M = diag(L^2 w^(2L-2)).

    The flow keeps the signs of w, and a weight that is zero never moves. A deep diagonal
    network with L equal layers is the same map. Source: Labarrière et al. 2024, Appendix A.3.

    Args:
        weights: w, of any shape.
        depth: L >= 2.

    Raises:
        ValueError: if `weights` is empty, not real, or has known values that are not finite; if
            `depth` < 2.
    """

    weights: Array
    depth: int = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, weights, depth: int):
        self.weights = float_array("weights", weights, "...")
        self.depth = require_depth(depth)

    def effective(self) -> Theta:
        return self.weights**self.depth

    @property
    def homogeneity(self) -> int:
        return self.depth

    def metric_diagonal(self) -> Theta:
        return jnp.square(self.depth * self.weights ** (self.depth - 1))

    def reduced(self) -> "PowerCoordinates | None":
        return PowerCoordinates(self.weights, self.depth) if self.weights.ndim == 1 else None


class PowerCoordinates(AbstractReducedCoordinates):
    """The reduced coordinate v = w: theta = factor v^L, and v' = -(d theta / dv) g."""

    start: Array
    depth: int = eqx.field(static=True)
    factor: float = eqx.field(static=True, default=1.0)

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * v**self.depth

    def effective_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * self.depth * v ** (self.depth - 1)

    def speed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.effective_slope(v)

    def speed_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * self.depth * (self.depth - 1) * v ** (self.depth - 2)

    def decayed(self, total: Float[Array, ""]) -> "PowerCoordinates":
        return self

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        return (v,)


def require_depth(depth: int) -> int:
    """The depth as an integer, checked to be at least 2."""
    if depth < 2:
        raise ValueError(
            f"Argument `depth` must be at least 2, but it is {depth}. "
            "The first power is `ddln.Identity(theta)`."
        )
    return int(depth)
