"""The effective start of training with noise, momentum or sharpness-aware minimization."""

import jax
import jax.numpy as jnp

from ddln.flows import SamRecord, StochasticRecord, Trajectory
from ddln.flows.states import rotate
from ddln.parameterizations import PowerDifference
from ddln.theory._rows import fill_unreached
from ddln.theory.layers import deep_diagonal
from ddln.theory.training._momentum_pair import momentum_logarithm


def effective_start(trajectory: Trajectory) -> PowerDifference:
    """The start of the gradient flow with the same end as another flow of two layers.

    With w_+- = (u +- v) / sqrt 2 and xi the dual of the trajectory, it has a_+- = w_+-(t) exp(-+ c xi(t))
    at the last saved time t: w(t) carried back along the accumulated gradient. Since xi is in the
    range of X^T, theta(t) minimizes the divergence from c (a_+^2 - a_-^2) / 2 among all theta' with
    X theta' = X theta(t), for the entropy of scale |c| a_+ a_-; once X theta(t) = y it is
    `ddln.limit(effective_start(trajectory), loss)`. This is exact on every path, for every step and
    through changes of sign.

    Noise shrinks a_+ and a_- alike, by exp(-`record.shrinkage` / 2), sharpness-aware minimization by
    exp(-`record.gain` / 2); momentum changes them differently (`momentum_scale`), which moves the centre.

    Example:
        >>> start = ddln.theory.effective_start(trajectory)
        >>> ddln.limit(start, loss).theta - trajectory.theta[-1]

    Args:
        trajectory: a `ddln.stochastic_flow`, a `ddln.sam_flow` in the norm l2, or a `ddln.momentum_flow` in
            reduced coordinates, of a `DeepDiagonal` with two layers.

    Returns:
        theta = p^2 - q^2 with p, q = sqrt(|c| / 2) a_+- (the other way round for c < 0); two layers u, v
        would lose the smaller one to rounding. NaN if the last time was not reached. For a path in
        "full" coordinates it has their discretization error.

    Raises:
        ValueError: if the trajectory is not such a flow.

    Source: Pesme et al. 2021, Theorem 1; Papazov et al. 2024; see "Noise and momentum" and
    "Other optimizers" in the documentation.
    """
    network = deep_diagonal(trajectory.initial)
    if network.depth != 2:
        raise ValueError(
            "Argument `trajectory` must have two layers, but it has "
            f"{network.depth}: with more the end depends on the path."
        )
    rows = fill_unreached(trajectory)
    record = trajectory.record
    if isinstance(record, StochasticRecord):
        assert record.shrinkage is not None  # recorded for every deep diagonal network
        change = -record.shrinkage[-1] / 2
    elif isinstance(record, SamRecord):
        if record.norm != "l2":
            raise ValueError(
                "Argument `trajectory` must be a sharpness-aware flow in the norm 'l2', but its norm is "
                f"{record.norm!r}: its end depends on the path."
            )
        assert record.gain is not None  # recorded for two layers
        change = -record.gain[-1][None] / 2
    else:
        change = momentum_logarithm(trajectory, rows)[-1]
    size = (abs(network.factor) / 2) ** 0.5 * jnp.abs(rotate(network.layers)) * jnp.exp(change)
    plus, minus = size if network.factor > 0 else size[::-1]
    start = PowerDifference(plus, minus, 2)
    return jax.tree.map(lambda leaf: jnp.where(rows.reached[-1], leaf, jnp.nan), start)
