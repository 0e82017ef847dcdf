"""The derivative of a gradient flow in its start and in its data."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._results import is_okay
from ddln._types import Array, Float, Loss, PyTree
from ddln._validation import require_option
from ddln.engine import Solve, integrate
from ddln.engine.internal import check_model
from ddln.flows._gradient_flow import GradientDynamics
from ddln.flows._trajectory import Trajectory
from ddln.losses import AbstractPredictionLoss, Weighted
from ddln.parameterizations import AbstractParameterization

# Directions that are followed at once.
BATCH = 128


class Sensitivity(eqx.Module):
    """The derivative of theta(t) at the saved times.

    Attributes:
        trajectory: the flow, without its dual.
        derivative: d theta(t_k) / d x, where x is what was asked for: an array of shape
            [T, *theta, *x], or for the weights a tree of them. NaN where the flow did not get.
    """

    trajectory: Trajectory
    derivative: PyTree[Float[Array, "T ..."]]


def sensitivity(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    wrt: str = "weights",
    *,
    ts: Any = None,
    coordinates: str = "auto",
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    throw: bool = True,
) -> Sensitivity:
    """The derivative of theta(t) in the start or in the data, along the whole flow.

    For v' = f(v, x) the derivative S = dv/dx solves the linear equation S' = J S + df/dx with the
    Jacobian J of the flow. It is integrated with the flow, for all directions of x at once: a step of
    `ddln.Rodas5P` factorizes one matrix, for the flow, and solves with it for every direction. Only the
    flow chooses the steps.

    One direction alone is `jax.jvp` of `ddln.gradient_flow` with `adjoint=diffrax.ForwardMode()`; the
    gradient of one number is cheaper by `jax.grad`; limits have `jax.jacrev` of `ddln.limit`.

    Example (which samples made the model what it is):
        >>> found = ddln.sensitivity(network, loss, 100.0, "samples")
        >>> without_sample_3 = found.trajectory.theta[-1] - found.derivative[-1, :, 3]

    Args:
        parameterization: the start.
        loss: L(theta); for the data and samples a loss of linear predictions.
        t1: the end of the integration, positive and finite.
        wrt: x. "weights": all weights of the start. "X" or "y": the data. "samples": weights w_i of the
            samples in the loss, at w = 1 (`ddln.Weighted`): the influence of sample i, the change of
            theta(t) for each unit of w_i, to first order minus the effect of leaving it out.
        ts: the times to save at, shape [T]; None saves the end only.
        coordinates: as in `ddln.gradient_flow`.
        solver: as in `ddln.gradient_flow`.
        rtol: as in `ddln.gradient_flow`.
        atol: as in `ddln.gradient_flow`.
        max_steps: as in `ddln.gradient_flow`.
        throw: as in `ddln.gradient_flow`.

    Returns:
        The flow and the derivative. Where layers of a deep diagonal network tie (Assumption A is
        violated) theta(t) is as smooth in the weights as elsewhere, and this is its derivative.

    Raises:
        ValueError: for arguments that do not fit.
        RuntimeError: if `throw=True` and the solve fails.
    """
    require_option("wrt", wrt, ("weights", "X", "y", "samples"))
    if wrt != "weights" and not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            f"Argument `loss` must be a `ddln.AbstractPredictionLoss` for wrt={wrt!r}, as "
            f"`ddln.LeastSquares`, but it is a {type(loss).__name__}."
        )
    forward = diffrax.ForwardMode()
    solve = Solve(t1, ts, rtol, atol, solver, forward, max_steps=max_steps).checked()
    dtype = check_model(parameterization, loss).dtype
    dynamics = GradientDynamics(coordinates=coordinates, dual=False)
    found = _sensitivity(dynamics, parameterization, loss, solve.in_dtype(dtype), wrt)
    if throw:
        result = found.trajectory.result
        found = result.error_if(found, ~is_okay(result))
    return found


@eqx.filter_jit
def _sensitivity(
    dynamics: GradientDynamics,
    parameterization: AbstractParameterization,
    loss: Loss,
    solve: Solve,
    wrt: str,
) -> Sensitivity:
    weights, rest = eqx.partition(parameterization, eqx.is_inexact_array)
    if wrt == "weights":
        flat, unravel = ravel_pytree(weights)
    elif wrt == "samples":
        flat, unravel = ravel_pytree(jnp.ones_like(loss.y))
    else:
        flat, unravel = ravel_pytree(getattr(loss, wrt))

    def flow(flat: Float[Array, " x"]) -> tuple[Array, Trajectory]:
        x, start, data = unravel(flat), parameterization, loss
        if wrt == "weights":
            start = eqx.combine(x, rest)
        elif wrt == "samples":
            assert isinstance(loss, AbstractPredictionLoss)  # as checked above
            data = Weighted(loss, x)
        else:
            data = eqx.tree_at(lambda loss: getattr(loss, wrt), loss, x)
        trajectory = integrate(dynamics, start, data, solve, throw=False)
        return trajectory.theta, trajectory

    theta, trajectory = flow(flat)

    def column(direction: Float[Array, " x"]) -> Array:
        return jax.jvp(lambda flat: flow(flat)[0], (flat,), (direction,))[1]

    columns = jax.lax.map(column, jnp.eye(flat.size, dtype=flat.dtype), batch_size=BATCH)
    reached = jnp.isfinite(trajectory.ts).reshape(-1, *(1 for _ in theta.shape[1:]))
    rows = jnp.where(reached[None], columns, jnp.nan).reshape(flat.size, -1).T
    derivative = jax.tree.map(
        lambda leaf: leaf.reshape(*theta.shape, *leaf.shape[1:]), jax.vmap(unravel)(rows)
    )
    return Sensitivity(trajectory, derivative)
