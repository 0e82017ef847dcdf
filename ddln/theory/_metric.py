"""The eigenvalues of the metric M = J J^T, at one point and along a trajectory."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.theory._rows import fill_unreached


def metric_eigenvalues(parameterization: AbstractParameterization) -> Float[Array, " D"]:
    """The eigenvalues of M, ascending; the sorted diagonal if the parameterization is separable."""
    if parameterization.separable:
        return jnp.sort(parameterization.metric_diagonal().reshape(-1))
    # A Gram matrix has negative eigenvalues by rounding only.
    return jnp.maximum(jnp.linalg.eigvalsh(parameterization.metric()), 0)


def smallest_metric_eigenvalue(parameterization: AbstractParameterization) -> Scalar:
    """lambda_min(M)."""
    return metric_eigenvalues(parameterization)[0]


def metric_spectrum(trajectory: Trajectory) -> Float[Array, "T D"]:
    """The eigenvalues of M(w(t)), ascending, for any parameterization.

    theta' = -M(w(t)) grad L(theta): each eigenvalue is the speed of a direction of theta. Without a
    mirror flow M is not a function of theta, and no potential describes it; then
    `pl_rate_along_path` bounds the loss by the smallest eigenvalue, and `commutator` and
    `integrability` with `points=trajectory.parameterization` measure the distance from a mirror
    flow at each saved time.

    Args:
        trajectory: a gradient flow.

    Returns:
        the eigenvalues, shape [T, D], D the size of theta; rows that were not reached are nan.
    """
    rows = fill_unreached(trajectory)
    spectrum = eqx.filter_vmap(metric_eigenvalues)(rows.parameterization)
    return jnp.where(rows.reached[:, None], spectrum, jnp.nan)
