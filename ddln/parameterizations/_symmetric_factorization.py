"""Positive semidefinite matrices as a factor times its transpose."""

from ddln._numerics import product
from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization


class SymmetricFactorization(AbstractParameterization):
    """theta = U U^T: positive semidefinite, of rank at most r.

    Args:
        factor: U, shape [m, r].

    Raises:
        ValueError: if the factor is empty, not real, or has known values that are not finite.
    """

    factor: Float[Array, "m r"]

    def __init__(self, factor):
        self.factor = float_array("factor", factor, "m r")

    @property
    def homogeneity(self) -> int:
        return 2

    def effective(self) -> Float[Array, "m m"]:
        return product(self.factor, self.factor.T)
