"""Arguments that the functions of this folder share."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Int
from ddln._validation import float_array, require_not_negative
from ddln.asymptotics._signal import Signal, require_total
from ddln.parameterizations import AbstractParameterization


def weights_of(weights: Array | None, start: AbstractParameterization) -> Float[Array, " K"]:
    """The probabilities of the starts: equal ones for None, or the given ones after a check."""
    theta = start.effective()
    if weights is None:
        return jnp.full(theta.size, 1 / theta.size, theta.dtype)
    weights = float_array("weights", weights, "K")
    if weights.shape != (theta.size,):
        raise ValueError(
            f"Argument `weights` must have shape ({theta.size},), a probability for each coordinate of "
            f"`start`, but it has shape {weights.shape}."
        )
    require_not_negative("weights", weights)
    require_total("weights", weights)
    return weights.astype(theta.dtype)


def signal_of(signal: Signal, start: AbstractParameterization) -> Signal:
    """The law of theta* for each start, shape [J, K], in the dtype of theta."""
    theta = start.effective()
    count = signal.means.shape[1:]
    if count not in ((), (theta.size,)):
        raise ValueError(
            f"Argument `signal` must have shape [J], or [J, {theta.size}] for the coordinates of `start`, "
            f"but it has shape {signal.means.shape}."
        )

    def broadcast(leaf: Array) -> Array:
        leaf = leaf.astype(theta.dtype).reshape(len(leaf), -1)
        return jnp.broadcast_to(leaf, (len(leaf), theta.size))

    # Not by the constructor: probabilities of lower precision may not sum to 1 in this one.
    return jax.tree.map(broadcast, signal)


def with_coordinates(
    start: AbstractParameterization, index: Int[Array, " d"]
) -> AbstractParameterization:
    """The start whose coordinates are those of `start` with the given numbers."""
    return jax.tree.map(
        lambda leaf: leaf[..., index] if eqx.is_inexact_array(leaf) else leaf, start
    )
