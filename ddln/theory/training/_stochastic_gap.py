"""Noise and the differences of squared layers, at every depth."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import StochasticRecord, Trajectory
from ddln.theory._errors import rounding
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached
from ddln.theory.layers import deep_diagonal


@law(
    source="Pesme et al. 2021, Theorem 1, for two layers; here for every depth",
    relation="==",
    axes=("time", "gap", "coordinate"),
)
def stochastic_gap(trajectory: Trajectory, loss: Loss) -> Sides:
    """log|gap(t) / gap(0)| = -gamma c^2 int_0^t C_ii prod_{l != j, k} (u^l)^2 ds,
    gap = (u^j)^2 - (u^k)^2.

    Along every solution path noise shrinks the differences of squared layers; C is the covariance
    of one stochastic gradient. For theta = u v and `IsotropicNoise` the right side is
    -4 kappa gamma (X^T X)_ii int L ds. Each layer j is compared with k, the smallest one at its
    coordinate at the start. The numerical error is that of discretization and rounding; in reduced
    coordinates the law holds by construction, so integrate with `coordinates="full"` to test the
    flow rather than the coordinates. For every depth and covariance the law follows from Ito's
    formula; see "Noise and momentum" in the documentation.

    Args:
        trajectory: a `ddln.stochastic_flow` of a `DeepDiagonal`.
        loss: any loss of predictions; the flow has recorded all that the law needs of it.

    Returns:
        a check with axes (time, gap, coordinate), shape [T, L-1, d], in the order of
        `DeepDiagonal.canonical().permutation`. Gaps that are zero at the start stay zero, and are not
        compared.

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    network = deep_diagonal(trajectory.initial)
    record = trajectory.record
    if not isinstance(record, StochasticRecord):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.stochastic_flow`, but it has no record of one."
        )
    # Both are recorded for every deep diagonal network.
    assert record.shrinkage is not None
    assert record.error is not None
    rows = fill_unreached(trajectory)
    order = network.canonical().permutation
    start = jnp.take_along_axis(network.layers, order, axis=0)[None]
    layers = jnp.take_along_axis(deep_diagonal(rows.parameterization).layers, order[None], axis=1)
    gap, gap_rounding = _gap(layers)
    first, first_rounding = _gap(start)
    compared = rows.reached[:, None, None] & (first != 0) & (gap != 0)
    ratio = jnp.where(compared, jnp.abs(gap) / jnp.where(first == 0, 1, jnp.abs(first)), 1)
    return Sides(
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
    """(u^j)^2 - (u^k)^2 for layers whose first is k, factored, and its rounding error."""
    sizes = jnp.abs(ordered)
    gap = (sizes[:, 1:] - sizes[:, :1]) * (sizes[:, 1:] + sizes[:, :1])
    return gap, 2 * rounding(jnp.square(sizes[:, 1:]) + jnp.square(sizes[:, :1]))
