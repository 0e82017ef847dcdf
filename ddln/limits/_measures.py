"""Measures of the distance of theta to the solutions of smallest norm."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Scalar, Theta
from ddln._validation import float_array
from ddln.limits._reference import minimum_l1, minimum_l2
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import potential


def effective_sparsity(theta) -> Float[Array, "*batch"]:
    """|theta|_1^2 / |theta|_2^2: k for k entries of equal size, between 1 and d; 0 for theta = 0.

    Args:
        theta: effective parameters along the last axis; any leading axes.
    """
    theta = float_array("theta", theta, "... d")
    squared = jnp.sum(jnp.square(theta), axis=-1)
    return jnp.square(jnp.sum(jnp.abs(theta), axis=-1)) / jnp.where(squared > 0, squared, 1)


def excess_l1(theta, X, y, weights=None) -> np.ndarray:
    """|theta|_1 / |theta_1|_1 - 1, with theta_1 the least-squares solution of smallest l1 norm.

    Not negative, up to rounding, for a theta that minimizes |X theta - y|. Not for use inside
    `jax.jit`: see `minimum_l1`.

    Args:
        theta: effective parameters along the last axis; any leading axes.
        X: the inputs, shape [n, d].
        y: the targets, shape [n].
        weights: of the norm, as for `minimum_l1`; `l1_weights` gives the norm that small starts minimize.

    Raises:
        ValueError: if theta_1 = 0: y is orthogonal to the columns of X.
    """
    smallest = _l1_norm(minimum_l1(X, y, weights), weights)
    if smallest == 0:
        raise ValueError(
            "Argument `y` must have a part in the range of `X`, but theta = 0 fits it."
        )
    return np.asarray(_l1_norm(theta, weights) / smallest - 1)


def richness(theta, X, y) -> np.ndarray:
    """Position of the l1 norm of theta between the kernel regime (0) and the rich one (1).

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


def relative_distance(theta, reference) -> Float[Array, "*batch"]:
    """|theta - reference|_2 / |reference|_2, for example with `minimum_l1(X, y)` as the reference.

    Args:
        theta: effective parameters along the last axis; any leading axes.
        reference: the solution to compare with, not 0, shape [d].
    """
    theta = float_array("theta", theta, "... d")
    reference = float_array("reference", reference, "d").astype(theta.dtype)
    difference = theta - reference.reshape((1,) * (theta.ndim - 1) + reference.shape)
    return jnp.linalg.norm(difference, axis=-1) / jnp.linalg.norm(reference)


def regime_exponent(parameterization: AbstractParameterization, theta: Theta) -> Scalar:
    """The degree at which the potential grows at theta: 2 in the kernel regime, 1 in the rich one.

    <theta - theta_0, grad Q(theta)> / Q(theta), with Q = `ddln.potential(parameterization)`, which is p
    for |theta - theta_0|_p^p. It interpolates between the l2 and the (weighted) l1 norm without any
    reference to data. For two layers and theta_0 = 0 it is the degree of the function of Woodworth et al.

        Q(theta) = (D/4) sum_i q(2 theta_i / D_i),    q(z) = z arcsinh(z) - sqrt(1 + z^2) + 1,

    D_i = |u_i^2 - v_i^2| (up to their unit of theta), and falls from 2 to 1 as |theta| / D grows.
    Not less than 1, by convexity. To be used under `jax.jit` and `jax.vmap`.

    Source: Woodworth et al. 2020, Theorem 1, for the function.

    Args:
        parameterization: the start of the flow.
        theta: the effective parameter, in the domain of Q.
    """
    q = potential(parameterization)
    value = q.value(theta)
    growth = jnp.sum((theta - q.start) * q.mirror_map(theta))
    return jnp.where(value > 0, growth / jnp.where(value > 0, value, 1), 2)


def _l1_norm(theta, weights=None) -> np.ndarray:
    theta = np.asarray(theta, np.float64)
    if weights is None:
        return np.asarray(np.abs(theta).sum(axis=-1))
    upper, lower = np.broadcast_to(np.asarray(weights, np.float64), (2, theta.shape[-1]))
    return np.asarray((np.where(theta > 0, upper, lower) * np.abs(theta)).sum(axis=-1))
