"""Squares of the weights."""

from typing import ClassVar

import jax.numpy as jnp

from ddln._types import Array, Theta
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization
from ddln.parameterizations._power import PowerCoordinates


class Square(AbstractParameterization):
    """theta = w^2 / 2, elementwise. M = diag(w^2) = diag(2 theta): exponentiated gradient flow.

    Source: Labarrière et al. 2024, Appendix A.

    Args:
        weights: w, of any shape.

    Raises:
        ValueError: if `weights` is empty, not real, or has known values that are not finite.
    """

    weights: Array
    separable: ClassVar[bool] = True

    def __init__(self, weights):
        self.weights = float_array("weights", weights, "...")

    def effective(self) -> Theta:
        return 0.5 * jnp.square(self.weights)

    @property
    def homogeneity(self) -> int:
        return 2

    def metric_diagonal(self) -> Theta:
        return jnp.square(self.weights)

    def reduced(self) -> PowerCoordinates | None:
        return PowerCoordinates(self.weights, 2, 0.5) if self.weights.ndim == 1 else None
