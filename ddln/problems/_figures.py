"""The random problems of Figures 3 and 4 of Labarrière et al. 2024.

The figures say "generated randomly"; here X, y and the layers are standard normal, which is the
library's choice. Both figures have the loss |X theta - y|^2, that is `problem.loss(scale=1.0)`.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ddln._types import Array, Float, PRNGKeyArray
from ddln.problems._dtype import float_dtype
from ddln.problems._problem import Problem


def figure_3(
    key: PRNGKeyArray, *, dtype: DTypeLike | None = None
) -> tuple[Problem, Float[Array, "L d"]]:
    """The random problem of Figure 3, which shows that one layer at most changes sign.

    X [10, 5] and y [10] are standard normal, and so are the 4 layers.

    Example:
        >>> problem, layers = figure_3(jax.random.key(0))
        >>> loss, network = problem.loss(scale=1.0), ddln.DeepDiagonal(layers)

    Args:
        key: a JAX random key.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem and the layers, shape [4, 5].
    """
    return _random(key, n=10, d=5, layers=4, dtype=float_dtype(dtype), name="figure 3")


def figure_4(
    key: PRNGKeyArray, *, dtype: DTypeLike | None = None
) -> tuple[Problem, Float[Array, "B L d"]]:
    """The random problem of Figure 4: larger initial layers converge faster.

    X [10, 8] and y [10] are standard normal. Three networks of 6 layers start from a first layer of
    zeros; the other layers are standard normal in the first network, and 1.4 and 1.8 times those in
    the second and the third.

    Example:
        >>> problem, layers = figure_4(jax.random.key(0))
        >>> loss, networks = problem.loss(scale=1.0), jax.vmap(ddln.DeepDiagonal)(layers)

    Args:
        key: a JAX random key.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem and the layers of the three networks, shape [3, 6, 8].
    """
    dtype = float_dtype(dtype)
    problem, others = _random(key, n=10, d=8, layers=5, dtype=dtype, name="figure 4")
    network = jnp.concatenate([jnp.zeros((1, 8), dtype), others])
    return problem, jnp.asarray([1, 1.4, 1.8], dtype)[:, None, None] * network[None]


def _random(key, *, n, d, layers, dtype, name) -> tuple[Problem, Float[Array, "L d"]]:
    key_X, key_y, key_layers = jax.random.split(key, 3)
    X = jax.random.normal(key_X, (n, d), dtype)
    y = jax.random.normal(key_y, (n,), dtype)
    return Problem(X, y, name=name), jax.random.normal(key_layers, (layers, d), dtype)
