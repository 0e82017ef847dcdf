"""Matrices as a product of two factors."""

from ddln._numerics import product
from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization


class MatrixFactorization(AbstractParameterization):
    """theta = U V^T. The flow conserves U^T U - V^T V.

    M acts on a matrix as G -> G V V^T + U U^T G. It commutes only for special families of
    measurements (Gunasekar et al. 2017), so in general it has no potential.

    Args:
        left: U, shape [m, r].
        right: V, shape [k, r].

    Raises:
        ValueError: if the numbers of columns differ, or a factor is empty, not real, or has known
            values that are not finite.
    """

    left: Float[Array, "m r"]
    right: Float[Array, "k r"]

    def __init__(self, left, right):
        self.left = float_array("left", left, "m r")
        self.right = float_array("right", right, "k r")
        if self.left.shape[1] != self.right.shape[1]:
            raise ValueError(
                f"Argument `right` must have {self.left.shape[1]} columns, as many as `left`, but it "
                f"has shape {self.right.shape}."
            )

    @property
    def homogeneity(self) -> int:
        return 2

    def effective(self) -> Float[Array, "m k"]:
        return product(self.left, self.right.T)
