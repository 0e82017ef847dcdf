"""Models of the noise of stochastic gradients, as functions of theta."""

import abc

import equinox as eqx
import jax.numpy as jnp

from ddln._numerics import product
from ddln._types import Array, Float, Scalar, Theta
from ddln._validation import require_not_negative
from ddln.losses import AbstractPredictionLoss, LeastSquares


class AbstractNoise(eqx.Module):
    """The noise of one stochastic gradient with respect to theta, of mean 0 and covariance C(theta).

    To define your own, subclass this and give the four methods. Stochastic gradient descent with
    step gamma is modelled by dw = -J^T (grad L dt + sqrt(gamma) C^(1/2) dB), t = gamma * steps.
    """

    @abc.abstractmethod
    def check(self, loss: AbstractPredictionLoss) -> None:
        """Raises ValueError if the model has no meaning for this loss."""

    @abc.abstractmethod
    def channels(self, loss: AbstractPredictionLoss) -> int:
        """m, the number of independent Brownian motions."""

    @abc.abstractmethod
    def increment(
        self, loss: AbstractPredictionLoss, theta: Theta, brownian: Float[Array, " m"]
    ) -> Theta:
        """C(theta)^(1/2) dB: linear in dB, with S S^T = C for its matrix S."""

    @abc.abstractmethod
    def variance(self, loss: AbstractPredictionLoss, theta: Theta) -> Theta:
        """The diagonal of C(theta)."""


class SampleNoise(AbstractNoise):
    """The exact covariance of a mini-batch gradient.

    The gradient is (n/b) sum_{k in batch} z_k with z_k = scale l'(<x_k, theta>, y_k) x_k, whose mean is
    grad L. Drawn with replacement,

        C = (n^2 / b) [ (1/n) sum_k z_k z_k^T - zbar zbar^T ],   zbar = grad L / n,

    and (n - b) / (n - 1) times that without. It vanishes where all samples are fitted.

    Args:
        batch_size: b.
        replacement: whether one batch can hold a sample twice.

    Raises:
        ValueError: if the batch size is not positive; by the flow, if a batch without replacement is
            larger than the data.
    """

    batch_size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True)

    def __init__(self, batch_size: int = 1, replacement: bool = True):
        if batch_size < 1:
            raise ValueError(f"Argument `batch_size` must be at least 1, but it is {batch_size}.")
        self.batch_size, self.replacement = batch_size, replacement

    def check(self, loss):
        if not self.replacement and self.batch_size > loss.y.shape[0]:
            raise ValueError(
                f"Argument `batch_size` must be at most the number of samples {loss.y.shape[0]} "
                f"without replacement, but it is {self.batch_size}."
            )

    def channels(self, loss):
        return loss.y.shape[0]

    def increment(self, loss, theta, brownian):
        centred = brownian - jnp.mean(brownian)
        mixed = self._factor(loss) ** 0.5 * self._slopes(loss, theta) * centred
        return product(mixed, loss.design).reshape(theta.shape)

    def variance(self, loss, theta):
        gradients = self._slopes(loss, theta)[:, None] * loss.design
        deviations = gradients - jnp.mean(gradients, axis=0, keepdims=True)
        summed = jnp.sum(jnp.square(deviations), axis=0)
        return self._factor(loss) * summed.reshape(theta.shape)

    def _slopes(self, loss, theta):
        return loss.scale * loss.pointwise_gradient(loss.predict(theta), loss.y)

    def _factor(self, loss) -> float:
        """The factor of the sum of squared deviations from the mean."""
        n, b = loss.y.shape[0], self.batch_size
        return n / b if self.replacement else n * (n - b) / (b * max(n - 1, 1))


class IsotropicNoise(AbstractNoise):
    """The model of Pesme et al. 2021: C = 4 kappa L(theta) X^T X, for L = kappa |X theta - y|^2.

    It is `SampleNoise()` with every squared residual replaced by their mean and the square of the
    mean gradient left out. For a batch of b samples divide the step size of the flow by b.

    Source: Pesme et al. 2021.
    """

    def check(self, loss):
        _require_least_squares(self, loss)

    def channels(self, loss):
        return loss.y.shape[0]

    def increment(self, loss, theta, brownian):
        size = 2 * loss.scale**0.5 * _root(loss(theta))
        return product(size * brownian, loss.design).reshape(theta.shape)

    def variance(self, loss, theta):
        squares = jnp.sum(jnp.square(loss.design), axis=0).reshape(theta.shape)
        return 4 * loss.scale * loss(theta) * squares


class LabelNoise(AbstractNoise):
    """Fresh normal noise on every label in every step: C = 4 kappa^2 std^2 X^T X.

    The gradient is that of L = kappa |X theta - y - epsilon|^2 over all samples. The noise does not
    vanish where the data are fitted, so paths do not converge. With single samples it is sqrt(n)
    times as large, beside `SampleNoise`.

    Args:
        std: the standard deviation of the noise on each label, not negative.

    Raises:
        ValueError: if `std` is negative or not finite.
    """

    std: Float[Array, ""]

    def __init__(self, std: float | Scalar):
        require_not_negative("std", std)
        self.std = jnp.asarray(std, float)

    def check(self, loss):
        _require_least_squares(self, loss)

    def channels(self, loss):
        return loss.y.shape[0]

    def increment(self, loss, theta, brownian):
        size = 2 * loss.scale * self.std.astype(theta.dtype)
        return product(size * brownian, loss.design).reshape(theta.shape)

    def variance(self, loss, theta):
        squares = jnp.sum(jnp.square(loss.design), axis=0).reshape(theta.shape)
        return jnp.square(2 * loss.scale * self.std.astype(theta.dtype)) * squares


def _require_least_squares(noise: AbstractNoise, loss: AbstractPredictionLoss) -> None:
    if not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `loss` must be a `ddln.LeastSquares` for {type(noise).__name__}, "
            f"but it is a {type(loss).__name__}. `ddln.SampleNoise` takes any loss of predictions."
        )


def _root(value: Scalar) -> Scalar:
    """The square root, with derivative zero at zero."""
    positive = value > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, value, 1)), 0)
