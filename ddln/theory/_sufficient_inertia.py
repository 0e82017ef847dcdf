"""How much momentum is certain to shrink the gaps."""

import jax.numpy as jnp

from ddln._types import Scalar
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization
from ddln.theory._deep_diagonal import deep_diagonal


def sufficient_inertia(parameterization: AbstractParameterization, loss: LeastSquares) -> Scalar:
    """An inertia up to which neither u + v nor u - v changes sign, for constant damping:

        lambda = 1 / (8 |c| sqrt(kappa L(theta_0)) max_i |x_i|),   x_i the columns of X.

    Derivation: h = w_+-' / w_+- obeys lambda h' = -lambda h^2 - h -+ c g, so that h = -1 / (2 lambda) is
    a barrier while 4 lambda |c g| <= 1; and L + (lambda/2) |w'|^2 decreases, so that
    |g_i| <= 2 sqrt(kappa L) |x_i| stays below its value at the start. It is far from necessary.

    Args:
        parameterization: a `DeepDiagonal` with two layers, the start.
        loss: L = kappa |X theta - y|^2.

    Returns:
        lambda, infinite where the loss vanishes at the start.

    Raises:
        ValueError: if the parameterization or the loss is another.
    """
    network = deep_diagonal(parameterization)
    if network.depth != 2 or not isinstance(loss, LeastSquares):
        raise ValueError(
            "`sufficient_inertia` needs two layers and a `ddln.LeastSquares`, but there are "
            f"{network.depth} and a {type(loss).__name__}."
        )
    longest = jnp.sqrt(jnp.max(jnp.sum(jnp.square(loss.design), axis=0)))
    size = jnp.sqrt(loss.scale * loss(network.effective()))
    return 1 / (8 * abs(network.factor) * size * longest)
