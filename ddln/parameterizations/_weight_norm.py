"""Weight normalization."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln._validation import float_array, is_known
from ddln.parameterizations._base import AbstractParameterization


class WeightNorm(AbstractParameterization):
    """theta = gain v / |v|. The flow conserves |v|.

    M = e e^T + (gain / |v|)^2 (I - e e^T) with e = v / |v|. It does not commute for d >= 2. Source:
    Salimans and Kingma 2016.

    Args:
        gain: a scalar.
        direction: v, nonzero, shape [d].

    Raises:
        ValueError: if `direction` is known to be zero, or an argument is empty, not real, or has known
            values that are not finite.
    """

    gain: Float[Array, ""]
    direction: Float[Array, " d"]

    def __init__(self, gain, direction):
        self.gain = float_array("gain", gain, "...")
        if self.gain.ndim:
            raise ValueError(
                f"Argument `gain` must be a number, but it has shape {self.gain.shape}."
            )
        self.direction = float_array("direction", direction, "d")
        if is_known(self.direction) and not np.any(np.asarray(self.direction)):
            raise ValueError("Argument `direction` must not be zero: it would have no direction.")

    def effective(self) -> Float[Array, " d"]:
        return self.gain * self.direction / jnp.linalg.norm(self.direction)
