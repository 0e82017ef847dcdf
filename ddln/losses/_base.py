"""Abstract losses of the effective parameter, with the structure of linear predictions."""

import abc

import equinox as eqx
import jax.numpy as jnp

from ddln._numerics import product
from ddln._types import Array, Float, Scalar, Theta
from ddln._validation import constant, float_array, require_positive


class AbstractLoss(eqx.Module):
    """A loss L(theta): a function from the effective parameter to a scalar."""

    @abc.abstractmethod
    def __call__(self, theta: Theta) -> Scalar:
        """L(theta)."""


class AbstractPredictionLoss(AbstractLoss):
    """A loss of linear predictions: L(theta) = scale * sum_i l(<x_i, theta>, y_i).

    The gradient is scale * X^T l'(X theta, y) and the Hessian X^T diag(curvature) X. Flows use this
    structure: a loss that has it should be a subclass, not a plain function.

    Attributes:
        X: the inputs, shape [n, *theta.shape].
        y: the targets, shape [n].
        scale: the factor of the sum (a sum over samples, not a mean).
    """

    X: eqx.AbstractVar[Array]
    y: eqx.AbstractVar[Array]
    scale: eqx.AbstractVar[float]

    @abc.abstractmethod
    def pointwise(self, prediction: Float[Array, " n"], target: Float[Array, " n"]) -> Array:
        """l, elementwise."""

    @abc.abstractmethod
    def pointwise_gradient(
        self, prediction: Float[Array, " n"], target: Float[Array, " n"]
    ) -> Array:
        """dl/dprediction, elementwise."""

    @abc.abstractmethod
    def pointwise_curvature(
        self, prediction: Float[Array, " n"], target: Float[Array, " n"]
    ) -> Array:
        """d^2 l/dprediction^2, elementwise."""

    def __call__(self, theta: Theta) -> Scalar:
        return self.scale * jnp.sum(self.pointwise(self.predict(theta), self.y))

    @property
    def design(self) -> Float[Array, "n D"]:
        """X with the axes of theta flattened to one."""
        return self.X.reshape(self.X.shape[0], -1)

    def predict(self, theta: Theta) -> Float[Array, " n"]:
        """The predictions <x_i, theta>.

        Raises:
            ValueError: if theta does not have the shape of one input.
        """
        if theta.shape != self.X.shape[1:]:
            raise ValueError(
                f"Argument `theta` must have the shape {self.X.shape[1:]} of one row of `X`, "
                f"but it has shape {theta.shape}."
            )
        return product(self.design, theta.reshape(-1))

    def gradient(self, theta: Theta) -> Theta:
        """grad L(theta)."""
        prediction_gradient = self.scale * self.pointwise_gradient(self.predict(theta), self.y)
        return product(prediction_gradient, self.design).reshape(theta.shape)

    def curvature(self, theta: Theta) -> Float[Array, " n"]:
        """scale * l'' at the predictions: the Hessian of L is X^T diag(curvature) X."""
        return self.scale * self.pointwise_curvature(self.predict(theta), self.y)


def regression_data(X, y, scale) -> tuple[Array, Array, float]:
    """Convert and check the data of a loss.

    Raises:
        ValueError: if X and y differ in their number of samples, are empty, not real, or not finite;
            if the scale is not finite and positive.
    """
    X = float_array("X", X, "... d")
    if X.ndim < 2:
        raise ValueError(
            f"Argument `X` must have the axes [n, *theta.shape], but it has shape {X.shape}. "
            "One sample is a row: `X[None, :]`."
        )
    y = float_array("y", y, "n")
    if X.shape[0] != y.shape[0]:
        raise ValueError(
            f"Arguments `X` and `y` must have the same number of samples (axis 0), but `X` has "
            f"{X.shape[0]} and `y` has {y.shape[0]}."
        )
    dtype = jnp.promote_types(X.dtype, y.dtype)
    require_positive("scale", scale)
    return X.astype(dtype), y.astype(dtype), constant("scale", scale)
