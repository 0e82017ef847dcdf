"""How momentum rescales the start of the gradient flow that ends at the same point."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.flows.states import rotate
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._effective_start import momentum_logarithm
from ddln.theory._errors import integration_error
from ddln.theory._momentum import momentum_record, pair_errors, pair_record
from ddln.theory._path import path


def momentum_scale(trajectory: Trajectory, loss: Loss) -> Check:
    """The effective start a_+- of two layers follows from the recorded squares of h_+-:

        log|a_+- / w_+-(0)| = -int_0^t k(s) h_+-^2 ds - k(t) h_+-(t),   h_+- = w_+-' / w_+-,

    w_+- = (u +- v) / sqrt 2, as long as no w_+- comes near zero. The left side is measured at the end
    point, w_+-(t) carried back along the accumulated gradient; the second term on the right vanishes
    as the flow comes to rest.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal` with two layers, in reduced coordinates.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, sign, coordinate), shape [T, 2, d], w_+ first. Weights w_+- that are
        zero at the start stay zero, and are not compared.

    Raises:
        ValueError: if the trajectory is not such a flow.

    Source: Papazov et al. 2024, for the end and constant damping; see "Noise and momentum" in the
    documentation.
    """
    record, pair = momentum_record(trajectory), pair_record(trajectory)
    network = deep_diagonal(trajectory.initial)
    moves = rotate(network.layers) != 0
    rows = path(trajectory)
    root = jnp.sqrt(record.inertia)
    k = record.memory[:, None, None]
    apart = pair.near_zero == 0
    tangent = jnp.where(apart[:, None, None], jnp.tan(pair.angle), 0)
    error = pair_errors(trajectory, pair)
    secant = 1 + jnp.square(tangent)
    tolerance = (
        error * (1 + jnp.abs(tangent) + k * secant / root)
        + abs(network.factor) * integration_error(trajectory, rows.dual)[:, None, :]
        + integration_error(trajectory, pair.riccati)
    )
    return Check(
        name="momentum_scale",
        source="Papazov et al. 2024, at the end",
        statement="log|a(t) / w(0)| = -int_0^t k h^2 ds - k h(t), h = w' / w, for w = u + v and u - v",
        relation="==",
        axes=("time", "sign", "coordinate"),
        lhs=momentum_logarithm(trajectory, rows),
        rhs=-pair.riccati - k * tangent / root,
        tolerance=tolerance,
        compared=rows.reached[:, None, None] & moves[None],
        hypotheses={
            "neither u + v nor u - v comes near zero": jnp.all(apart | ~rows.reached),
        },
    )
