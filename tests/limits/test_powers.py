"""Limits of squares, powers and differences of powers, against convex programs and SciPy's flows."""

import cvxpy as cp
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln

RNG = np.random.default_rng(3)
X = RNG.normal(size=(3, 6))
POSITIVE = X @ RNG.uniform(0.5, 1.5, 6)
ANY_SIGN = RNG.normal(size=3)
W, V = RNG.uniform(0.3, 1.0, (2, 6))
SIGNS = np.array([1, -1, 1, 1, -1, 1])

# Each with a target within its reach, and its flow of the weights by NumPy: theta, d theta / d w.
STARTS = {
    "square": (ddln.Square(W), POSITIVE, lambda w: (w**2 / 2, w)),
    "odd power": (
        ddln.Power(SIGNS * W, 3),
        X @ (SIGNS * RNG.uniform(0.5, 1.5, 6)),
        lambda w: (w**3, 3 * w**2),
    ),
    "even power": (ddln.Power(SIGNS * W, 4), POSITIVE, lambda w: (w**4, 4 * w**3)),
    **{
        f"difference of powers {depth}": (
            ddln.PowerDifference(W, V, depth),
            ANY_SIGN,
            lambda w, L=depth: (
                w[:6] ** L - w[6:] ** L,
                np.concatenate([L * w[:6] ** (L - 1), -L * w[6:] ** (L - 1)]),
            ),
        )
        for depth in (2, 3, 5)
    },
}


def integrated(parameterization, target, theta_and_slope):
    """The weights at a time when the loss is at rounding."""

    def velocity(t, w):
        theta, slope = theta_and_slope(w)
        g = X.T @ (X @ theta - target)
        return -slope * np.tile(g, len(w) // 6)

    start = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameterization)])
    flow = solve_ivp(velocity, (0, 1e4), start, method="LSODA", rtol=1e-12, atol=1e-14)
    w = flow.y[:, -1]
    assert np.abs(X @ theta_and_slope(w)[0] - target).max() < 1e-9
    return w


@pytest.mark.parametrize("name", STARTS)
def test_end_of_the_flow_of_the_weights(name):
    parameterization, target, theta_and_slope = STARTS[name]
    w = integrated(parameterization, target, theta_and_slope)
    loss = ddln.LeastSquares(X, target)
    end = ddln.limit(parameterization, loss)
    assert end.method == "path"
    assert max(float(end.residual), float(end.gap)) < 1e-12
    np.testing.assert_allclose(end.theta, theta_and_slope(w)[0], atol=1e-8)
    weights = np.concatenate(jax.tree.leaves(end.parameterization))
    np.testing.assert_allclose(weights, w, atol=1e-8)


def test_flow_of_a_difference_of_powers_uses_its_structure():
    parameterization, target, theta_and_slope = STARTS["difference of powers 3"]
    w = integrated(parameterization, target, theta_and_slope)
    flow = ddln.gradient_flow(
        parameterization, ddln.LeastSquares(X, target), 1e4, rtol=1e-8, atol=1e-11
    )
    assert flow.method == "reduced, Rodas5P"
    np.testing.assert_allclose(flow.theta[-1], theta_and_slope(w)[0], atol=1e-6)


def test_square_has_the_least_relative_entropy():
    theta, start = cp.Variable(6), W**2 / 2
    problem = cp.Problem(cp.Minimize(cp.sum(cp.kl_div(theta, start))), [X @ theta == POSITIVE])
    problem.solve(solver=cp.CLARABEL)
    end = ddln.limit(ddln.Square(W), ddln.LeastSquares(X, POSITIVE))
    np.testing.assert_allclose(end.theta, theta.value, atol=2e-5)


def test_theta_may_be_a_matrix():
    loss = ddln.LeastSquares(X.reshape(3, 2, 3), ANY_SIGN)
    shaped = ddln.limit(ddln.PowerDifference(W.reshape(2, 3), V.reshape(2, 3), 3), loss)
    flat = ddln.limit(ddln.PowerDifference(W, V, 3), ddln.LeastSquares(X, ANY_SIGN))
    np.testing.assert_allclose(shaped.theta.reshape(-1), flat.theta, rtol=1e-12)
    assert shaped.parameterization.positive.shape == (2, 3)


@pytest.mark.parametrize("name", ["square", "difference of powers 2", "difference of powers 3"])
def test_derivatives(name):
    parameterization, target, _ = STARTS[name]
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)), parameterization)

    @jax.jit
    def end(step):
        moved = jax.tree.map(lambda w, way: w + step * way, parameterization, direction)
        return ddln.limit(moved, ddln.LeastSquares(X, target + step), throw=False).theta

    step = 1e-5
    expected = (end(step) - end(-step)) / (2 * step)
    np.testing.assert_allclose(jax.jvp(end, (0.0,), (1.0,))[1], expected, rtol=1e-6, atol=1e-8)


def test_sweep_of_limits_and_a_start_that_is_not_positive():
    scales = 10.0 ** np.linspace(-4, 2, 7)
    stack = eqx.filter_vmap(lambda s: ddln.PowerDifference(s * W, s * V, 3))(jnp.asarray(scales))
    stack = eqx.tree_at(lambda p: p.positive, stack, stack.positive.at[3, 2].set(-1.0))
    ends = ddln.sweep(stack, ddln.LeastSquares(X, ANY_SIGN), jnp.inf, progress=False)
    good = np.arange(7) != 3
    np.testing.assert_array_equal(ddln.is_okay(ends.result), good)
    np.testing.assert_allclose(
        X @ ends.theta[good, -1].T, ANY_SIGN[:, None] + np.zeros(6), atol=1e-7
    )
    with pytest.raises(ValueError, match="`positive`"):
        ddln.limit(ddln.PowerDifference(-W, V, 3), ddln.LeastSquares(X, ANY_SIGN))
