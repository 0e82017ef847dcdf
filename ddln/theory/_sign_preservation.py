"""Proposition 1.2: only the smallest layer of a coordinate can change sign."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import weight_error
from ddln.theory._path import path


def sign_preservation(trajectory: Trajectory, loss: Loss) -> Check:
    """A layer that is not smallest at its coordinate at the start never vanishes: its sign stays.

    The claim is 0 < sign(u^j(0)) u^j(t), compared for the layers with |u^j(0)| > min_k |u^k(0)|. In
    reduced coordinates it holds by construction; integrate with `coordinates="full"` to test it.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d]. Its hypothesis is that there
        is a layer that is not smallest; Assumption A is not needed.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, Proposition 1.2.
    """
    start = deep_diagonal(trajectory.initial).layers
    rows = path(trajectory)
    larger = jnp.abs(start) > jnp.min(jnp.abs(start), axis=0, keepdims=True)
    signed = jnp.sign(start)[None] * deep_diagonal(rows.parameterization).layers
    return Check(
        name="sign_preservation",
        source="Labarrière et al. 2024, Proposition 1.2",
        statement=(
            "a layer that is not smallest at its coordinate at the start never changes sign: "
            "0 < sign(u^j(0)) u^j(t)"
        ),
        relation="<",
        axes=("time", "layer", "coordinate"),
        lhs=jnp.zeros_like(signed),
        rhs=signed,
        tolerance=weight_error(trajectory, rows).layers,
        compared=rows.reached[:, None, None] & larger[None],
        hypotheses={"some layer is larger than the smallest one": jnp.any(larger)},
    )
