"""Solutions to compare an implicit bias with."""

import numpy as np
from scipy.optimize import linprog

from ddln._validation import float_array, require_finite


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
            negative part of theta; ones if not given.

    Returns:
        theta, shape [d], float64.

    Raises:
        ValueError: if the shapes do not fit, or values are not finite or weights not positive.
        RuntimeError: if the linear program is not solved.
    """
    X = np.asarray(float_array("X", X, "n d"), np.float64)
    y = np.asarray(float_array("y", y, "n"), np.float64)
    n, d = X.shape
    if y.shape != (n,):
        raise ValueError(f"Argument `y` must have {n} entries, as X has rows, but it has {y.size}.")
    costs = np.ones((2, d)) if weights is None else np.broadcast_to(weights, (2, d))
    require_finite("weights", costs)
    if not np.all(costs > 0):
        raise ValueError("Argument `weights` must be positive, but it has entries that are not.")
    # In the basis of the singular vectors the normal equations have full rank and no squared condition.
    left, singular, right = np.linalg.svd(X, full_matrices=False)
    kept = singular > max(n, d) * np.finfo(float).eps * singular[0]
    rows = right[kept]
    target = (left[:, kept].T @ y) / singular[kept]
    answer = linprog(
        costs.reshape(-1), A_eq=np.hstack([rows, -rows]), b_eq=target, method="highs-ds"
    )
    if answer.x is None:
        raise RuntimeError(f"The linear program of `minimum_l1` was not solved: {answer.message}")
    return answer.x[:d] - answer.x[d:]


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
