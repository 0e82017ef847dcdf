"""Solutions of smallest norm, and measures of the distance of theta to them."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Scalar, Theta
from ddln._validation import float_array
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import potential


def minimum_l1(X, y, weights=None) -> np.ndarray:
    """The minimizer of |X theta - y|^2 of smallest (weighted) l1 norm.

    It solves min sum_i weights_i |theta_i| subject to X^T (X theta - y) = 0, which is X theta = y
    wherever that is solvable, as a linear program in the positive and negative parts of theta. The
    solution is an end point of the polytope of solutions, one of several if it is not unique. Not for use
    inside `jax.jit`: a reference, computed by HiGHS (`scipy.optimize.linprog`).

    Args:
        X: the inputs, shape [n, d].
        y: the targets, shape [n].
        weights: positive weights, shape [d], or [2, d] with one row for the positive and one for the
            negative part of theta, as `ddln.l1_weights` gives them; ones if not given. An infinite one
            excludes its sign.

    Returns:
        theta, shape [d], float64.

    Raises:
        ValueError: if the shapes do not fit, or values are not finite or weights not positive.
        RuntimeError: if the linear program is not solved.
    """
    rows, target = _equations(X, y)
    d = rows.shape[1]
    costs = np.ones((2, d)) if weights is None else np.broadcast_to(weights, (2, d))
    costs = np.asarray(costs, np.float64).reshape(-1)
    if not np.all(costs > 0):
        raise ValueError("Argument `weights` must be positive, but it has entries that are not.")
    allowed = np.isfinite(costs)

    # Imported late: SciPy takes a third of the time of importing this package.
    from scipy.optimize import linprog

    answer = linprog(
        costs[allowed],
        A_eq=np.hstack([rows, -rows])[:, allowed],
        b_eq=target,
        method="highs-ds",
    )
    if answer.x is None:
        raise RuntimeError(f"The linear program of `minimum_l1` was not solved: {answer.message}")
    parts = np.zeros(2 * d)
    parts[allowed] = answer.x
    return parts[:d] - parts[d:]


def minimum_l2(X, y) -> np.ndarray:
    """The minimizer of |X theta - y|^2 of smallest l2 norm, X^+ y.

    Args:
        X: the inputs, shape [n, d].
        y: the targets, shape [n].

    Returns:
        theta, shape [d], float64.
    """
    X = np.asarray(float_array("X", X, "n d"), np.float64)
    y = np.asarray(float_array("y", y, "n"), np.float64)
    return np.linalg.lstsq(X, y, rcond=None)[0]


def minimum_nuclear_norm(X, y) -> np.ndarray:
    """The minimizer of |X theta - y|^2 of smallest nuclear norm, for a matrix theta.

    A comparison for matrix factorizations. Flows of U V^T from small starts tend to it only for
    measurements that commute, or that determine it; in general they end near it, not at it. Not for
    use inside `jax.jit`: a semidefinite program, modelled by cvxpy and solved by Clarabel.

    Args:
        X: the measurement matrices, shape [n, rows, columns].
        y: the targets, shape [n].

    Returns:
        theta, shape [rows, columns], float64, to about eight digits of its norm.

    Raises:
        ImportError: if cvxpy is not installed.
        ValueError: if the shapes do not fit, or values are not finite.
        RuntimeError: if the program is not solved.
    """
    try:
        import cvxpy
    except ImportError as error:
        raise ImportError(
            "`minimum_nuclear_norm` needs cvxpy, which ddln does not install by itself (it is in the "
            "extra `test`): `pip install cvxpy`."
        ) from error
    X = np.asarray(float_array("X", X, "n rows columns"), np.float64)
    rows, target = _equations(X.reshape(len(X), -1), y)
    theta = cvxpy.Variable(X.shape[1:])
    fits = [rows @ cvxpy.vec(theta, order="C") == target]
    program = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(theta)), fits)
    program.solve(cvxpy.CLARABEL)
    if theta.value is None:
        raise RuntimeError(
            f"The program of `minimum_nuclear_norm` was not solved: {program.status}."
        )
    return np.asarray(theta.value)


def _equations(X, y) -> tuple[np.ndarray, np.ndarray]:
    """The normal equations X^T (X theta - y) = 0 as equations of full rank.

    In the basis of the singular vectors they have no squared condition.
    """
    X = np.asarray(float_array("X", X, "n d"), np.float64)
    y = np.asarray(float_array("y", y, "n"), np.float64)
    n, d = X.shape
    if y.shape != (n,):
        raise ValueError(f"Argument `y` must have {n} entries, as X has rows, but it has {y.size}.")
    left, singular, right = np.linalg.svd(X, full_matrices=False)
    kept = singular > max(n, d) * np.finfo(float).eps * singular[0]
    return right[kept], (left[:, kept].T @ y) / singular[kept]


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
