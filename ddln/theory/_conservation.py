"""Proposition 1.1: differences of squared layers are conserved."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import weight_error
from ddln.theory._path import path


def conservation(trajectory: Trajectory, loss: Loss) -> Check:
    """All squared layers change by the same amount: u^j(t)^2 - u^j(0)^2 = u^k(t)^2 - u^k(0)^2.

    Each layer j is compared with k, the smallest layer at that coordinate at the start, which
    covers all pairs. The numerical error is that of the squares, 2 |u^j| e_j + 2 |u^k| e_k with e
    the error of the layers. In reduced coordinates the law holds by construction; integrate with
    `coordinates="full"` to test the flow rather than the coordinates.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, Proposition 1.1, equation 5.
    """
    start = deep_diagonal(trajectory.initial).layers
    rows = path(trajectory)
    errors = squared_layer_error(trajectory)
    change = squared_layer_change(trajectory)
    smallest = jnp.argmin(jnp.abs(start), axis=0)[None, None, :]
    return Check(
        name="conservation",
        source="Labarrière et al. 2024, Proposition 1.1, equation 5",
        statement=(
            "the squares of all layers change by the same amount: "
            "u^j(t)^2 - u^j(0)^2 = u^k(t)^2 - u^k(0)^2, k the smallest layer at the start"
        ),
        relation="==",
        axes=("time", "layer", "coordinate"),
        lhs=change,
        rhs=jnp.take_along_axis(change, smallest, axis=1),
        tolerance=errors + jnp.take_along_axis(errors, smallest, axis=1),
        compared=rows.reached[:, None, None],
    )


def squared_layer_change(trajectory: Trajectory) -> Float[Array, "T L d"]:
    """u^j(t)^2 - u^j(0)^2, factored so that small changes keep their digits."""
    start = deep_diagonal(trajectory.initial).layers[None]
    layers = deep_diagonal(path(trajectory).parameterization).layers
    return (layers - start) * (layers + start)


def squared_layer_error(trajectory: Trajectory) -> Float[Array, "T L d"]:
    """The numerical error of the squares of the layers."""
    rows = path(trajectory)
    layers = deep_diagonal(rows.parameterization).layers
    error = weight_error(trajectory, rows).layers
    return 2 * jnp.abs(layers) * error + jnp.square(error)
