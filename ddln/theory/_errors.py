"""The numerical error of weights, theta and loss along a trajectory: one rule for all checks.

Every accepted step of an adaptive solver errs by about rtol |w| + atol in each unknown w. The laws
checked here hold along every exact flow, so they hold between two steps, and each step can spoil
them only by its own error, however the flow amplifies that error afterwards. Hence

    error of w  =  (accepted steps) (rtol |w| + atol) + rounding,

and the errors of theta and of the loss follow by propagation. The estimate is an upper one, usually
by a factor of ten to a hundred. Integrate with a smaller `rtol` if a check is inconclusive.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import product
from ddln._types import Array, Float, Loss, PyTree, Scalar, Theta
from ddln.flows import Trajectory
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.theory._rows import Rows

# Rounding of one computed number, in units of the last place.
ULPS = 16


def rounding(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The rounding error of a computed value."""
    return ULPS * jnp.finfo(value.dtype).eps * jnp.abs(value)


def integration_error(trajectory: Trajectory, value: PyTree[Array]) -> PyTree[Array]:
    """The error of unknowns of the flow, such as the weights or the dual."""
    steps = trajectory.stats["num_accepted_steps"].astype(trajectory.rtol.dtype)

    def one(leaf: Array) -> Array:
        return steps * (trajectory.rtol * jnp.abs(leaf) + trajectory.atol) + rounding(leaf)

    return jax.tree.map(one, value)


def weight_error(trajectory: Trajectory, rows: Rows) -> PyTree[Array]:
    """The error of each weight at each time: the tree of the weights, leading axis T."""
    return integration_error(trajectory, eqx.filter(rows.parameterization, eqx.is_inexact_array))


def effective_error(trajectory: Trajectory, rows: Rows) -> Float[Array, "T *theta"]:
    """The error of theta at each time: sqrt((J diag(e)^2 J^T)_ii), e the error of the weights."""
    errors = weight_error(trajectory, rows)
    return eqx.filter_vmap(_effective_error)(rows.parameterization, errors)


def loss_gradients(loss: Loss, rows: Rows) -> Float[Array, "T *theta"]:
    """grad L(theta) at each time."""
    return jax.vmap(lambda theta: loss_gradient(loss, theta))(rows.theta)


def _effective_error(parameterization: AbstractParameterization, error: PyTree[Array]) -> Theta:
    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)

    def effective(w):
        return eqx.combine(w, static).effective()

    theta, vjp = jax.vjp(effective, weights)
    if parameterization.separable:
        # J diag(e)^2 J^T is diagonal, so its diagonal is J diag(e)^2 J^T 1.
        (gradients,) = vjp(jnp.ones_like(theta))
        scaled = jax.tree.map(lambda g, e: g * jnp.square(e), gradients, error)
        squared = jax.jvp(effective, (weights,), (scaled,))[1]
    else:
        flat, _ = ravel_pytree(error)
        scaled = parameterization.jacobian() * flat[None, :]
        squared = jnp.sum(jnp.square(scaled), axis=1).reshape(theta.shape)
    return jnp.sqrt(squared) + rounding(theta)


def loss_error(trajectory: Trajectory, rows: Rows, loss: Loss) -> Float[Array, " T"]:
    """The error of L(theta) at each time, to second order in the error of theta."""
    errors = effective_error(trajectory, rows)
    return jax.vmap(lambda theta, error: _loss_error(loss, theta, error))(rows.theta, errors)


def _loss_error(loss: Loss, theta: Theta, error: Theta) -> Scalar:
    if isinstance(loss, AbstractPredictionLoss):
        spread = product(jnp.abs(loss.design), error.reshape(-1))
        first = loss.scale * jnp.abs(loss.pointwise_gradient(loss.predict(theta), loss.y))
        changes = first * spread + jnp.abs(loss.curvature(theta)) * jnp.square(spread) / 2
        return jnp.sum(changes) + rounding(loss(theta))
    gradient, bend = jax.jvp(lambda point: loss_gradient(loss, point), (theta,), (error,))
    changes = jnp.abs(gradient) * error + error * jnp.abs(bend) / 2
    return jnp.sum(changes) + rounding(loss(theta))
