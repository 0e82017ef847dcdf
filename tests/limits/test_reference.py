"""Solutions of smallest norm (`_measures`) against cvxpy."""

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


def test_an_infinite_weight_excludes_a_sign():
    X, y = problem(3, 8)
    weights = np.ones((2, 8))
    plain = ddln.minimum_l1(X, y)
    first = np.argmax(np.abs(plain))
    weights[int(plain[first] < 0), first] = np.inf
    theta = ddln.minimum_l1(X, y, weights)
    assert theta[first] * plain[first] <= 0
    np.testing.assert_allclose(X @ theta, y, atol=1e-9)
    variable = cp.Variable(8)
    feasible = [X @ variable == y, np.sign(plain[first]) * variable[first] <= 0]
    best = cp.Problem(cp.Minimize(cp.norm1(variable)), feasible).solve(solver=cp.CLARABEL)
    np.testing.assert_allclose(np.abs(theta).sum(), best, rtol=1e-6)


def test_minimum_nuclear_norm():
    rng = np.random.default_rng(0)
    # As many measurements as determine a matrix of rank one.
    truth = np.outer(rng.normal(size=4), rng.normal(size=3))
    X = rng.normal(size=(11, 4, 3))
    theta = ddln.minimum_nuclear_norm(X, np.einsum("nij,ij->n", X, truth))
    np.testing.assert_allclose(theta, truth, atol=1e-5)
    # A certificate of optimality: theta = U S V^T and sum_i nu_i X_i = U V^T + W, |W| <= 1, U^T W = 0.
    X, y = rng.normal(size=(4, 4, 3)), rng.normal(size=4)
    theta = ddln.minimum_nuclear_norm(X, y)
    np.testing.assert_allclose(np.einsum("nij,ij->n", X, theta), y, atol=1e-6)
    left, singular, right = np.linalg.svd(theta)
    rank = np.sum(singular > 1e-4)
    u, v, rest, rest_v = left[:, :rank], right[:rank], left[:, rank:], right[rank:]
    projected = [np.concatenate([(u.T @ x).ravel(), (rest.T @ x @ v.T).ravel()]) for x in X]
    wanted = np.concatenate([v.ravel(), np.zeros((4 - rank) * rank)])
    nu = np.linalg.lstsq(np.array(projected).T, wanted, rcond=None)[0]
    dual = np.einsum("n,nij->ij", nu, X)
    np.testing.assert_allclose(u.T @ dual, v, atol=1e-4)
    assert np.linalg.norm(rest.T @ dual @ rest_v.T, 2) < 1
