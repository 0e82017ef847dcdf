"""Conditions at which a flow stops early.

An event is any function `event(t, parameterization, loss)` to a real scalar; the flow stops where it
first is zero or negative. Return a boolean to stop, without locating the time, after the first step
at whose end it is true.
"""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Loss, Scalar
from ddln.engine import PerLane
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization


class LossBelow(eqx.Module):
    """Stop when L(theta) reaches `value`."""

    value: float | Float[Array, ""] | PerLane

    def __call__(self, t: Scalar, parameterization: AbstractParameterization, loss: Loss) -> Scalar:
        return loss(parameterization.effective()) - self.value  # pyright: ignore


class GradientNormBelow(eqx.Module):
    """Stop when the norm of the gradient with respect to the weights, sqrt(g^T M g), reaches `value`.

    It vanishes exactly at the stationary points of the flow.
    """

    value: float | Float[Array, ""] | PerLane

    def __call__(self, t: Scalar, parameterization: AbstractParameterization, loss: Loss) -> Scalar:
        g = loss_gradient(loss, parameterization.effective())
        squared = jnp.sum(g * parameterization.metric_product(g))
        # Compared as squares: the square root has no derivative at a stationary point.
        return squared - self.value**2  # pyright: ignore
