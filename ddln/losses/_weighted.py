"""Losses with weights of the samples."""

from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.losses._base import AbstractPredictionLoss


class Weighted(AbstractPredictionLoss):
    """L(theta) = scale * sum_i w_i l(<x_i, theta>, y_i), for the l, x_i, y_i and scale of a loss.

    Weights of 1 give the loss itself; a weight of 0 removes a sample. The derivative of the end of a
    flow with respect to w_i is the influence of sample i (`ddln.sensitivity`).

    Example:
        >>> without_first = Weighted(loss, jnp.ones(loss.y.size).at[0].set(0.0))

    Args:
        loss: the loss.
        weights: w, shape [n]; not negative for a convex loss.

    Raises:
        ValueError: if the weights do not have the shape of `loss.y`, or are not finite.
    """

    loss: AbstractPredictionLoss
    weights: Float[Array, " n"]

    def __init__(self, loss: AbstractPredictionLoss, weights):
        self.loss = loss
        self.weights = float_array("weights", weights, "n").astype(loss.y.dtype)
        if self.weights.shape != loss.y.shape:
            raise ValueError(
                f"Argument `weights` must have the shape {loss.y.shape} of `loss.y`, but it has "
                f"shape {self.weights.shape}."
            )

    @property
    def X(self) -> Array:  # noqa: N802
        return self.loss.X

    @property
    def y(self) -> Float[Array, " n"]:
        return self.loss.y

    @property
    def scale(self) -> float:
        return self.loss.scale

    def pointwise(self, prediction, target):
        return self._weights_of(prediction) * self.loss.pointwise(prediction, target)

    def pointwise_gradient(self, prediction, target):
        return self._weights_of(prediction) * self.loss.pointwise_gradient(prediction, target)

    def pointwise_curvature(self, prediction, target):
        return self._weights_of(prediction) * self.loss.pointwise_curvature(prediction, target)

    def _weights_of(self, prediction: Array) -> Float[Array, " n"]:
        if prediction.shape != self.weights.shape:
            raise ValueError(
                f"Argument `prediction` must have the shape {self.weights.shape} of `weights`, but it "
                f"has shape {prediction.shape}. Mini-batches need a loss without weights."
            )
        return self.weights
