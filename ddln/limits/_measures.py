"""How close theta is to the solutions that a bias is compared with."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.limits._reference import minimum_l1, minimum_l2


def effective_sparsity(theta) -> Float[Array, "*batch"]:
    """|theta|_1^2 / |theta|_2^2: k for k entries of equal size, between 1 and d; 0 for theta = 0.

    Args:
        theta: effective parameters along the last axis; any leading axes.
    """
    theta = float_array("theta", theta, "... d")
    squared = jnp.sum(jnp.square(theta), axis=-1)
    return jnp.square(jnp.sum(jnp.abs(theta), axis=-1)) / jnp.where(squared > 0, squared, 1)


def excess_l1(theta, X, y) -> np.ndarray:
    """|theta|_1 / |theta_1|_1 - 1, with theta_1 the least-squares solution of smallest l1 norm.

    Not negative, up to rounding, for a theta that minimizes |X theta - y|. Not for use inside
    `jax.jit`: see `minimum_l1`.

    Args:
        theta: effective parameters along the last axis; any leading axes.
        X: the inputs, shape [n, d].
        y: the targets, shape [n].

    Raises:
        ValueError: if theta_1 = 0: y is orthogonal to the columns of X.
    """
    smallest = _l1_norm(minimum_l1(X, y))
    if smallest == 0:
        raise ValueError(
            "Argument `y` must have a part in the range of `X`, but theta = 0 fits it."
        )
    return np.asarray(_l1_norm(theta) / smallest - 1)


def richness(theta, X, y) -> np.ndarray:
    """Where the l1 norm of theta lies between the kernel regime (0) and the rich one (1).

    (|theta_2|_1 - |theta|_1) / (|theta_2|_1 - |theta_1|_1), with theta_p the least-squares solution of
    smallest lp norm. Negative for a theta farther from theta_1 than theta_2 is. Not for use inside
    `jax.jit`: see `minimum_l1`.

    Args:
        theta: effective parameters along the last axis; any leading axes.
        X: the inputs, shape [n, d].
        y: the targets, shape [n].

    Raises:
        ValueError: if both norms have the same solution, as for n >= d.
    """
    kernel, rich = _l1_norm(minimum_l2(X, y)), _l1_norm(minimum_l1(X, y))
    if kernel - rich <= 1e-9 * kernel:
        raise ValueError(
            "Arguments `X` and `y` must have different solutions of smallest l1 and l2 norm, but "
            "they are the same: there are no two regimes to tell apart."
        )
    return np.asarray((kernel - _l1_norm(theta)) / (kernel - rich))


def _l1_norm(theta) -> np.ndarray:
    return np.asarray(np.abs(np.asarray(theta, np.float64)).sum(axis=-1))
