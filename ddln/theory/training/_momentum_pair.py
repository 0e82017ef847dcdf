"""Momentum of two layers in amplitudes and angles: w_+- = (u +- v) / sqrt 2 = w_+-(0) e^m cos(phi)."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss, Scalar
from ddln.flows import PairRecord, Trajectory
from ddln.flows.states import rotate
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization
from ddln.theory._decrease import decrease
from ddln.theory._errors import integration_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import Rows, fill_unreached
from ddln.theory.layers import deep_diagonal
from ddln.theory.training._momentum import momentum_record, pair_errors


@law(source="Papazov et al. 2024, at the end", relation="==", axes=("time", "sign", "coordinate"))
def momentum_scale(trajectory: Trajectory, loss: Loss) -> Sides:
    """log|a(t) / w(0)| = -int_0^t k h^2 ds - k(t) h(t), h = w' / w, for w = u + v and u - v.

    The effective start a_+- of two layers follows from the recorded squares of h_+-, as long as no
    w_+- comes near zero. The left side is measured at the end point, w_+-(t) carried back along the
    accumulated gradient; the second term on the right vanishes as the flow comes to rest. The
    source states the law for the end and constant damping; see "Noise and momentum" in the
    documentation.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal` with two layers, in reduced coordinates.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, sign, coordinate), shape [T, 2, d], w_+ first. Weights w_+- that are
        zero at the start stay zero, and are not compared.

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    record, pair = momentum_record(trajectory), pair_record(trajectory)
    network = deep_diagonal(trajectory.initial)
    moves = rotate(network.layers) != 0
    rows = fill_unreached(trajectory)
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
    return Sides(
        lhs=momentum_logarithm(trajectory, rows),
        rhs=-pair.riccati - k * tangent / root,
        tolerance=tolerance,
        compared=rows.reached[:, None, None] & moves[None],
        hypotheses={
            "neither u + v nor u - v comes near zero": jnp.all(apart | ~rows.reached),
        },
    )


@law(
    source="Papazov et al. 2024, before the first change of sign",
    relation="<=",
    axes=("time", "coordinate"),
)
def momentum_shrinkage(trajectory: Trajectory, loss: Loss) -> Sides:
    """|u^2 - v^2| decreases from rest, until u + v or u - v first vanishes.

    Each saved time is compared with the one before it, as |gap(t)| / |gap(0)|. Times after which a
    gap changes by less than its numerical error, to the next time and to the end, are not compared.
    After a change of sign the gap grows from zero and may end larger than it was: then the
    hypothesis is not met, and the sides show the growth. `sufficient_inertia` is a bound below which
    the hypothesis is met.

    Derivation: with h_+- = (log|u +- v|)', S = h_+ + h_- obeys S' + (d / lambda) S = -(h_+^2 + h_-^2),
    so S <= 0 from rest; see "Noise and momentum" in the documentation.

    Args:
        trajectory: a `ddln.momentum_flow` of a `DeepDiagonal` with two layers, in reduced coordinates.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, coordinate), shape [T, d]. Its hypothesis is that nothing changes
        sign up to the last saved time, in between saved times included. Coordinates with
        |u| = |v| at the start keep a gap of zero, and are not compared.

    Raises:
        ValueError: if the trajectory is not such a flow.
    """
    pair = pair_record(trajectory)
    start = deep_diagonal(trajectory.initial).layers
    rows = fill_unreached(trajectory)
    amplitude = jnp.exp(jnp.sum(pair.growth, axis=1))
    ratio = amplitude * jnp.abs(jnp.prod(jnp.cos(pair.angle), axis=1))
    error = amplitude * jnp.sum(pair_errors(trajectory, pair), axis=1)
    changed = jnp.any(pair.sign_changed & rows.reached[:, None, None])
    untied = jnp.abs(start[0]) != jnp.abs(start[1])
    return decrease(
        jnp.ones_like(ratio[:1]),
        ratio,
        jnp.zeros_like(error[:1]),
        error,
        rows.reached[:, None] & untied[None, :],
        {"neither u + v nor u - v changes sign": ~changed},
    )


def sufficient_inertia(parameterization: AbstractParameterization, loss: LeastSquares) -> Scalar:
    """An inertia up to which neither u + v nor u - v changes sign, for constant damping:

        lambda = 1 / (8 |c| sqrt(kappa L(theta_0)) max_i |x_i|),   x_i the columns of X.

    Derivation: h = w_+-' / w_+- obeys lambda h' = -lambda h^2 - h -+ c g, so that h = -1 / (2 lambda) is
    a barrier while 4 lambda |c g| <= 1; and L + (lambda/2) |w'|^2 decreases, so that
    |g_i| <= 2 sqrt(kappa L) |x_i| stays below its value at the start. The bound is far from
    necessary.

    Args:
        parameterization: a `DeepDiagonal` with two layers, the start.
        loss: L = kappa |X theta - y|^2.

    Returns:
        lambda, infinite if the loss vanishes at the start.

    Raises:
        ValueError: if the parameterization or the loss is another.
    """
    network = deep_diagonal(parameterization)
    if network.depth != 2 or not isinstance(loss, LeastSquares):
        raise ValueError(
            "`sufficient_inertia` needs two layers and a `ddln.LeastSquares`, but there are "
            f"{network.depth} and a {type(loss).__name__}."
        )
    longest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(loss.design), axis=0)))
    size = jnp.sqrt(loss.scale * loss(network.effective()))
    return 1 / (8 * abs(network.factor) * size * longest)


def pair_record(trajectory: Trajectory) -> PairRecord:
    """The record of two layers in angles.

    Raises:
        ValueError: if the trajectory has none.
    """
    pair = momentum_record(trajectory).pair
    if pair is None:
        raise ValueError(
            "Argument `trajectory` must be a `ddln.momentum_flow` of a `ddln.DeepDiagonal` with two "
            "layers in reduced coordinates, which see every change of sign, but it is "
            f"{trajectory.method!r}."
        )
    return pair


def momentum_logarithm(trajectory: Trajectory, rows: Rows) -> Float[Array, "T 2 d"]:
    """log|a_+- / w_+-(0)| along a momentum flow."""
    pair = pair_record(trajectory)
    drive = deep_diagonal(trajectory.initial).factor * rows.dual
    size = pair.growth + jnp.log(jnp.abs(jnp.cos(pair.angle)))
    return size - jnp.stack([drive, -drive], axis=1)
