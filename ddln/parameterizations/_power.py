"""Powers of the weights."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Theta
from ddln._validation import float_array, is_known
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates


class Power(AbstractParameterization):
    """theta = w^L, elementwise, for any real L > 1. M = diag(L^2 w^(2L-2)).

    The flow keeps the signs of w, and a weight that is zero never moves. A deep diagonal
    network with L equal layers is the same map. Source: Labarrière et al. 2024, Appendix A.3.

    For L that is no integer the weights are positive, and w^L = 0 for w <= 0. For L < 2 a weight can
    reach zero in finite time, where it stays: the potential holds until then.

    Args:
        weights: w, of any shape.
        depth: L > 1.

    Raises:
        ValueError: if `weights` is empty, not real, or has known values that are not finite, or, for L
            that is no integer, negative, or, for L < 2, zero; if `depth` <= 1.
    """

    weights: Array
    depth: int | float = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, weights, depth: int | float):
        self.weights = float_array("weights", weights, "...")
        self.depth = require_depth(depth)
        require_base("weights", self.weights, self.depth)

    def effective(self) -> Theta:
        return power(self.weights, self.depth)

    @property
    def homogeneity(self) -> int | float:
        return self.depth

    def metric_diagonal(self) -> Theta:
        return jnp.square(self.depth * power(self.weights, self.depth - 1))

    def reduced(self) -> "PowerCoordinates | None":
        return PowerCoordinates(self.weights, self.depth) if self.weights.ndim == 1 else None


class PowerCoordinates(AbstractReducedCoordinates):
    """The reduced coordinate v = w: theta = factor v^L, and v' = -(d theta / dv) g."""

    start: Array
    depth: int | float = eqx.field(static=True)
    factor: float = eqx.field(static=True, default=1.0)

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * power(v, self.depth)

    def effective_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * self.depth * power(v, self.depth - 1)

    def speed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.effective_slope(v)

    def speed_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * self.depth * (self.depth - 1) * power(v, self.depth - 2)

    def decayed(self, total: Float[Array, ""]) -> "PowerCoordinates":
        return self

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        return (v,)


def require_depth(depth: int | float) -> int | float:
    """The depth, as an integer if it is one, checked to be above 1."""
    if not 1 < depth < float("inf"):
        raise ValueError(
            f"Argument `depth` must be finite and above 1, but it is {depth}. "
            "The first power is `ddln.Identity(theta)`."
        )
    return int(depth) if depth == int(depth) else float(depth)


def require_base(name: str, weights: Array, depth: int | float) -> None:
    """Raise unless known weights have a power of this depth, and for depths below 2 a flow from there."""
    if isinstance(depth, int) or not is_known(weights):
        return
    known = np.asarray(weights)
    if np.any(known < 0):
        raise ValueError(
            f"Argument `{name}` must not be negative for a depth that is no integer, but its least "
            f"entry is {known.min()}. A negative power is the second part of `ddln.PowerDifference`."
        )
    if depth < 2 and np.any(known == 0):
        raise ValueError(
            f"Argument `{name}` must be positive for a depth below 2, but it has entries that are zero, "
            "from which the flow is not unique. Leave these coordinates out, or start above zero."
        )


def power(base: Array, exponent: int | float) -> Array:
    """base^exponent; for an exponent that is no integer 0 where the base is not positive."""
    if isinstance(exponent, int):
        return base**exponent
    positive = base > 0
    return jnp.where(positive, jnp.where(positive, base, 1) ** exponent, 0)
