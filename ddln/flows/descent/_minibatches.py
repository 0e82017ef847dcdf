"""The samples of a step, and the noise of their labels."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ddln._numerics import product
from ddln._types import Array, Float, Int, PRNGKeyArray, Theta
from ddln.losses import AbstractPredictionLoss


class Minibatches(eqx.Module):
    """Random batches of samples, drawn with replacement or by reshuffling at each epoch.

    Reshuffled, an epoch is ceil(n / batch_size) steps, and the last of them has what is left: every
    sample is used once.

    Attributes:
        key: the random key of the run.
        samples: n.
        size: the largest number of samples of a batch.
        replacement: whether the samples of a batch are independent.
    """

    key: PRNGKeyArray
    samples: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True)

    @property
    def per_epoch(self) -> int:
        """The number of batches that a reshuffled epoch has."""
        return -(-self.samples // self.size)

    def start(self) -> Int[Array, "batches size"] | None:
        """The carry from step to step: the batches of the epoch."""
        if self.replacement:
            return None
        return jnp.zeros((self.per_epoch, self.size), jnp.int32)

    def draw(
        self, k: Int[Array, ""], epoch: Int[Array, "batches size"] | None, dtype: DTypeLike
    ) -> tuple[Int[Array, " size"], Float[Array, " size"], Int[Array, "batches size"] | None]:
        """The samples of step k, what the gradient of each is multiplied by, and the epoch.

        The factors add up to n. Together with the samples being uniformly random, this makes the
        mean of the batch's gradient that of all samples.
        """
        if epoch is None:
            chosen = jax.random.randint(
                jax.random.fold_in(self.key, k), (self.size,), 0, self.samples, jnp.int32
            )
            return chosen, jnp.full(self.size, self.samples / self.size, dtype), None
        number, position = jnp.divmod(k, jnp.asarray(self.per_epoch, k.dtype))
        order: Array = jax.lax.cond(
            position == 0, lambda old: self._shuffled(number, old), lambda old: old, epoch
        )
        left = jnp.minimum(self.samples - position * self.size, self.size)
        present = jnp.arange(self.size, dtype=k.dtype) < left
        factor = self.samples / left.astype(dtype)
        return order[position], jnp.where(present, factor, 0), order

    def _shuffled(
        self, number: Int[Array, ""], old: Int[Array, "batches size"]
    ) -> Int[Array, "batches size"]:
        order = jax.random.permutation(jax.random.fold_in(self.key, number), self.samples)
        padding = self.per_epoch * self.size - self.samples
        return jnp.pad(order.astype(old.dtype), (0, padding)).reshape(old.shape)


def batch_gradient(
    loss: AbstractPredictionLoss,
    theta: Theta,
    chosen: Int[Array, " size"] | None,
    factors: Float[Array, " size"] | None,
    noise: Float[Array, " size"] | None,
) -> Theta:
    """sum over the chosen samples of factor_i * grad l(<x_i, theta>, y_i + noise_i), times `scale`."""
    X, y = loss.design, loss.y
    if chosen is not None:
        X, y = X[chosen], y[chosen]
    if noise is not None:
        y = y + noise
    slopes = loss.scale * loss.pointwise_gradient(product(X, theta.reshape(-1)), y)
    if factors is not None:
        slopes = slopes * factors
    return product(slopes, X).reshape(theta.shape)
