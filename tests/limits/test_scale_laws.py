"""Ends of flows as the scale of the start goes to 0 or to infinity, with the constants (`_weights`,
`_excess_law`)."""

from functools import partial

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.potentials import potential

RNG = np.random.default_rng(5)
N, D = 4, 10
X, Y = RNG.normal(size=(N, D)), RNG.normal(size=N)
FIRST = RNG.bit_generator.state
LOSS = ddln.LeastSquares(X, Y)
# All tests share one program for each depth.
LANES = 8


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order():
    RNG.bit_generator.state = FIRST


@partial(jax.jit, static_argnums=1)
@partial(jax.vmap, in_axes=(0, None))
def _ends(layers, factor):
    end = ddln.limit(ddln.DeepDiagonal(layers, factor), LOSS, rtol=1e-12, throw=False)
    return end.theta, ddln.is_okay(end.result)


def ends(layers, scales, factor=1.0):
    """Limits from scale * layers."""
    scales = np.asarray(scales)
    lanes = np.resize(scales, LANES)[:, None, None]
    theta, okay = _ends(jnp.asarray(lanes * layers), factor)
    assert bool(jnp.all(okay))
    return np.asarray(theta)[: len(scales)]


def zero_last(depth):
    layers = np.ones((depth, D))
    layers[-1] = 0
    return layers


# h_L(t) = theta(xi = t) of the start (1, ..., 1, 0), and the end C_L of the range of xi.
H = {
    3: (lambda t: np.tan(t) / np.cos(t) ** 2, np.pi / 2),
    4: (lambda t: t / (1 - t**2) ** 2, 1.0),
    6: (lambda t: _h_6(2 * np.sin(np.arcsin(3 * t / 2) / 3)), 2 / 3),
}


def _h_6(s):
    # theta = q (1 + q^2)^(5/2) with q = s / sqrt(1 - s^2).
    return s / (1 - s**2) ** 3


def certificate():
    """The minimizer of smallest l1 norm, and c = X^T nu with c = sign on its support."""
    theta = ddln.minimum_l1(X, Y)
    support = np.abs(theta) > 1e-9
    assert support.sum() == N
    return theta, X.T @ np.linalg.solve(X[:, support].T, np.sign(theta[support]))


@pytest.mark.parametrize(
    ("depth", "scales"), [(3, [2e-4, 1e-4]), (4, [2e-3, 1e-3]), (6, [2e-2, 1e-2])]
)
def test_excess_falls_with_the_power_of_the_depth(depth, scales):
    least, c = certificate()
    theta = ends(zero_last(depth), scales)
    # Exactly sum (|theta_i| - c_i theta_i) off the support, in which nothing cancels.
    off = least == 0
    excess = np.sum(np.abs(theta) - c * theta, axis=1, where=off)
    h, end = H[depth]
    expected = np.sum(h(end * np.abs(c[off])) * (1 - np.abs(c[off])))
    np.testing.assert_allclose(excess / np.asarray(scales) ** depth, expected, rtol=2e-2)
    np.testing.assert_allclose(np.log2(excess[0] / excess[1]), depth, atol=2e-2)
    norm = np.abs(least).sum()
    np.testing.assert_allclose(ddln.excess_l1(theta, X, Y), excess / norm, atol=1e-12)
    if depth == 3:
        law = ddln.excess_law(ddln.DeepDiagonal(zero_last(depth)), LOSS, scales)
        np.testing.assert_allclose(law * norm, expected * np.asarray(scales) ** depth, rtol=1e-9)


def test_excess_of_two_layers_falls_with_a_power_that_the_data_set():
    least, c = certificate()
    off = least == 0
    layers = RNG.normal(size=(2, D))
    scales = np.array([1e-30, 1e-60])
    theta = ends(layers, scales, -1.5)
    excess = np.sum(np.abs(theta) - c * theta, axis=1, where=off) / np.abs(least).sum()
    law = ddln.excess_law(ddln.DeepDiagonal(layers, -1.5), LOSS, scales)
    np.testing.assert_allclose(excess, law, rtol=1e-3)
    slope = np.log(excess[0] / excess[1]) / np.log(scales[0] / scales[1])
    np.testing.assert_allclose(slope, 2 * (1 - np.abs(c[off]).max()), rtol=0.1)


def test_excess_of_random_deep_starts_is_that_of_the_weighted_norm():
    layers = RNG.normal(size=(3, D)) * np.geomspace(0.3, 3, D)
    network = ddln.DeepDiagonal(layers)
    scales = np.array([1e-3, 1e-4])
    theta = ends(layers, scales)
    weights = np.asarray(ddln.l1_weights(network))
    measured = ddln.excess_l1(theta, X, Y, weights)
    law = np.asarray(ddln.excess_law(network, LOSS, scales))
    np.testing.assert_allclose(measured[0], law[0], rtol=0.1)
    np.testing.assert_allclose(law[0] / law[1], 1e3, rtol=1e-9)
    # The plain norm is not what they tend to.
    assert ddln.excess_l1(theta[1], X, Y) > 1e-3


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_large_scales(depth):
    kernel = ddln.minimum_l2(X, Y)
    null = np.eye(D) - np.linalg.pinv(X) @ X
    alpha = 30.0
    # Equal layers, the last one 0: the l2 norm, and the first correction to it.
    theta = ends(zero_last(depth), [4.0, alpha])
    correction = 2 / 3 * (depth - 1) * 4.0 ** (-2 * depth) * null @ kernel**3
    size = np.abs(correction).max()
    np.testing.assert_allclose(theta[0] - kernel, correction, atol=0.05 * size)
    np.testing.assert_allclose(theta[1], kernel, atol=1e-5)
    # Other gaps, theta_0 = 0: a weighted l2 norm, argmin sum theta^2 / m with m = prod (u^k)^2.
    layers = RNG.normal(size=(depth, D))
    layers[-1] = 0
    m = np.prod(layers[:-1] ** 2, axis=0)
    weighted = m * (X.T @ np.linalg.solve(X * m @ X.T, Y))
    theta = ends(layers, [alpha])[0]
    np.testing.assert_allclose(theta, weighted, atol=1e-3 if depth == 2 else 1e-5)
    assert np.abs(weighted - kernel).max() > 0.05
    # theta_0 not 0: no l2 norm, the end grows with the start.
    layers = RNG.normal(size=(depth, D))
    theta = ends(layers, [alpha, 10 * alpha])
    sizes = np.linalg.norm(theta, axis=1)
    assert sizes[0] > 10 * np.linalg.norm(kernel)
    np.testing.assert_allclose(sizes[1] / sizes[0], 10.0**depth, rtol=1e-2)


def test_deeper_is_nearer_to_whichever_asymptote():
    rows = [ddln.richness(ends(zero_last(depth), [0.1, 2.0]), X, Y) for depth in (2, 3, 4, 6)]
    small, large = np.transpose(rows)
    assert np.all(np.diff(small) > 0)
    assert np.all(np.diff(large) < 0)


def test_regime_exponent_follows_the_scale():
    theta = ends(zero_last(3), [1e-3, 10.0])
    exponents = [
        float(ddln.regime_exponent(ddln.DeepDiagonal(scale * zero_last(3)), jnp.asarray(row)))
        for scale, row in zip([1e-3, 10.0], theta, strict=True)
    ]
    np.testing.assert_allclose(exponents, [1, 2], atol=1e-2)


def test_two_layers_minimize_their_potential_as_a_conic_solver_does():
    # 250 problems as one exponential cone program. With theta = p - q, Q is half the least sum of the
    # divergences of p and q from their starts (D/4) exp(k) and (D/4) exp(-k).
    count, n, d = 250, 3, 5
    X, y = RNG.normal(size=(count, n, d)), RNG.normal(size=(count, n))
    layers = RNG.normal(size=(count, 2, d))
    layers[:, 0] = 0.3 * np.tanh(layers[:, 0])
    layers[:, 1] += 0.5 * np.sign(layers[:, 1])

    @jax.jit
    @jax.vmap
    def solve(layers, X, y):
        network = ddln.DeepDiagonal(layers)
        end = ddln.limit(network, ddln.LeastSquares(X, y), throw=False)
        return end.theta, ddln.is_okay(end.result)

    @jax.jit
    @jax.vmap
    def value(layers, theta):
        return potential(ddln.DeepDiagonal(layers)).value(theta)

    theta, okay = solve(*map(jnp.asarray, (layers, X, y)))
    assert bool(jnp.all(okay))
    u, v = layers[:, 0], layers[:, 1]
    width, tilt = np.abs(u**2 - v**2), np.log(np.abs((u + v) / (u - v)))
    primal = cp.Variable((count, d))
    p, q = cp.Variable((count, d)), cp.Variable((count, d))
    center = width / 4
    cost = cp.sum(cp.kl_div(p, center * np.exp(tilt)) + cp.kl_div(q, center * np.exp(-tilt))) / 2
    fits = [cp.sum(cp.multiply(X[:, i], primal), axis=1) == y[:, i] for i in range(n)]
    program = cp.Problem(cp.Minimize(cost), [primal == p - q, *fits])
    program.solve(cp.CLARABEL)
    np.testing.assert_allclose(theta, primal.value, atol=2e-4)
    ours, theirs = (
        np.asarray(value(jnp.asarray(layers), jnp.asarray(t))) for t in (theta, primal.value)
    )
    # The other is off X theta = y by its tolerance.
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
