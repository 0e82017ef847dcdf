"""Assumption A: at each coordinate one layer alone is smallest."""

import jax.numpy as jnp

from ddln._types import Array, Bool
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal


def assumption_a(parameterization: AbstractParameterization) -> Check:
    """At each coordinate the smallest |u^j_i| is attained by one layer only.

    The margin of layer j at coordinate i is its relative gap 1 - |u^k_i| / |u^j_i| to the smallest
    layer k; the entry of layer k itself is not compared. A tie has gap 0 and is a violation, so
    `where` says which layers tie at which coordinates. The layers are taken as exact numbers: a gap
    of one rounding error is a gap, though the rates that rest on it are then void.

    Example:
        >>> assumption_a(ddln.DeepDiagonal.balanced(theta, depth=3)).status
        'violated'

    Args:
        parameterization: the start of the flow.

    Returns:
        a check with axes (layer, coordinate), shape [L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, Assumption A.
    """
    layers = deep_diagonal(parameterization).layers
    sizes = jnp.abs(layers)
    smallest = jnp.min(sizes, axis=0, keepdims=True)
    gaps = jnp.where(sizes > smallest, (sizes - smallest) / jnp.where(sizes > 0, sizes, 1), 0)
    depth = jnp.arange(sizes.shape[0])
    return Check(
        name="assumption_a",
        source="Labarrière et al. 2024, Assumption A",
        statement=(
            "at each coordinate the smallest |u^j| is attained by one layer only: "
            "0 < 1 - |u^k| / |u^j| for the smallest layer k and every other layer j"
        ),
        relation="<",
        axes=("layer", "coordinate"),
        lhs=jnp.zeros_like(gaps),
        rhs=gaps,
        tolerance=0.0,
        compared=depth[:, None] != jnp.argmin(sizes, axis=0)[None, :],
        remarks={
            "Some coordinate has two or more layers at exactly zero: it never moves": jnp.any(
                jnp.sum(layers == 0, axis=0) >= 2
            )
        },
    )


def one_smallest_layer(parameterization: DeepDiagonal) -> Bool[Array, ""]:
    """Assumption A as a truth value, for checks that assume it."""
    sizes = jnp.sort(jnp.abs(parameterization.layers), axis=0)
    return jnp.all(sizes[1] > sizes[0])
