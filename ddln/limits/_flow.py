"""The end of a flow for which there is no convex problem: integrated until it stands still."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Loss, Scalar
from ddln.flows import Trajectory, gradient_flow
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization

# The time to wait at most, in units of the fastest linear decay of the predictions.
HORIZON = 1e12


class _StandsStill(eqx.Module):
    """Stop when the velocity sqrt(g^T M g) of the weights is a given fraction of its start."""

    threshold: Scalar

    def __call__(self, t: Scalar, parameterization: AbstractParameterization, loss: Loss) -> Scalar:
        return _squared_velocity(parameterization, loss) - self.threshold


def _squared_velocity(parameterization: AbstractParameterization, loss: Loss) -> Scalar:
    g = loss_gradient(loss, parameterization.effective())
    return jnp.sum(g * parameterization.metric_product(g))


def integrate_to_rest(
    parameterization: AbstractParameterization,
    loss: Loss,
    rate: Scalar,
    rtol: Scalar,
    max_steps: int,
) -> Trajectory:
    """The flow until its velocity is `rtol` times that of its start.

    Args:
        parameterization: the start.
        loss: the loss.
        rate: the fastest rate of decay; sets the longest time.
        rtol: the fraction, and the tolerance of the integration.
        max_steps: the most steps.
    """
    threshold = jnp.square(rtol) * _squared_velocity(parameterization, loss)
    return gradient_flow(
        parameterization,
        loss,
        HORIZON / rate,
        rtol=jnp.maximum(rtol, 1e-8),
        atol=1e-2 * jnp.maximum(rtol, 1e-8),
        max_steps=max_steps,
        event=_StandsStill(threshold),
        throw=False,
    )
