"""The gradient of any loss."""

import jax

from ddln._types import Loss, Theta
from ddln.losses._base import AbstractPredictionLoss


def loss_gradient(loss: Loss, theta: Theta) -> Theta:
    """grad L(theta), in closed form where the loss has one.

    Args:
        loss: L, a `ddln` loss or any function of theta to a scalar.
        theta: the effective parameter.
    """
    if isinstance(loss, AbstractPredictionLoss):
        return loss.gradient(theta)
    return jax.grad(loss)(theta)
