"""The loss never increases along a gradient flow."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._errors import loss_error, rounding
from ddln.theory._path import path


def monotone_loss(trajectory: Trajectory, loss: Loss) -> Check:
    """L(theta(t_k)) <= L(theta(t_{k-1})) at the saved times, the first one against the start.

    Holds for every parameterization and every loss, since d/dt L = -|J^T grad L|^2. Times from
    which on the loss changes by less than its numerical error, to the next time and to the end, are
    not compared: the flow has converged.

    Args:
        trajectory: a gradient flow.
        loss: the loss it was integrated with.

    Returns:
        a check with axes (time,), shape [T].

    Source: the chain rule; Labarrière et al. 2024, section 2.2.
    """
    rows = path(trajectory)
    first = loss(trajectory.initial.effective())[None]
    error = loss_error(trajectory, rows, loss)
    before = jnp.concatenate([first, rows.loss[:-1]])
    tolerance = error + jnp.concatenate([rounding(first), error[:-1]])
    ahead = jnp.maximum(jnp.abs(before - rows.loss), jnp.abs(before - rows.loss[-1]))
    return Check(
        name="monotone_loss",
        source="the chain rule; Labarrière et al. 2024, section 2.2",
        statement="the loss never increases: L(theta(t_k)) <= L(theta(t_{k-1}))",
        relation="<=",
        axes=("time",),
        lhs=rows.loss,
        rhs=before,
        tolerance=tolerance,
        compared=rows.reached & (ahead > tolerance),
    )
