"""Deep linear networks: a matrix as a product of several factors."""

import functools
import itertools
from collections.abc import Sequence

from ddln._numerics import product
from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization


class DeepMatrixFactorization(AbstractParameterization):
    """theta = U_1 U_2 ... U_L, a deep linear network.

    The flow conserves U_(l+1) U_(l+1)^T - U_l^T U_l. Source: Arora et al. 2018; Marcotte, Gribonval
    and Peyré 2023.

    Args:
        factors: U_1, ..., U_L, shapes [d_0, d_1], [d_1, d_2], ..., L >= 2.

    Raises:
        ValueError: if there are fewer than two factors, neighbours do not fit, or a factor is empty,
            not real, or has known values that are not finite.
    """

    factors: tuple[Float[Array, "rows columns"], ...]

    def __init__(self, factors: Sequence):
        arrays = [
            float_array(f"factors[{i}]", one, "rows columns") for i, one in enumerate(factors)
        ]
        if len(arrays) < 2:
            raise ValueError(
                f"Argument `factors` must have at least 2 matrices, but it has {len(arrays)}. "
                "A single matrix is `ddln.Identity(theta)`."
            )
        for i, (one, other) in enumerate(itertools.pairwise(arrays)):
            if one.shape[1] != other.shape[0]:
                raise ValueError(
                    f"Argument `factors` must be a chain, but factors[{i}] has shape {one.shape} and "
                    f"factors[{i + 1}] has shape {other.shape}."
                )
        self.factors = tuple(arrays)

    @property
    def depth(self) -> int:
        """L, the number of factors."""
        return len(self.factors)

    @property
    def homogeneity(self) -> int:
        return self.depth

    def effective(self) -> Float[Array, "rows columns"]:
        return functools.reduce(product, self.factors)
