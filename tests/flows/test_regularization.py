"""Regularization of descent, explicit and implicit, against convex solvers."""

import functools

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import nnls

import ddln

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

RNG = np.random.default_rng(0)
SAMPLES, DIM = 10, 6
X = RNG.normal(size=(SAMPLES, DIM)) / np.sqrt(SAMPLES)
Y = X @ np.array([1.0, -0.8, 0.5, 0.0, 0.0, 0.0]) + 0.05 * RNG.normal(size=SAMPLES)
LOSS = ddln.LeastSquares(X, Y)
PENALTIES = np.array([0.03, 0.1, 0.3, 0.6])


def decayed(parameterization, penalty, steps=20_000, rate=0.2):
    optimizer = optax.chain(optax.add_decayed_weights(penalty), optax.sgd(rate))
    return ddln.descend(parameterization, LOSS, optimizer, steps, throw=False)


def ends(make, layers):
    """theta for each penalty."""
    run = quick_jit(jax.vmap(lambda penalty: decayed(make(layers), penalty).theta[-1]))
    return np.asarray(run(jnp.asarray(PENALTIES)))


def penalized(penalty, norm):
    """argmin |X theta - y|^2 / 2 + penalty * norm(theta)."""
    theta = cp.Variable(DIM)
    objective = cp.sum_squares(X @ theta - Y) / 2 + penalty * norm(theta)
    cp.Problem(cp.Minimize(objective)).solve("CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12)
    return theta.value


def test_decay_of_two_layers_is_the_lasso():
    """min over u v = theta of (u^2 + v^2) / 2 is |theta|."""
    layers = jnp.asarray(RNG.normal(size=(2, DIM)))
    found = ends(ddln.DeepDiagonal, layers)
    expected = [penalized(penalty, cp.norm1) for penalty in PENALTIES]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # From more to less sparse, so that the path tells penalties apart.
    counts = np.sum(np.abs(found) > 1e-6, axis=1)
    assert np.all(np.diff(counts) <= 0)
    assert counts[0] > counts[-1]


def test_decay_of_group_products_is_the_group_lasso():
    """min over u v = theta of (u^2 + |v|^2) / 2 is |theta|, with one u for the vector v of a group."""

    def make(weights):
        return ddln.FromFunction(lambda w: (w["group"][:, None] * w["entry"]).reshape(-1), weights)

    weights = {"group": jnp.ones(3), "entry": jnp.asarray(RNG.normal(size=(3, 2)))}
    found = ends(make, weights)

    def norm(theta):
        return sum(cp.norm2(theta[2 * group : 2 * group + 2]) for group in range(3))

    expected = [penalized(penalty, norm) for penalty in PENALTIES]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.any(np.all(np.abs(found.reshape(-1, 3, 2)) < 1e-6, axis=2))


@pytest.mark.parametrize("depth", [3, 4])
def test_decay_of_deep_networks_is_a_fractional_penalty(depth):
    """min over u^1 ... u^L = theta of sum (u^j)^2 / 2 is (L/2) |theta|^(2/L), which is not convex.

    Where theta_i is not zero, g_i + penalty |theta_i|^(2/L - 1) sign(theta_i) = 0.
    """
    layers = jnp.asarray(np.random.default_rng(depth).normal(size=(depth, DIM)))

    def end(penalty):
        run = decayed(ddln.DeepDiagonal(layers), penalty, rate=0.05)
        return run.theta[-1], run.parameterization.layers[-1]

    penalties, actives = jnp.asarray([0.02, 0.05]), []
    for penalty, theta, ended in zip(penalties, *quick_jit(jax.vmap(end))(penalties), strict=True):
        active = np.abs(theta) > 1e-3
        actives.append(int(np.sum(active)))
        np.testing.assert_allclose(theta[~active], 0, atol=1e-10)
        slope = X[:, active].T @ (X @ np.asarray(theta) - Y)
        theta = np.asarray(theta)[active]
        power = np.abs(theta) ** (2 / depth - 1) * np.sign(theta)
        np.testing.assert_allclose(slope, -penalty * power, atol=1e-7)
        # The l1 penalty is another one.
        assert np.max(np.abs(slope + penalty * np.sign(theta))) > 1e-3
        sizes = np.abs(ended)
        np.testing.assert_allclose(sizes, np.broadcast_to(sizes[:1], sizes.shape), atol=1e-7)
    assert 0 < min(actives) < DIM


def test_squares_end_at_non_negative_least_squares():
    run = ddln.descend(ddln.Square(jnp.ones(DIM)), LOSS, optax.sgd(0.2), 10_000)
    expected, _ = nnls(X, Y)
    assert 0 < np.sum(expected == 0) < DIM
    np.testing.assert_allclose(run.theta[-1], expected, atol=1e-8)


def lasso_path(X, y, penalties, iterations=3000):
    """argmin |X theta - y|^2 / 2 + penalty |theta|_1 for all penalties, by accelerated proximal steps."""
    theta = np.zeros((X.shape[1], len(penalties)))
    ahead, weight, rate = theta, 1.0, 1 / np.linalg.norm(X, 2) ** 2
    for _ in range(iterations):
        moved = ahead - rate * X.T @ (X @ ahead - y[:, None])
        new = np.sign(moved) * np.maximum(np.abs(moved) - rate * penalties, 0)
        following = (1 + np.sqrt(1 + 4 * weight**2)) / 2
        ahead, theta, weight = new + (weight - 1) / following * (new - theta), new, following
    return theta


def test_early_stopping_is_as_good_as_the_best_lasso():
    """Noisy sparse recovery: the risk falls, and rises again when the noise is fitted."""
    problem = ddln.problems.sparse_regression(jax.random.key(1), 40, 80, sparsity=4, noise=0.05)
    X, y, truth = (np.asarray(a) for a in (problem.X, problem.y, problem.theta_true))
    ts = np.unique(np.round(np.geomspace(1, 20_000, 200)))
    network = ddln.DeepDiagonal.zero_last(jnp.ones(80), 2, 1e-3)
    run = ddln.descend(network, problem.loss(), optax.sgd(0.05), 20_000, ts=ts)
    risks = np.sum((np.asarray(run.theta) - truth) ** 2, axis=1)
    penalties = np.geomspace(1e-4, 1, 60)
    best = np.min(np.sum((lasso_path(X, y, penalties) - truth[:, None]) ** 2, axis=0))
    assert np.min(risks) < 1.1 * best
    assert risks[-1] > 2 * np.min(risks)
    assert 0 < np.argmin(risks) < len(risks) - 1
