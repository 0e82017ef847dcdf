"""The logistic loss."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln._validation import is_known
from ddln.losses._base import AbstractPredictionLoss, regression_data


class Logistic(AbstractPredictionLoss):
    """L(theta) = scale * sum_i log(1 + exp(-y_i <x_i, theta>)), labels y_i in {-1, 1}.

    Args:
        X: the inputs, shape [n, *theta.shape].
        y: the labels, each -1 or 1, shape [n].
        scale: the factor of the sum.

    Raises:
        ValueError: if a known label is neither -1 nor 1, the numbers of samples differ, an axis is
            empty, or known values are not finite.
    """

    X: Array
    y: Float[Array, " n"]
    scale: float = eqx.field(static=True)

    def __init__(self, X, y, scale: float = 1.0):
        self.X, self.y, self.scale = regression_data(X, y, scale)
        if is_known(self.y):
            labels = np.asarray(self.y)
            wrong = np.flatnonzero(np.abs(labels) != 1)
            if wrong.size:
                raise ValueError(
                    f"Argument `y` must have entries -1 or 1, but entry {wrong[0]} is "
                    f"{labels[wrong[0]]}. For labels 0 and 1 pass `2 * y - 1`."
                )

    def pointwise(self, prediction, target):
        return jax.nn.softplus(-target * prediction)

    def pointwise_gradient(self, prediction, target):
        return -target * jax.nn.sigmoid(-target * prediction)

    def pointwise_curvature(self, prediction, target):
        return jax.nn.sigmoid(prediction) * jax.nn.sigmoid(-prediction) * jnp.square(target)
