"""Weight decay on w, and the penalty on theta that it amounts to."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import nnls

import ddln

PENALTIES = np.array([0.02, 0.1, 0.5, 2.0])


def problem(n=12, d=6):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) / np.sqrt(n)
    y = X @ np.array([2.0, -1.5, 0.0, 0.0, 1.0, 0.0]) + 0.1 * rng.normal(size=n)
    return X, y, ddln.LeastSquares(X, y)


def ends(start, loss, t1=2e4):
    """theta at the ends of the flows with all the penalties."""

    @jax.jit
    @jax.vmap
    def end(penalty):
        flow = ddln.gradient_flow(
            start, loss, t1, weight_decay=penalty, rtol=1e-9, atol=1e-12, throw=False
        )
        return flow.theta[-1], ddln.is_okay(flow.result)

    theta, okay = end(jnp.asarray(PENALTIES))
    assert np.all(okay)
    return np.asarray(theta)


def solve(X, y, penalty):
    """argmin |X theta - y|^2 / 2 + penalty(theta)."""
    theta = cp.Variable(X.shape[1])
    objective = cp.sum_squares(X @ theta - y) / 2 + penalty(theta)
    cp.Problem(cp.Minimize(objective)).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10
    )
    return theta.value


def test_flow_agrees_with_scipy():
    X, y, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(0), 3, 6, scale=0.8)
    flow = ddln.gradient_flow(network, loss, 3.0, weight_decay=0.3, rtol=1e-9, atol=1e-12)

    def velocity(t, w):
        layers = w.reshape(3, 6)
        g = X.T @ (X @ layers.prod(0) - y)
        others = np.stack([np.delete(layers, j, 0).prod(0) for j in range(3)])
        return (-g * others - 0.3 * layers).ravel()

    weights = np.asarray(network.layers).ravel()
    reference = solve_ivp(velocity, (0, 3), weights, method="DOP853", rtol=1e-12, atol=1e-14)
    layers = reference.y[:, -1].reshape(3, 6)
    np.testing.assert_allclose(flow.final.layers, layers, rtol=0, atol=1e-8)
    assert flow.method.startswith("full")


def test_two_layers_end_at_the_lasso():
    X, y, loss = problem()
    theta = ends(ddln.DeepDiagonal.random(jax.random.key(1), 2, 6), loss)
    for penalty, end in zip(PENALTIES, theta, strict=True):
        lasso = solve(X, y, lambda theta, p=penalty: p * cp.norm1(theta))
        np.testing.assert_allclose(end, lasso, rtol=0, atol=1e-6)


def test_groups_end_at_the_group_lasso():
    X, y, loss = problem()
    rng = np.random.default_rng(2)
    start = ddln.FromFunction(
        lambda w: (w["gain"][:, None] * w["direction"]).reshape(-1),
        {"gain": jnp.ones(3), "direction": jnp.asarray(rng.normal(size=(3, 2)))},
    )
    theta = ends(start, loss)
    for penalty, end in zip(PENALTIES, theta, strict=True):
        group = solve(
            X, y, lambda theta, p=penalty: p * sum(cp.norm2(theta[i : i + 2]) for i in (0, 2, 4))
        )
        np.testing.assert_allclose(end, group, rtol=0, atol=1e-5)


def test_deep_networks_end_where_the_deep_penalty_is_stationary():
    """0 = grad L + lambda sign(theta) |theta|^(2/L - 1): a minimum of L + (lambda L/2) |theta|^(2/L)."""
    X, y, loss = problem()
    theta = ends(ddln.DeepDiagonal.random(jax.random.key(3), 4, 6), loss)
    gradient = (theta @ X.T - y) @ X
    nonzero = np.abs(theta) > 1e-6
    slope = np.sign(theta) * np.abs(np.where(nonzero, theta, 1)) ** (2 / 4 - 1)
    residual = np.where(nonzero, gradient + PENALTIES[:, None] * slope, 0)
    np.testing.assert_allclose(residual, 0, atol=1e-6)
    assert np.count_nonzero(nonzero[0]) > np.count_nonzero(nonzero[-1])


def test_square_ends_at_nonnegative_least_squares():
    X, y, loss = problem()
    flow = ddln.gradient_flow(ddln.Square(jnp.full(6, 0.5)), loss, 1e6)
    np.testing.assert_allclose(flow.theta[-1], nnls(X, y)[0], rtol=0, atol=1e-5)


def test_bad_arguments():
    _, _, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(0), 2, 6)
    with pytest.raises(ValueError, match="Argument `weight_decay` must be finite and not negative"):
        ddln.gradient_flow(network, loss, 1.0, weight_decay=-1.0)
    with pytest.raises(ValueError, match="'auto' for DeepDiagonal, with weight decay"):
        ddln.gradient_flow(network, loss, 1.0, weight_decay=1.0, coordinates="reduced")
