"""The numerical error of what a trajectory holds: one rule for all checks.

Every accepted step of an adaptive solver errs by about rtol |w| + atol in each unknown w. The laws
checked here hold along every exact flow, so they hold between two steps, and each step can spoil
them only by its own error, however the flow amplifies it afterwards. Hence

    error of w  =  (accepted steps) (rtol |w| + atol) + rounding,

and everything else by propagation. It is an upper estimate, usually by a factor of ten to a
hundred. Integrate with a smaller `rtol` where a check is inconclusive.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._types import Array, Float, Loss, PyTree, Scalar, Theta
from ddln.flows import Trajectory
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.theory._path import Path

# Rounding of one computed number, in units of the last place.
ULPS = 16


def rounding(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The rounding error of a computed value."""
    return ULPS * jnp.finfo(value.dtype).eps * jnp.abs(value)


def integration_error(trajectory: Trajectory, value: PyTree[Array]) -> PyTree[Array]:
    """The error of unknowns of the flow: weights, or the dual."""
    steps = trajectory.stats["num_accepted_steps"].astype(trajectory.rtol.dtype)

    def one(leaf: Array) -> Array:
        return steps * (trajectory.rtol * jnp.abs(leaf) + trajectory.atol) + rounding(leaf)

    return jax.tree.map(one, value)


def weight_error(trajectory: Trajectory, path: Path) -> PyTree[Array]:
    """The error of each weight at each time: the tree of the weights, leading axis T."""
    return integration_error(trajectory, eqx.filter(path.parameterization, eqx.is_inexact_array))


def effective_error(trajectory: Trajectory, path: Path) -> Float[Array, "T *theta"]:
    """The error of theta at each time: sqrt((J diag(e)^2 J^T)_ii), e the error of the weights."""
    errors = weight_error(trajectory, path)
    return eqx.filter_vmap(_effective_error)(path.parameterization, errors)


def _effective_error(parameterization: AbstractParameterization, error: PyTree[Array]) -> Theta:
    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)

    def effective(w):
        return eqx.combine(w, static).effective()

    theta, pull_back = jax.vjp(effective, weights)
    if parameterization.separable:
        # The matrix is diagonal, so its row sums are its diagonal.
        (slopes,) = pull_back(jnp.ones_like(theta))
        scaled = jax.tree.map(lambda slope, e: slope * jnp.square(e), slopes, error)
        squared = jax.jvp(effective, (weights,), (scaled,))[1]
    else:
        flat, _ = ravel_pytree(error)
        scaled = parameterization.jacobian() * flat[None, :]
        squared = jnp.sum(jnp.square(scaled), axis=1).reshape(theta.shape)
    return jnp.sqrt(squared) + rounding(theta)


def loss_error(trajectory: Trajectory, path: Path, loss: Loss) -> Float[Array, " T"]:
    """The error of L(theta) at each time, to second order in the error of theta."""
    errors = effective_error(trajectory, path)
    return jax.vmap(lambda theta, error: _loss_error(loss, theta, error))(path.theta, errors)


def _loss_error(loss: Loss, theta: Theta, error: Theta) -> Scalar:
    if isinstance(loss, AbstractPredictionLoss):
        spread = jnp.abs(loss.design) @ error.reshape(-1)
        slopes = loss.scale * jnp.abs(loss.pointwise_gradient(loss.predict(theta), loss.y))
        changes = slopes * spread + jnp.abs(loss.curvature(theta)) * jnp.square(spread) / 2
        return jnp.sum(changes) + rounding(loss(theta))
    slope, bend = jax.jvp(lambda point: loss_gradient(loss, point), (theta,), (error,))
    changes = jnp.abs(slope) * error + error * jnp.abs(bend) / 2
    return jnp.sum(changes) + rounding(loss(theta))
