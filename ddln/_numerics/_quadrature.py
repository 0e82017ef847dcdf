"""Gauss-Legendre quadrature."""

from typing import Any

import numpy as np

from ddln._types import Float


def gauss_legendre(
    count: int, dtype: Any
) -> tuple[Float[np.ndarray, " count"], Float[np.ndarray, " count"]]:
    """Nodes, increasing, and weights of Gauss-Legendre quadrature on [0, 1].

    Both are symmetric to the last bit: where the nodes have (1 + x) / 2, reversed they have (1 - x) / 2.
    """
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (0.5 + 0.5 * nodes).astype(dtype), (0.5 * weights).astype(dtype)
