"""Assumption A, and the lower bound of the metric that follows from it."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Loss, PyTree, Scalar
from ddln.flows import Trajectory
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.theory._errors import weight_error
from ddln.theory._law import Sides, law
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory._rows import fill_unreached
from ddln.theory.layers._network import deep_diagonal, one_smallest_layer, sigma


@law(
    source="Labarrière et al. 2024, Assumption A",
    relation="<",
    axes=("layer", "coordinate"),
    needs=(DeepDiagonal,),
    arguments=lambda trajectory, loss: (trajectory.initial,),
)
def assumption_a(parameterization: AbstractParameterization) -> Sides:
    """At each coordinate the smallest |u^j| is attained by one layer only:
    0 < 1 - |u^k| / |u^j| for the smallest layer k and every other layer j.

    The margin of layer j is its relative gap to layer k; the entry of layer k itself is not
    compared. A tie has gap 0 and is a violation, so `where` shows which layers tie at which
    coordinates. The layers are taken for exact numbers: a gap of one rounding error is a gap,
    though the rates that rest on it are then void.

    Example:
        >>> assumption_a(ddln.DeepDiagonal.balanced(theta, depth=3)).status
        'violated'

    Args:
        parameterization: the start of the flow.

    Returns:
        a check with axes (layer, coordinate), shape [L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    layers = deep_diagonal(parameterization).layers
    sizes = jnp.abs(layers)
    smallest = jnp.min(sizes, axis=0, keepdims=True)
    gaps = jnp.where(sizes > smallest, (sizes - smallest) / jnp.where(sizes > 0, sizes, 1), 0)
    frozen = jnp.any(jnp.sum(layers == 0, axis=0) >= 2)
    return Sides(
        lhs=jnp.zeros_like(gaps),
        rhs=gaps,
        tolerance=0.0,
        compared=jnp.arange(sizes.shape[0])[:, None] != jnp.argmin(sizes, axis=0)[None, :],
        remarks={"Some coordinate has two or more layers at exactly zero: it never moves": frozen},
    )


@law(
    source="Labarrière et al. 2024, equation 13",
    relation="<=",
    axes=("time",),
    needs=(DeepDiagonal,),
)
def metric_lower_bound(trajectory: Trajectory, loss: Loss) -> Sides:
    """The metric stays bounded below: sigma <= lambda_min(M(t)),
    sigma = c^2 min_i prod_{k != k_i} (u^k_i(0)^2 - u^{k_i}_i(0)^2),
    k_i the smallest layer at coordinate i.

    `ddln.theory.sigma` computes the constant.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the bound does not depend on it.

    Returns:
        a check with axes (time,), shape [T]. Its hypothesis is Assumption A.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    initial = deep_diagonal(trajectory.initial)
    rows = fill_unreached(trajectory)
    errors = weight_error(trajectory, rows)
    return Sides(
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
