"""The metric along a trajectory."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.flows import Trajectory
from ddln.theory._metric import metric_eigenvalues
from ddln.theory._path import path


def metric_spectrum(trajectory: Trajectory) -> Float[Array, "T D"]:
    """The eigenvalues of M(w(t)), ascending, for any parameterization.

    theta' = -M(w(t)) grad L(theta): each eigenvalue is the speed of a direction of theta. For a map
    that is no mirror flow M is not a function of theta, and this is what is left to look at;
    `pl_rate_along_path` bounds the loss by the smallest eigenvalue without any potential, and
    `commutator` and `integrability` with `points=trajectory.parameterization` say how far the flow
    is from a mirror flow at each saved time.

    Args:
        trajectory: a gradient flow.

    Returns:
        the eigenvalues, shape [T, D], D the size of theta; rows that were not reached are nan.
    """
    rows = path(trajectory)
    spectrum = eqx.filter_vmap(metric_eigenvalues)(rows.parameterization)
    return jnp.where(rows.reached[:, None], spectrum, jnp.nan)
