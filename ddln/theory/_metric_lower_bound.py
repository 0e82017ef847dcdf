"""Equation 13: the metric of a deep diagonal network is bounded below for all times."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Loss, PyTree, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.theory._assumption_a import one_smallest_layer
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import weight_error
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory._path import path
from ddln.theory._sigma import sigma


def metric_lower_bound(trajectory: Trajectory, loss: Loss) -> Check:
    """sigma <= lambda_min(M(t)) along the flow, sigma of the start as in `ddln.theory.sigma`.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the bound does not depend on it.

    Returns:
        a check with axes (time,), shape [T]. Its hypothesis is Assumption A.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, equation 13.
    """
    initial = deep_diagonal(trajectory.initial)
    rows = path(trajectory)
    errors = weight_error(trajectory, rows)
    return Check(
        name="metric_lower_bound",
        source="Labarrière et al. 2024, equation 13",
        statement=(
            "the metric stays bounded below: sigma <= lambda_min(M(t)), "
            "sigma = c^2 min_i prod_{k != k_i} (u^k_i(0)^2 - u^{k_i}_i(0)^2), "
            "k_i the smallest layer at coordinate i"
        ),
        relation="<=",
        axes=("time",),
        lhs=sigma(initial)[None],
        rhs=eqx.filter_vmap(smallest_metric_eigenvalue)(rows.parameterization),
        tolerance=eqx.filter_vmap(_eigenvalue_error)(rows.parameterization, errors),
        compared=rows.reached,
        hypotheses={"Assumption A": one_smallest_layer(initial)},
    )


def _eigenvalue_error(parameterization: AbstractParameterization, error: PyTree[Array]) -> Scalar:
    """The change of the smallest diagonal entry when all layers grow by their errors."""
    weights, rest = eqx.partition(parameterization, eqx.is_inexact_array)
    grown = jax.tree.map(lambda w, e: jnp.abs(w) + e, weights, error)
    larger = eqx.combine(grown, rest).metric_diagonal()
    diagonal = parameterization.metric_diagonal()
    return (larger - diagonal)[jnp.argmin(diagonal)]
