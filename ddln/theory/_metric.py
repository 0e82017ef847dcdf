"""The smallest eigenvalue of the metric."""

import jax.numpy as jnp

from ddln._types import Scalar
from ddln.parameterizations import AbstractParameterization


def smallest_metric_eigenvalue(parameterization: AbstractParameterization) -> Scalar:
    """lambda_min(M): the smallest diagonal entry where the parameterization is separable."""
    if parameterization.separable:
        return jnp.min(parameterization.metric_diagonal())
    # A Gram matrix has no negative eigenvalue but by rounding.
    return jnp.maximum(jnp.linalg.eigvalsh(parameterization.metric())[0], 0)
