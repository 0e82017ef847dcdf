"""The constant of the linear rate of a deep diagonal network."""

import jax.numpy as jnp

from ddln._types import Scalar
from ddln.parameterizations import AbstractParameterization
from ddln.theory._deep_diagonal import deep_diagonal


def sigma(parameterization: AbstractParameterization) -> Scalar:
    """sigma = c^2 min_i prod_{k != k_i} ((u^k_i)^2 - (u^{k_i}_i)^2), k_i the smallest layer at i.

    A lower bound, for all times, of the smallest eigenvalue of the metric along every gradient flow
    from these layers; zero exactly if Assumption A is violated (or by underflow).

    Args:
        parameterization: the start of the flow.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, equation 13 (there c = 1).
    """
    network = deep_diagonal(parameterization)
    gaps = network.canonical().gaps
    return network.factor**2 * jnp.min(jnp.prod(gaps, axis=0))
