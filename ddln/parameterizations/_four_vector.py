"""Differences of two products of pairs."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, PRNGKeyArray
from ddln._validation import float_array, is_known
from ddln.parameterizations._base import AbstractParameterization
from ddln.parameterizations._deep_diagonal import DeepDiagonal
from ddln.parameterizations._pairs import PairCoordinates, Pairs


class FourVector(AbstractParameterization):
    """theta = w_+ * v_+ - w_- * v_-, elementwise: the diagonal network of four vectors.

    M = diag(w_+^2 + v_+^2 + w_-^2 + v_-^2). Its flow of theta is that of a `DeepDiagonal` of two
    layers, `two_layers()`, with

        u + v = sqrt((w_+ + v_+)^2 + (w_- - v_-)^2),   u - v = sqrt((w_+ - v_+)^2 + (w_- + v_-)^2),

    and reduced coordinates, potential and limits are those of this network. Source:
    [@azulay2021], where w_+ = w_- and v_+ = v_- at the start.

    Example:
        >>> network = FourVector([1.2], [0.4], [0.3], [-0.7])
        >>> network.two_layers().layers
        Array([[1.39061171],
               [0.49618452]], dtype=float64)

    Args:
        w_plus: w_+, shape [d].
        v_plus: v_+, shape [d].
        w_minus: w_-, shape [d].
        v_minus: v_-, shape [d].

    Raises:
        ValueError: if the shapes differ, or an argument is empty, not real, or has known values that
            are not finite.
    """

    w_plus: Float[Array, " d"]
    v_plus: Float[Array, " d"]
    w_minus: Float[Array, " d"]
    v_minus: Float[Array, " d"]
    separable: ClassVar[bool] = True

    def __init__(self, w_plus, v_plus, w_minus, v_minus):
        self.w_plus = float_array("w_plus", w_plus, "d")
        self.v_plus = float_array("v_plus", v_plus, "d")
        self.w_minus = float_array("w_minus", w_minus, "d")
        self.v_minus = float_array("v_minus", v_minus, "d")
        for name in ("v_plus", "w_minus", "v_minus"):
            shape = getattr(self, name).shape
            if shape != self.w_plus.shape:
                raise ValueError(
                    f"Argument `{name}` must have the shape {self.w_plus.shape} of `w_plus`, but it "
                    f"has shape {shape}."
                )

    @classmethod
    def random(
        cls, key: PRNGKeyArray, dim: int, scale: float | Float[Array, ""] = 1.0
    ) -> "FourVector":
        """A network with independent normal weights of standard deviation `scale`.

        Args:
            key: a JAX random key.
            dim: the number of coordinates d.
            scale: the size of the initialization; may be traced.
        """
        return cls(*(scale * jax.random.normal(key, (4, dim))))

    @classmethod
    def zero(
        cls,
        dim: int,
        scale: float | Float[Array, "..."] = 1.0,
        shape: float | Float[Array, "..."] = 0.0,
    ) -> "FourVector":
        """The network at theta = 0 with w_+ = w_- and v_+ = v_-.

        w = scale sqrt((1 + shape)/(1 - shape)) and v = scale sqrt((1 - shape)/(1 + shape)), so that
        w v = scale^2 and (w - v)/(w + v) = shape; the gap of the two layers is
        4 scale^2 (1 + shape^2)/(1 - shape^2). Source: [@azulay2021].

        Args:
            dim: the number of coordinates d.
            scale: the size of the initialization, a number or an array [d]; may be traced.
            shape: the difference of w and v relative to their sum, between -1 and 1, a number or an
                array [d]; may be traced.

        Raises:
            ValueError: if a known `shape` is not between -1 and 1.
        """
        if is_known(shape) and not np.all(np.abs(np.asarray(shape)) < 1):
            raise ValueError(
                f"Argument `shape` must be between -1 and 1, both excluded, but it is {shape}. "
                "A start with v = 0 is `FourVector(w, 0 * w, w, 0 * w)`."
            )
        root = jnp.sqrt((1 + jnp.asarray(shape)) / (1 - jnp.asarray(shape)))
        w, v = (jnp.broadcast_to(scale * ratio, (dim,)) for ratio in (root, 1 / root))
        return cls(w, v, w, v)

    def effective(self) -> Float[Array, " d"]:
        return self.w_plus * self.v_plus - self.w_minus * self.v_minus

    @property
    def homogeneity(self) -> int:
        return 2

    def metric_diagonal(self) -> Float[Array, " d"]:
        leaves = (self.w_plus, self.v_plus, self.w_minus, self.v_minus)
        return jnp.sum(jnp.square(jnp.stack(leaves)), axis=0)

    def pairs(self) -> Pairs:
        """The two products as signed pairs."""
        return Pairs(
            first=jnp.stack([self.w_plus, self.w_minus]),
            second=jnp.stack([self.v_plus, self.v_minus]),
            signs=(1.0, -1.0),
            factor=1.0,
            stacked=(False, False),
        )

    def two_layers(self) -> DeepDiagonal:
        """The network of two layers with the same theta, flow of theta, potential and limit."""
        return self.pairs().network()

    def reduced(self) -> PairCoordinates:
        return PairCoordinates.of(self.pairs())
