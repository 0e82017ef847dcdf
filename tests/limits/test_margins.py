"""Separable classification: a linear program for two layers, first-order stationarity for more."""

import cvxpy as cp
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln

RNG = np.random.default_rng(3)
N, D = 5, 8
X = RNG.normal(size=(N, D))
Y = np.sign(RNG.normal(size=N))
ROWS = Y[:, None] * X
# Drawn here, so that they do not depend on which tests run, and where.
SHALLOW, DEEP = 0.5 * RNG.normal(size=(2, 2, D)), 0.5 * RNG.normal(size=(3, 3, D))


def test_direction_against_a_conic_solver():
    theta, margin = cp.Variable(D), cp.Variable()
    best = cp.Problem(cp.Maximize(margin), [ROWS @ theta >= margin, cp.norm1(theta) <= 1])
    best.solve(cp.CLARABEL)
    found = ddln.max_margin_l1(X, Y)
    np.testing.assert_allclose(np.abs(found).sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(ddln.l1_margin(found, X, Y), margin.value, rtol=1e-6)
    np.testing.assert_allclose(found, theta.value, atol=1e-5)
    rows = np.stack([found, theta.value, np.zeros(D)])
    np.testing.assert_allclose(ddln.l1_margin(rows, X, Y)[1:], [margin.value, 0], rtol=1e-6)


def normalized_flow(layers, size):
    """The flow of the exponential loss, its speed divided by loss and margin, until |theta|_1 = size."""

    def field(_, w):
        u = w.reshape(layers.shape)
        theta = np.prod(u, axis=0)
        margins = ROWS @ theta
        shares = np.exp(margins.min() - margins)
        pull = ROWS.T @ (shares / shares.sum()) / (1 + np.abs(theta).sum())
        others = [np.prod(np.delete(u, j, axis=0), axis=0) for j in range(len(u))]
        return (np.stack(others) * pull).ravel()

    def large(_, w):
        return np.abs(np.prod(w.reshape(layers.shape), axis=0)).sum() - size

    large.terminal = True
    flow = solve_ivp(field, (0, 1e12), layers.ravel(), "LSODA", events=large, rtol=1e-9, atol=1e-12)
    assert flow.status == 1
    return ddln.DeepDiagonal(jnp.asarray(flow.y[:, -1].reshape(layers.shape)))


def test_two_layers_tend_to_the_largest_l1_margin():
    best = ddln.l1_margin(ddln.max_margin_l1(X, Y), X, Y)
    for layers in SHALLOW:
        ratios = [
            float(ddln.l1_margin(normalized_flow(layers, size)(), X, Y) / best)
            for size in (1e2, 1e4, 1e6)
        ]
        assert np.all(np.diff(ratios) > 0)
        assert 0.97 < ratios[-1] <= 1


def test_deeper_networks_are_stationary_and_no_more():
    best = ddln.l1_margin(ddln.max_margin_l1(X, Y), X, Y)
    stationarity = eqx.filter_jit(lambda network: ddln.margin_stationarity(network, X, Y))
    ratios, gains = [], []
    for layers in DEEP:
        networks = [normalized_flow(layers, size) for size in (1e4, 1e6)]
        coarse, fine = (stationarity(network) for network in networks)
        gains.append(float(coarse.misalignment / fine.misalignment))
        assert fine.misalignment < 1e-2
        assert fine.slack < 1e-4
        ratios.append(float(ddln.l1_margin(networks[-1](), X, Y) / best))
    # The misalignment falls as |theta|^(-2/3), once coordinates that are not to stay have left.
    assert min(gains) > 2
    np.testing.assert_allclose(max(gains), 100 ** (2 / 3), rtol=0.15)
    # The direction depends on the start; the largest l1 margin is not what it tends to.
    assert min(ratios) < 0.95
    assert np.ptp(ratios) > 0.01


def test_stationarity_of_known_points():
    # One sample e_1 and two equal layers: w = (e_1, e_1) is parallel to the gradient of u_1 v_1.
    network = ddln.DeepDiagonal(jnp.array([[2.0, 0.0], [2.0, 0.0]]))
    X, y = np.array([[1.0, 0.0]]), np.ones(1)
    known = ddln.margin_stationarity(network, X, y)
    np.testing.assert_allclose([known.misalignment, known.slack], 0, atol=1e-15)
    # theta = (1, 1) of the identity, with margins 1 and 2, shares s and 1 - s.
    X = np.array([[1.0, 0.0], [0.0, 2.0]])
    known = ddln.margin_stationarity(ddln.Identity(jnp.ones(2)), X, np.ones(2))
    s = 1 / (1 + np.exp(-1))
    push = np.array([s, 2 * (1 - s)])
    cosine = push.sum() / np.linalg.norm(push) / np.sqrt(2)
    np.testing.assert_allclose(known.misalignment, 1 - cosine, rtol=1e-12)
    np.testing.assert_allclose(known.slack, 1 - s, rtol=1e-12)
    wrong = ddln.margin_stationarity(ddln.Identity(-jnp.ones(2)), X, np.ones(2))
    assert np.isinf(wrong.slack)


def test_stationarity_of_large_margins_and_its_derivative():
    # Margins of 1e5, whose exponentials underflow.
    layers = jnp.asarray(
        50.0 * np.sign(ROWS[:1]) * np.array([[1.0]] * 2 + [[-1.0]]) * np.ones((3, D))
    )

    @jax.jit
    def misalignment(layers):
        return ddln.margin_stationarity(ddln.DeepDiagonal(layers), X, Y).misalignment

    gradient = jax.grad(misalignment)(layers)
    h = 1e-4
    step = jnp.asarray(RNG.normal(size=(3, D)))
    change = (misalignment(layers + h * step) - misalignment(layers - h * step)) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(gradient, step), change, rtol=1e-5, atol=1e-9)


def test_bad_arguments():
    with pytest.raises(ValueError, match="must be separable"):
        ddln.max_margin_l1(np.array([[1.0], [1.0]]), np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="`y` must have 5 entries"):
        ddln.max_margin_l1(X, Y[:2])
