"""Random problems with a sparse true parameter and a correlated design."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ddln._types import Array, Float, PRNGKeyArray, Scalar
from ddln._validation import is_known
from ddln.problems._dtype import float_dtype
from ddln.problems._problem import Problem


def sparse_regression(
    key: PRNGKeyArray,
    n: int,
    d: int,
    *,
    sparsity: int,
    noise: float | Scalar = 0.0,
    correlation: float | Scalar = 0.0,
    normalize: bool = True,
    dtype: DTypeLike | None = None,
) -> Problem:
    """A random sparse linear regression, y = X theta_true + noise * epsilon.

    The rows of X are independent normal AR(1) sequences: each entry has variance 1, and columns i
    and j have the Toeplitz correlation rho^|i - j|, rho = `correlation`. The support of theta_true
    is uniform among those of size `sparsity`; its entries there have a random sign and a magnitude
    uniform in [0.5, 1.5], so that they are neither tied nor near zero. epsilon is standard normal.

    Example:
        >>> problem = sparse_regression(jax.random.key(0), 20, 50, sparsity=3)
        >>> problem.X.shape, int(jnp.sum(problem.theta_true != 0))
        ((20, 50), 3)

    Args:
        key: a JAX random key.
        n: the number of samples.
        d: the number of features.
        sparsity: the number of nonzero entries of theta_true, 0 to d.
        noise: the standard deviation of the noise on each target; may be traced.
        correlation: that of neighboring columns, above -1 and below 1; may be traced.
        normalize: whether X is divided by sqrt(n), so that the mean of X^T X is the correlation
            matrix, whatever n is. This divides the signal X theta_true, but not the noise.
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem, with its theta_true.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if is_known(noise) and not (noise >= 0 and np.isfinite(noise)):
        raise ValueError(f"Argument `noise` must be finite and at least 0, but it is {noise}.")
    X, theta, dtype, key = _design(key, n, d, sparsity, correlation, normalize, dtype)
    y = X @ theta + jnp.asarray(noise, dtype) * jax.random.normal(key, (n,), dtype)
    return Problem(X, y, theta, name="sparse regression")


def sparse_classification(
    key: PRNGKeyArray,
    n: int,
    d: int,
    *,
    sparsity: int,
    flip: float | Scalar = 0.0,
    correlation: float | Scalar = 0.0,
    normalize: bool = True,
    dtype: DTypeLike | None = None,
) -> Problem:
    """A random linear classification, y = sign(X theta_true) with labels -1 and 1.

    X and theta_true are distributed as in `sparse_regression`. theta_true separates the classes
    until each label is flipped, independently, with probability `flip`.

    Example:
        >>> problem = sparse_classification(jax.random.key(0), 20, 50, sparsity=3)
        >>> bool(jnp.all(problem.y * (problem.X @ problem.theta_true) > 0))
        True

    Args:
        key: a JAX random key.
        n: the number of samples.
        d: the number of features.
        sparsity: the number of nonzero entries of theta_true, 1 to d.
        flip: the probability of a wrong label, 0 to 1; may be traced.
        correlation: that of neighboring columns, above -1 and below 1; may be traced.
        normalize: whether X is divided by sqrt(n).
        dtype: the dtype of the arrays; JAX's default float dtype if not given.

    Returns:
        The problem, with its theta_true.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if sparsity == 0:
        raise ValueError(
            "Argument `sparsity` must be at least 1 for labels to mean anything, but it is 0."
        )
    if is_known(flip) and not 0 <= flip <= 1:
        raise ValueError(f"Argument `flip` must be a probability, but it is {flip}.")
    X, theta, dtype, key = _design(key, n, d, sparsity, correlation, normalize, dtype)
    flipped = jax.random.bernoulli(key, flip, (n,))
    y = jnp.where((X @ theta > 0) ^ flipped, 1, -1).astype(dtype)
    return Problem(X, y, theta, name="sparse classification")


def _design(key, n, d, sparsity, correlation, normalize, dtype):
    """X, theta_true, the dtype, and a key for what comes next."""
    if n < 1 or d < 1:
        raise ValueError(f"Arguments `n` and `d` must be at least 1, but they are {n} and {d}.")
    if not 0 <= sparsity <= d:
        raise ValueError(f"Argument `sparsity` must be from 0 to d = {d}, but it is {sparsity}.")
    if is_known(correlation) and not -1 < correlation < 1:
        raise ValueError(
            f"Argument `correlation` must be above -1 and below 1, but it is {correlation}."
        )
    dtype = float_dtype(dtype)
    key_design, key_support, key_sign, key_size, key = jax.random.split(key, 5)
    X = _autoregressive(key_design, n, d, jnp.asarray(correlation, dtype))
    if normalize:
        X = X / n**0.5
    support = jax.random.permutation(key_support, d) < sparsity
    size = jax.random.uniform(key_size, (d,), dtype, 0.5, 1.5)
    theta = jnp.where(support, size * jax.random.rademacher(key_sign, (d,), dtype), 0)
    return X, theta, dtype, key


def _autoregressive(key, n: int, d: int, rho: Scalar) -> Float[Array, "n d"]:
    """Rows x_0 = z_0, x_j = rho x_{j-1} + sqrt(1 - rho^2) z_j: O(n d), no d x d covariance."""
    z = jax.random.normal(key, (d, n), rho.dtype)
    innovation = jnp.sqrt((1 - rho) * (1 + rho))

    def step(previous, fresh):
        current = rho * previous + innovation * fresh
        return current, current

    _, columns = jax.lax.scan(step, z[0], z[1:])
    return jnp.concatenate([z[:1], columns]).T
