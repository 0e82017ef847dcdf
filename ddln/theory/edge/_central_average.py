"""The running mean of gradient descent beside the central flow."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, pull_back
from ddln._results import is_okay
from ddln._types import Array, Float, Loss
from ddln.flows import CentralRecord, Trajectory, gradient_flow
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.theory._errors import integration_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import Rows, fill_unreached

# The averaged path is off the edge where its sharpness differs from 2 / eta by this share of it.
BEYOND, BELOW = 0.2, 0.1


@law(
    source="Cohen et al. 2024, a heuristic; the factor 2 is what was measured",
    relation="<=",
    axes=("quantity",),
)
def central_average(
    trajectory: Trajectory, descent: Trajectory, loss: Loss, *, window: int = 16
) -> Sides:
    """The running mean of gradient descent is at most half as far from the central flow as from gradient
    flow, and its mean loss at most half as far from the predicted one as from the loss of gradient flow.

    Two entries: the distance of the weights, and the absolute difference of the losses, averaged over the
    saved times that the running mean covers. The central flow is a heuristic: where it fails, the check is
    violated, and a remark says if the sharpness of the averaged path is off the edge while the flow
    is at it: beyond by a fifth, because the oscillation has not grown to its stationary size, or below
    by a tenth, after a catapult.

    Example:
        >>> flow = ddln.central_flow(network, loss, 40.0, step_size=0.1, ts=jnp.linspace(0.0, 40.0, 200))
        >>> descent = ddln.descend(network, loss, optax.sgd(0.1), 420, ts=range(421))
        >>> ddln.theory.central_average(flow, descent, loss).status

    Args:
        trajectory: a `ddln.central_flow`, saved often enough to average over time.
        descent: a `ddln.descend` with `optax.sgd(step_size)` from the same start, saved at each step.
        loss: L(theta).
        window: the number of steps of the running mean.

    Returns:
        a check with the axis (quantity): weights, loss.

    Raises:
        ValueError: if the trajectory is of another flow, or the descent has fewer saved steps than `window`.
    """
    record = trajectory.record
    if not isinstance(record, CentralRecord):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.central_flow`, but its method is "
            f"{trajectory.method!r}."
        )
    if not 1 <= window < descent.ts.shape[0]:
        raise ValueError(
            f"Argument `window` must be at least 1 and less than the {descent.ts.shape[0]} saved steps of "
            f"the descent, but it is {window}. Run `ddln.descend` with `ts=range(steps + 1)`."
        )
    rows, steps = fill_unreached(trajectory), fill_unreached(descent)
    plain = _gradient_flow(trajectory, rows, loss)
    means, mean_loss, inside = _running_mean(steps, record.step_size, rows, window)
    central, weights = _flat(rows.parameterization), _flat(plain.parameterization)
    at_edge = rows.reached & inside & (record.variance > 0)
    edge = 2 / record.step_size
    sharpness = _sharpness(trajectory.initial, loss, means)

    def averaged(values: Float[Array, " T"]) -> Float[Array, ""]:
        """The mean over the times inside, by the trapezoidal rule."""
        spans = jnp.where(inside[1:] & inside[:-1], rows.ts[1:] - rows.ts[:-1], 0)
        total = jnp.sum(spans)
        middles = (values[1:] + values[:-1]) / 2
        return jnp.sum(jnp.where(spans > 0, spans * middles, 0)) / jnp.where(total > 0, total, 1)

    def distances(path, losses):
        distance = jnp.linalg.norm(means - path, axis=1)
        return jnp.stack([averaged(distance), averaged(jnp.abs(mean_loss - losses))])

    sizes = jnp.linalg.norm(integration_error(trajectory, central), axis=1)
    loss_sizes = integration_error(trajectory, rows.loss)
    return Sides(
        lhs=distances(central, jnp.where(rows.reached, record.averaged_loss, 0)),
        rhs=distances(weights, plain.loss) / 2,
        tolerance=jnp.stack([averaged(sizes), averaged(loss_sizes)]),
        compared=jnp.broadcast_to(jnp.sum(inside) > 1, (2,)),
        hypotheses={
            "the central flow has come to its end": is_okay(trajectory.result),
            "the central flow is at the edge": jnp.any(at_edge),
            "the descent makes steps of that size from the same start, all saved": is_okay(
                descent.result
            )
            & jnp.all(descent.ts[1:] == descent.ts[:-1] + 1)
            & _is_step(trajectory, steps, loss),
        },
        remarks={
            "At the edge the averaged path is beyond it by a fifth or more: the oscillation has not grown to "
            "its stationary size": jnp.any(at_edge & (sharpness > (1 + BEYOND) * edge)),
            "At the edge the averaged path is below it by a tenth or more: a catapult": jnp.any(
                at_edge & (sharpness < (1 - BELOW) * edge)
            ),
        },
    )


def _flat(parameterization: AbstractParameterization) -> Float[Array, "T P"]:
    return jax.vmap(lambda one: ravel_pytree(as_function(one)[1])[0])(parameterization)


def _gradient_flow(trajectory: Trajectory, rows: Rows, loss: Loss) -> Rows:
    """Gradient flow at the times of a central flow; at later ones in place of those not reached."""
    late = jnp.cumsum(jnp.where(rows.reached, 0, 1)).astype(rows.ts.dtype)
    ts = rows.ts + late * jnp.where(rows.reached, 0, trajectory.record.step_size)  # pyright: ignore
    flow = gradient_flow(
        trajectory.initial,
        loss,
        jnp.maximum(ts[-1], trajectory.record.step_size),  # pyright: ignore
        ts=ts,
        rtol=trajectory.rtol,
        atol=trajectory.rtol * 1e-3,
        dual=False,
        throw=False,
    )
    return fill_unreached(flow)


def _running_mean(
    steps: Rows, step_size: Float[Array, ""], rows: Rows, window: int
) -> tuple[Float[Array, "T P"], Float[Array, " T"], Array]:
    """Means of weights and loss over a window of steps, at the times in its middle; where there are any."""
    weights = _flat(steps.parameterization)
    values = jnp.concatenate([weights, steps.loss[:, None]], axis=1)
    count = values.shape[0] - window + 1
    mean = sum(values[first : first + count] for first in range(window)) / window
    times = (steps.ts[:count] + (window - 1) / 2) * step_size
    at = jax.vmap(lambda column: jnp.interp(rows.ts, times, column), in_axes=1, out_axes=1)(mean)
    inside = rows.reached & (rows.ts >= times[0]) & (rows.ts <= times[-1])
    return at[:, :-1], at[:, -1], inside


def _sharpness(
    parameterization: AbstractParameterization, loss: Loss, points: Float[Array, "T P"]
) -> Float[Array, " T"]:
    """The largest eigenvalue of the Hessian at each point, from dense matrices."""
    effective, weights = as_function(parameterization)
    _, unravel = ravel_pytree(weights)
    hessian = jax.hessian(lambda w: loss(effective(unravel(w))))
    return jax.vmap(lambda w: jnp.linalg.eigvalsh(hessian(w))[-1])(points)


def _is_step(trajectory: Trajectory, steps: Rows, loss: Loss) -> Array:
    """Test whether the first step is one of gradient descent from the start of the flow."""
    start = trajectory.initial
    slope = ravel_pytree(pull_back(start, loss_gradient(loss, start.effective())))[0]
    move = trajectory.record.step_size * slope  # pyright: ignore
    rows = _flat(steps.parameterization)
    first = ravel_pytree(as_function(start)[1])[0]
    rounding = (
        1e3 * float(jnp.finfo(first.dtype).eps) * (jnp.max(jnp.abs(first)) + jnp.max(jnp.abs(move)))
    )
    error = jnp.maximum(jnp.max(jnp.abs(rows[0] - first)), jnp.max(jnp.abs(rows[1] - first + move)))
    return error <= rounding
