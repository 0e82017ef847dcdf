"""The law of the gaps along a stochastic gradient flow, for every depth."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import StochasticRecord, Trajectory
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import rounding
from ddln.theory._path import path


def stochastic_gap(trajectory: Trajectory, loss: Loss) -> Check:
    """Noise shrinks the differences of squared layers, along every path:

        log|gap_jk(t) / gap_jk(0)| = -gamma c^2 int_0^t C_ii prod_{l != j, k} (u^l)^2 ds,

    gap_jk = (u^j)^2 - (u^k)^2, with C the covariance of one stochastic gradient. For theta = u v and
    `IsotropicNoise` the right side is -4 kappa gamma (X^T X)_ii int L ds. Each layer j is compared
    with k, the smallest one at its coordinate at the start. The numerical error is that of
    discretization and rounding; in reduced coordinates the law holds by construction, so integrate
    with `coordinates="full"` to test the flow rather than the coordinates.

    Args:
        trajectory: a `ddln.stochastic_flow` of a `DeepDiagonal`.
        loss: any loss of predictions; what the law needs of it was recorded along the path.

    Returns:
        a check with axes (time, gap, coordinate), shape [T, L-1, d], in the order of
        `DeepDiagonal.canonical().permutation`. Gaps that are zero at the start stay zero, and are not
        compared.

    Raises:
        ValueError: if the trajectory is not such a flow.

    Source: Pesme et al. 2021, Theorem 1, for two layers and their model of the noise; for every depth
    and covariance from Ito's formula, see "Noise and momentum" in the documentation.
    """
    network = deep_diagonal(trajectory.initial)
    record = trajectory.record
    if not isinstance(record, StochasticRecord):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.stochastic_flow`, but it has no record of one."
        )
    # Both are there for a deep diagonal network.
    assert record.shrinkage is not None
    assert record.error is not None
    rows = path(trajectory)
    order = network.canonical().permutation
    start = jnp.take_along_axis(network.layers, order, axis=0)[None]
    layers = jnp.take_along_axis(deep_diagonal(rows.parameterization).layers, order[None], axis=1)
    gap, gap_rounding = _gap(layers)
    first, first_rounding = _gap(start)
    compared = rows.reached[:, None, None] & (first != 0) & (gap != 0)
    ratio = jnp.where(compared, jnp.abs(gap) / jnp.where(first == 0, 1, jnp.abs(first)), 1)
    return Check(
        name="stochastic_gap",
        source="Pesme et al. 2021, Theorem 1, for two layers; here for every depth",
        statement=(
            "log|gap(t) / gap(0)| = -gamma c^2 int_0^t C_ii prod_{l != j, k} (u^l)^2 ds, "
            "gap = (u^j)^2 - (u^k)^2"
        ),
        relation="==",
        axes=("time", "gap", "coordinate"),
        lhs=jnp.log(ratio),
        rhs=-record.shrinkage,
        tolerance=jnp.where(
            compared,
            record.error
            + gap_rounding / jnp.where(compared, jnp.abs(gap), 1)
            + first_rounding / jnp.where(compared, jnp.abs(first), 1)
            + rounding(record.shrinkage),
            0,
        ),
        compared=compared,
    )


def _gap(ordered):
    """(u^j)^2 - (u^k)^2 for layers whose first is k, factored, and what rounding does to it."""
    sizes = jnp.abs(ordered)
    gap = (sizes[:, 1:] - sizes[:, :1]) * (sizes[:, 1:] + sizes[:, :1])
    return gap, 2 * rounding(jnp.square(sizes[:, 1:]) + jnp.square(sizes[:, :1]))
