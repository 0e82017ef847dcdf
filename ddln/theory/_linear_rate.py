"""What the exponential bounds on the loss have in common."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss, Scalar
from ddln.flows import Trajectory
from ddln.losses import LeastSquares, loss_gradient
from ddln.theory._check import Check
from ddln.theory._errors import loss_error, rounding
from ddln.theory._integrals import Integral
from ddln.theory._path import Path, path


class LossGap(eqx.Module):
    """L(theta(t)) - L* along a flow, and how well it is known.

    Attributes:
        start: L(theta_0) - L*.
        values: L(theta(t)) - L*, shape [T].
        error: its numerical error, shape [T].
        resolved: the times after the start at which it exceeds that error, shape [T].
        rows: the rows of the trajectory.
    """

    start: Scalar
    values: Float[Array, " T"]
    error: Float[Array, " T"]
    resolved: Bool[Array, " T"]
    rows: Path


def loss_gap(trajectory: Trajectory, loss: Loss, minimum: float | Scalar | None) -> LossGap:
    """The gap of the loss to `minimum`, by default the minimum of least squares.

    Raises:
        ValueError: if the minimum is neither given nor known.
    """
    least = _constant("minimum", minimum, loss, "minimum", trajectory)
    rows = path(trajectory)
    values = rows.loss - least
    error = loss_error(trajectory, rows, loss) + rounding(least)
    # At time 0 the bounds are equalities by definition.
    resolved = rows.reached & (rows.ts > 0) & (values > error)
    return LossGap(loss(trajectory.initial.effective()) - least, values, error, resolved, rows)


def pl_constant(trajectory: Trajectory, loss: Loss, mu: float | Scalar | None) -> Scalar:
    """The given PL constant, by default that of least squares.

    Raises:
        ValueError: if it is neither given nor known.
    """
    return _constant("mu", mu, loss, "pl_constant", trajectory)


def pl_hypotheses(gap: LossGap, loss: Loss, mu: Scalar) -> dict[str, Bool[Array, ""]]:
    """The Polyak-Lojasiewicz inequality with constant mu, evaluated where the flow passes."""
    slopes = jax.vmap(lambda theta: loss_gradient(loss, theta))(gap.rows.theta)
    squared = jnp.sum(jnp.square(slopes).reshape(slopes.shape[0], -1), axis=1)
    satisfied = 2 * mu * (gap.values - gap.error) <= squared + rounding(squared)
    above = gap.values >= -gap.error
    return {
        "the PL constant mu is positive and finite": (mu > 0) & jnp.isfinite(mu),
        "2 mu (L - L*) <= |grad L|^2 along the flow": jnp.all(satisfied | ~gap.rows.reached),
        "L* <= L along the flow": jnp.all(above | ~gap.rows.reached),
    }


def exponential_bound(
    name: str,
    source: str,
    statement: str,
    gap: LossGap,
    exponent: Integral,
    hypotheses: dict[str, Bool[Array, ""]],
) -> Check:
    """L(theta(t)) - L* <= exp(-exponent) (L(theta_0) - L*).

    The right side is that of the largest exponent: what holds, holds for all. The difference to the
    smallest one is part of the tolerance: what is violated, is violated for all.
    """
    least, most = jnp.exp(-exponent.upper), jnp.exp(-exponent.lower)
    slack = (most - least) * jnp.abs(gap.start)
    # Rounding of the start and of the exponent.
    slack += most * (rounding(gap.start) + rounding(exponent.upper) * jnp.abs(gap.start))
    unresolved = gap.rows.reached & ~gap.resolved & (gap.rows.ts > 0)
    return Check(
        name=name,
        source=source,
        statement=statement,
        relation="<=",
        axes=("time",),
        lhs=gap.values,
        rhs=least * gap.start,
        tolerance=gap.error + slack,
        compared=gap.resolved & exponent.determined,
        hypotheses=hypotheses,
        remarks={
            "Times at which L - L* is below its numerical error are not compared": jnp.any(
                unresolved
            ),
            "The saved times are too far apart to integrate the rate; those after the first such "
            "gap are not compared": jnp.any(gap.rows.reached & ~exponent.determined),
        },
    )


def _constant(
    argument: str, given: float | Scalar | None, loss: Loss, attribute: str, trajectory: Trajectory
) -> Scalar:
    if given is None and not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `{argument}` must be given for {type(loss).__name__}: "
            "only `ddln.LeastSquares` knows it."
        )
    value = getattr(loss, attribute) if given is None else given
    return jnp.asarray(value, trajectory.loss.dtype)
