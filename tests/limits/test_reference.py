import cvxpy as cp
import numpy as np
import pytest

import ddln


def problem(n, d, rank=None, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    if rank is not None:
        X = X[:, :rank] @ rng.normal(size=(rank, d))
    return X, X @ rng.normal(size=d) + noise * rng.normal(size=n)


@pytest.mark.parametrize(
    ("n", "d", "rank", "noise"),
    [(4, 9, None, 0.0), (6, 6, None, 0.0), (8, 6, 3, 1.0), (9, 4, None, 1.0)],
)
def test_minimum_l1_against_cvxpy(n, d, rank, noise):
    X, y = problem(n, d, rank, noise)
    theta = ddln.minimum_l1(X, y)
    variable = cp.Variable(d)
    feasible = [X @ variable == X @ np.linalg.lstsq(X, y, rcond=None)[0]]
    best = cp.Problem(cp.Minimize(cp.norm1(variable)), feasible).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(np.abs(theta).sum(), best, rtol=1e-6)
    np.testing.assert_allclose(X.T @ (X @ theta - y), 0, atol=1e-9)


def test_weights_for_the_two_signs():
    X, y = problem(3, 8)
    weights = np.random.default_rng(1).uniform(0.2, 5.0, (2, 8))
    theta = ddln.minimum_l1(X, y, weights)
    variable = cp.Variable(8)
    cost = weights[0] @ cp.pos(variable) + weights[1] @ cp.neg(variable)
    best = cp.Problem(cp.Minimize(cost), [X @ variable == y]).solve(solver=cp.CLARABEL)
    reached = weights[0] @ np.maximum(theta, 0) + weights[1] @ np.maximum(-theta, 0)
    np.testing.assert_allclose(reached, best, rtol=1e-6)
    plain = ddln.minimum_l1(X, y)
    assert weights[0] @ np.maximum(plain, 0) + weights[1] @ np.maximum(-plain, 0) > 1.01 * best


def test_minimum_l2_is_the_pseudo_inverse():
    X, y = problem(3, 8)
    np.testing.assert_allclose(ddln.minimum_l2(X, y), np.linalg.pinv(X) @ y, atol=1e-12)


def test_bad_arguments():
    X, y = problem(3, 4)
    with pytest.raises(ValueError, match="`y` must have 3 entries"):
        ddln.minimum_l1(X, y[:2])
    with pytest.raises(ValueError, match="`weights` must be positive"):
        ddln.minimum_l1(X, y, np.zeros(4))
