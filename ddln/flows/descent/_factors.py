"""The record of a descent of two layers, for its gain."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.parameterizations import AbstractParameterization, DeepDiagonal


class TwoLayerFactors(eqx.Module):
    """The factors by which gradient steps multiply w_+- = (u +- v)/sqrt(2), for theta = c u v.

    Attributes:
        product: prod_k (1 - x_k) and prod_k (1 + x_k), x_k = -c (xi_{k+1} - xi_k), shape [2, d], with
            a leading axis T in a trajectory. For a gradient step x_k = gamma_k c g_k and these are
            w_+-(K) / w_+-(0); their logarithms are sum log|1 -+ x_k|.
        factor: c.
    """

    product: Float[Array, "*T 2 d"]
    factor: float = eqx.field(static=True)

    def after(self, move: Float[Array, " d"]) -> "TwoLayerFactors":
        """The products after one more step, which has moved the dual by `move`."""
        x = -self.factor * move
        return TwoLayerFactors(self.product * (1 + jnp.stack([-x, x])), self.factor)


def no_factors(parameterization: AbstractParameterization) -> TwoLayerFactors | None:
    """The products of no factors, or None where there are not two layers."""
    if not isinstance(parameterization, DeepDiagonal) or parameterization.depth != 2:
        return None
    return TwoLayerFactors(jnp.ones_like(parameterization.layers), parameterization.factor)
