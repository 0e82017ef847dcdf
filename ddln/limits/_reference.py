"""Reference solutions of smallest norm, to compare an implicit bias with."""

import numpy as np

from ddln._validation import float_array


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
