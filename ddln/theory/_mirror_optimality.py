"""The implicit bias: a mirror flow minimizes its potential among equal predictions."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.losses import AbstractPredictionLoss
from ddln.theory._check import Check
from ddln.theory._mirror import mirror_flow


def mirror_optimality(trajectory: Trajectory, loss: Loss) -> Check:
    """theta(t) = argmin {Q(theta) : X theta = X theta(t)} at every time, by its KKT conditions.

    Q is convex, so theta(t) is the minimizer exactly if grad Q(theta(t)) is in the range of X^T.
    The claim is that it equals its projection on that range. Where the flow converges to
    X theta = y, its limit is hence the interpolating point of smallest Q.

    Args:
        trajectory: a gradient flow of a parameterization that has a potential.
        loss: the loss of linear predictions that it was integrated with.

    Returns:
        a check with axes (time, coordinate), shape [T, D]. Its hypothesis is that the metric is
        regular at the start.

    Raises:
        ValueError: if the loss is not a `ddln.AbstractPredictionLoss`, or the flow is known to have
            no potential.

    Source: Theorem 1 of Labarrière et al. 2024 with grad L in the range of X^T.
    """
    if not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            "Argument `loss` must be a `ddln.AbstractPredictionLoss`, "
            f"but it is a {type(loss).__name__}."
        )
    flow = mirror_flow(trajectory)
    times = flow.rows.ts.shape[0]
    gradient = flow.mirror_map().reshape(times, -1)
    error = flow.mirror_error(trajectory).reshape(times, -1)
    _, singular, right = jnp.linalg.svd(loss.design, full_matrices=False)
    cutoff = max(loss.design.shape) * jnp.finfo(singular.dtype).eps * singular[0]
    right = jnp.where((singular > cutoff)[:, None], right, 0)
    projected = (gradient @ right.T) @ right
    # A projection does not lengthen.
    length = jnp.linalg.norm(error, axis=1, keepdims=True)
    return Check(
        name="mirror_optimality",
        source="Labarrière et al. 2024, Theorem 1, with grad L in the range of X^T",
        statement=(
            "theta(t) minimizes Q among all theta with the same predictions: "
            "grad Q(theta(t)) = P grad Q(theta(t)), P the projection on the range of X^T"
        ),
        relation="==",
        axes=("time", "coordinate"),
        lhs=gradient,
        rhs=projected,
        tolerance=error + length,
        compared=flow.rows.reached[:, None],
        hypotheses=flow.hypotheses,
    )
