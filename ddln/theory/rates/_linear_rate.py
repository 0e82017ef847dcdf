"""Exponential bounds on the loss: the gap to the minimum, the PL inequality, and both sides."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Loss, Scalar
from ddln.flows import Trajectory
from ddln.losses import LeastSquares
from ddln.theory._errors import loss_error, loss_gradients, rounding
from ddln.theory._law import Sides
from ddln.theory._rows import Rows, fill_unreached
from ddln.theory.rates._integrals import Integral


class LossGap(eqx.Module):
    """L(theta(t)) - L* along a flow, with its numerical error.

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
    rows: Rows


def loss_gap(trajectory: Trajectory, loss: Loss, minimum: float | Scalar | None) -> LossGap:
    """The gap of the loss to `minimum`, by default the minimum of least squares.

    Raises:
        ValueError: if the minimum is neither given nor known.
    """
    least = of_least_squares("minimum", minimum, loss, "minimum")
    least = jnp.asarray(least, trajectory.loss.dtype)
    rows = fill_unreached(trajectory)
    values = rows.loss - least
    error = loss_error(trajectory, rows, loss) + rounding(least)
    # At time 0 the bounds are equalities by definition.
    resolved = rows.reached & (rows.ts > 0) & (values > error)
    return LossGap(loss(trajectory.initial.effective()) - least, values, error, resolved, rows)


def of_least_squares(argument: str, given: Any, loss: Loss, attribute: str) -> Any:
    """A constant of the loss: the given value, by default the attribute of a `LeastSquares`.

    Raises:
        ValueError: if the value is neither given nor known.
    """
    if given is not None:
        return given
    if not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `{argument}` must be given for {type(loss).__name__}: "
            "only `ddln.LeastSquares` knows it."
        )
    return getattr(loss, attribute)


def pl_constant(
    trajectory: Trajectory, loss: Loss, gap: LossGap, mu: float | Scalar | None
) -> tuple[Scalar, dict[str, Bool[Array, ""]]]:
    """The PL constant, by default that of least squares, and its hypotheses.

    The Polyak-Lojasiewicz inequality is evaluated at the saved times.

    Raises:
        ValueError: if the constant is neither given nor known.
    """
    mu = jnp.asarray(of_least_squares("mu", mu, loss, "pl_constant"), trajectory.loss.dtype)
    gradients = loss_gradients(loss, gap.rows)
    squared = jnp.sum(jnp.square(gradients).reshape(gradients.shape[0], -1), axis=1)
    satisfied = 2 * mu * (gap.values - gap.error) <= squared + rounding(squared)
    above = gap.values >= -gap.error
    return mu, {
        "the PL constant mu is positive and finite": (mu > 0) & jnp.isfinite(mu),
        "2 mu (L - L*) <= |grad L|^2 along the flow": jnp.all(satisfied | ~gap.rows.reached),
        "L* <= L along the flow": jnp.all(above | ~gap.rows.reached),
    }


def exponential_bound(
    gap: LossGap, exponent: Integral, hypotheses: dict[str, Bool[Array, ""]]
) -> Sides:
    """L(theta(t)) - L* <= exp(-exponent) (L(theta_0) - L*).

    The right side takes the largest exponent, so that a bound that holds, holds for every exponent
    in between; the difference to the smallest exponent is part of the tolerance, so that a bound
    that is violated, is violated for all.
    """
    least, most = jnp.exp(-exponent.upper), jnp.exp(-exponent.lower)
    slack = (most - least) * jnp.abs(gap.start)
    # Rounding of the start and of the exponent.
    slack += most * (rounding(gap.start) + rounding(exponent.upper) * jnp.abs(gap.start))
    unresolved = gap.rows.reached & ~gap.resolved & (gap.rows.ts > 0)
    return Sides(
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
