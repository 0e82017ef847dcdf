"""Losses of linear predictions with any pointwise loss."""

from collections.abc import Callable

import equinox as eqx
import jax

from ddln._types import Array, Float
from ddln.losses._base import AbstractPredictionLoss, regression_data


class GeneralizedLinear(AbstractPredictionLoss):
    """L(theta) = scale * sum_i l(<x_i, theta>, y_i) with any function l.

    Example (Poisson regression):
        >>> loss = GeneralizedLinear(X, y, lambda z, y: jnp.exp(z) - y * z)

    Args:
        X: the inputs, shape [n, *theta.shape].
        y: the targets, shape [n].
        pointwise: l(prediction, target), from two scalars to a scalar, twice differentiable.
        scale: the factor of the sum.

    Raises:
        ValueError: if the numbers of samples differ, an axis is empty, or known values are not
            finite; if `pointwise` does not return a scalar.
    """

    X: Array
    y: Float[Array, " n"]
    function: Callable = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(self, X, y, pointwise: Callable, scale: float = 1.0):
        self.X, self.y, self.scale = regression_data(X, y, scale)
        self.function = pointwise
        scalar = jax.ShapeDtypeStruct((), self.y.dtype)
        shape = jax.eval_shape(pointwise, scalar, scalar).shape
        if shape != ():
            raise ValueError(
                "Argument `pointwise` must map two scalars to a scalar, "
                f"but it returns an array of shape {shape}."
            )

    def pointwise(self, prediction, target):
        return jax.vmap(self.function)(prediction, target)

    def pointwise_gradient(self, prediction, target):
        return jax.vmap(jax.grad(self.function))(prediction, target)

    def pointwise_curvature(self, prediction, target):
        return jax.vmap(jax.grad(jax.grad(self.function)))(prediction, target)
