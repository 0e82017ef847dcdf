"""The problem on which this package is timed."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ddln._types import Array, Float, PRNGKeyArray
from ddln.problems._dtype import float_dtype
from ddln.problems._problem import Problem


def case_h(
    key: PRNGKeyArray,
    *,
    n: int = 20,
    d: int = 50,
    depth: int = 3,
    initializations: int = 64,
    dtype: DTypeLike | None = None,
) -> tuple[Problem, Float[Array, "B L d"]]:
    """Case H, the benchmark: one sparse problem from small to large initializations.

    X is standard normal over sqrt(n), theta_true = (1, -1, 0.7, 0, ...), and y = X theta_true. The
    starts are one standard normal stack of layers times scales log-spaced from 10^-2 to 10^0.3: the
    small ones are slow, the large ones stiff. The loss is `problem.loss()`.

    Example:
        >>> problem, layers = case_h(jax.random.key(0))
        >>> loss, networks = problem.loss(), jax.vmap(ddln.DeepDiagonal)(layers)

    Args:
        key: a JAX random key.
        n: the number of samples.
        d: the number of features, at least 3.
        depth: the number of layers L.
        initializations: the number of scales B.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem and the layers of all starts, shape [B, L, d], in ascending order of scale.

    Raises:
        ValueError: if d < 3 or another size is below 1.
    """
    if d < 3 or min(n, depth, initializations) < 1:
        raise ValueError(
            "Arguments `d`, `n`, `depth` and `initializations` must be at least 3, 1, 1 and 1, "
            f"but they are {d}, {n}, {depth} and {initializations}."
        )
    dtype = float_dtype(dtype)
    key_X, key_layers = jax.random.split(key)
    X = jax.random.normal(key_X, (n, d), dtype) / n**0.5
    theta = jnp.zeros(d, dtype).at[:3].set(jnp.asarray([1, -1, 0.7], dtype))
    base = jax.random.normal(key_layers, (depth, d), dtype)
    scales = jnp.logspace(-2, 0.3, initializations, dtype=dtype)
    return Problem(X, X @ theta, theta, name="case H"), scales[:, None, None] * base[None]
