"""The eigenvalues of the metric."""

import jax.numpy as jnp

from ddln._types import Array, Float, Scalar
from ddln.parameterizations import AbstractParameterization


def metric_eigenvalues(parameterization: AbstractParameterization) -> Float[Array, " D"]:
    """The eigenvalues of M, ascending: its sorted diagonal where the parameterization is separable."""
    if parameterization.separable:
        return jnp.sort(parameterization.metric_diagonal().reshape(-1))
    # A Gram matrix has no negative eigenvalue but by rounding.
    return jnp.maximum(jnp.linalg.eigvalsh(parameterization.metric()), 0)


def smallest_metric_eigenvalue(parameterization: AbstractParameterization) -> Scalar:
    """lambda_min(M)."""
    return metric_eigenvalues(parameterization)[0]
