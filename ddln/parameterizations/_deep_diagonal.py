"""Deep diagonal linear networks."""

from collections.abc import Sequence
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, PRNGKeyArray
from ddln._validation import constant, float_array, is_known
from ddln.parameterizations._base import AbstractParameterization
from ddln.parameterizations._canonical import CanonicalForm, products_of_others


class DeepDiagonal(AbstractParameterization):
    """theta = c u^1 * ... * u^L, elementwise: the deep diagonal linear network.

    The metric is diagonal, M_i = c^2 sum_j prod_{k != j} (u^k_i)^2. Source: Labarrière et al. 2024,
    equations 1 and 10 (there c = 1).

    Example:
        >>> network = DeepDiagonal([[1.0, 2.0], [3.0, -1.0]])
        >>> network.effective()
        Array([ 3., -2.], dtype=float64)

    Args:
        layers: u^1, ..., u^L as rows, shape [L, d], L >= 2.
        factor: the constant c, which is not trained.

    Raises:
        ValueError: if `layers` is not [L, d] with L >= 2 and d >= 1, is not real, or has known values
            that are not finite; if `factor` is zero or not finite.
    """

    layers: Float[Array, "L d"]
    factor: float = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, layers, factor: float = 1.0):
        self.layers = float_array("layers", layers, "L d")
        self.factor = constant("factor", factor)
        if self.depth < 2:
            raise ValueError(
                f"Argument `layers` must have at least 2 layers, but it has {self.depth}. "
                "A network with one layer is `ddln.Identity(theta)`."
            )
        if self.factor == 0 or not np.isfinite(self.factor):
            raise ValueError(
                f"Argument `factor` must be finite and not zero, but it is {self.factor}."
            )

    @classmethod
    def random(
        cls, key: PRNGKeyArray, depth: int, dim: int, scale: float | Float[Array, ""] = 1.0
    ) -> "DeepDiagonal":
        """A network with independent normal layers of standard deviation `scale`.

        Assumption A holds almost surely.

        Args:
            key: a JAX random key.
            depth: the number of layers L >= 2.
            dim: the number of coordinates d.
            scale: the size of the initialization; may be traced.
        """
        return cls(scale * jax.random.normal(key, (depth, dim)))

    @classmethod
    def zero_last(
        cls, ubar: Float[Array, " d"], depth: int, scale: float | Float[Array, ""] = 1.0
    ) -> "DeepDiagonal":
        """The network with u^L = 0 and u^j = scale * ubar for the other layers.

        Source: Yun, Krishnan and Mobahi 2021; Corollary 1 of Labarrière et al. 2024 (alpha = scale).

        Args:
            ubar: the common shape of the layers, no entry zero, shape [d].
            depth: the number of layers L >= 2.
            scale: the size of the initialization; may be traced.
        """
        rows = jnp.broadcast_to(scale * float_array("ubar", ubar, "d"), (depth, len(ubar)))
        return cls(rows.at[-1].set(0.0))

    @classmethod
    def balanced(cls, theta: Float[Array, " d"], depth: int) -> "DeepDiagonal":
        """The network whose layers have equal absolute values |theta|^(1/L), the first one with the sign.

        Every coordinate is a tie: Assumption A is violated and theta keeps its sign along the flow.

        Args:
            theta: the effective parameter, shape [d].
            depth: the number of layers L >= 2.
        """
        theta = float_array("theta", theta, "d")
        size = jnp.abs(theta) ** (1 / depth)
        rows = jnp.broadcast_to(size, (depth, theta.shape[0]))
        return cls(rows.at[0].multiply(jnp.sign(theta)))

    def with_learning_rates(self, rates: Sequence[float] | np.ndarray) -> "DeepDiagonal":
        """The network whose flow is that of this one with a learning rate for each layer:
        (u^j)' = -eta_j grad_{u^j} L, which conserves (u^j)^2 / eta_j - (u^k)^2 / eta_k.

        In the variables u^j / sqrt(eta_j) it is a plain gradient flow, with the factor c prod_j
        sqrt(eta_j): it has the same theta, potential and limit as the flow with the rates. Weight decay,
        if any, is decoupled from the rates: (u^j)' = -eta_j grad_{u^j} L - lambda u^j.

        Example:
            >>> DeepDiagonal([[1.0, 2.0], [3.0, -1.0]]).with_learning_rates([0.25, 4.0]).layers
            Array([[ 2. ,  4. ],
                   [ 1.5, -0.5]], dtype=float64)

        Args:
            rates: eta_1, ..., eta_L, positive.

        Raises:
            ValueError: if there is not one positive finite number for each layer.
        """
        known = np.asarray(rates, float)
        if known.shape != (self.depth,) or not np.all((known > 0) & np.isfinite(known)):
            raise ValueError(
                f"Argument `rates` must be {self.depth} positive numbers, one for each layer, but it is "
                f"{rates}."
            )
        roots = np.sqrt(known)
        layers = self.layers / roots[:, None].astype(self.layers.dtype)
        return DeepDiagonal(layers, self.factor * float(np.prod(roots)))

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return self.layers.shape[0]

    @property
    def homogeneity(self) -> int:
        return self.depth

    def effective(self) -> Float[Array, " d"]:
        return self.factor * jnp.prod(self.layers, axis=0)

    def canonical(self) -> CanonicalForm:
        """The canonical form: smallest layers, gaps, signs, and the permutation that sorts the layers."""
        return CanonicalForm.of(self.layers, self.factor)

    def reduced(self) -> CanonicalForm:
        return self.canonical()

    def jacobian(self) -> Float[Array, "D P"]:
        # d theta_i / d u^j_k = c delta_ik prod_{l != j} u^l_i, layers varying slowest.
        slopes = self.factor * products_of_others(self.layers)
        return jax.vmap(jnp.diag)(slopes).transpose(1, 0, 2).reshape(slopes.shape[1], -1)

    def metric_diagonal(self) -> Float[Array, " d"]:
        return jnp.sum(jnp.square(self.factor * products_of_others(self.layers)), axis=0)

    def frozen(self) -> np.ndarray:
        """Indices of the coordinates that never move, in which two layers or more are exactly zero.

        Raises:
            ValueError: if the values are not known: call it outside of `jax.jit` and `jax.vmap`.
        """
        if not is_known(self.layers):
            raise ValueError("`frozen` needs known layers. Call it outside of `jax.jit`.")
        return np.flatnonzero(np.sum(np.asarray(self.layers) == 0, axis=0) >= 2)
