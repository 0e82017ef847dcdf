"""Sharpness-aware minimization (`_sam_flow`, `_sam`), and its steps by optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
Y = RNG.normal(size=3)
LOSS = ddln.LeastSquares(X, Y)
LAYERS = RNG.choice([-1.0, 1.0], (3, 5)) * RNG.uniform(0.5, 1.5, (3, 5))
FACTOR, RADIUS, WIDTH = -0.8, 0.1, 1e-3
TIMES = jnp.asarray([0.1, 0.5, 1.0])
TIGHT = {"rtol": 1e-11, "atol": 1e-13, "max_steps": 50_000}
SETTINGS = [("l2", "full"), ("linf", "full"), ("l2", "sample"), ("linf", "sample")]


@functools.cache
def flow(depth, norm, mode):
    return ddln.sam_flow(
        ddln.DeepDiagonal(LAYERS[:depth], FACTOR), LOSS, 1.0, radius=RADIUS, norm=norm, mode=mode,
        width=WIDTH, ts=TIMES, **TIGHT,
    )  # fmt: skip


def pulled_back(layers, g):
    others = np.stack([np.delete(layers, j, 0).prod(0) for j in range(len(layers))])
    return FACTOR * g * others


def reference(depth, norm, mode):
    """The layers at t = 0.5 by SciPy."""
    start = LAYERS[:depth]
    subsets = [slice(None)] if mode == "full" else [slice(i, i + 1) for i in range(len(Y))]

    def gradient(layers, rows):
        return X[rows].T @ (X[rows] @ (FACTOR * layers.prod(0)) - Y[rows])

    d = pulled_back(start, gradient(start, slice(None)))
    least = WIDTH * (np.linalg.norm(d) if norm == "l2" else np.abs(d).max())

    def velocity(t, w):
        layers, total = w.reshape(start.shape), 0.0
        for rows in subsets:
            d = pulled_back(layers, gradient(layers, rows))
            size = np.sum(d**2) if norm == "l2" else d**2
            moved = layers + RADIUS * d / np.sqrt(size + least**2)
            total = total + pulled_back(moved, gradient(moved, rows))
        return -total.ravel()

    solution = solve_ivp(velocity, (0, 0.5), start.ravel(), method="LSODA", rtol=1e-11, atol=1e-13)
    return solution.y[:, -1].reshape(start.shape)


@pytest.mark.parametrize(("norm", "mode"), SETTINGS)
def test_flows_agree_with_scipy(norm, mode):
    found = flow(2, norm, mode).parameterization.layers[1]
    np.testing.assert_allclose(found, reference(2, norm, mode), rtol=0, atol=1e-8)


def test_three_layers_agree_with_scipy():
    found = flow(3, "l2", "full")
    expected = reference(3, "l2", "full")
    np.testing.assert_allclose(found.parameterization.layers[1], expected, rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="with two layers"):
        theory.sam_gain(found, LOSS)


@pytest.mark.parametrize(("norm", "mode"), SETTINGS)
def test_gaps_shrink_by_the_gain(norm, mode):
    found = flow(2, norm, mode)
    layers, gain = np.asarray(found.parameterization.layers), np.asarray(found.record.gain)
    gap = layers[:, 0] ** 2 - layers[:, 1] ** 2
    expected = (LAYERS[0] ** 2 - LAYERS[1] ** 2) * np.exp(-gain)
    np.testing.assert_allclose(gap, expected, rtol=1e-9, atol=1e-10)
    assert np.abs(gain).max() > 0.05
    assert theory.sam_gain(found, LOSS).status == "holds"
    wrong = jax.tree.map(lambda leaf: leaf, found)
    object.__setattr__(wrong.record, "gain", 0.5 * found.record.gain)
    assert theory.sam_gain(wrong, LOSS).status == "violated"


@pytest.mark.parametrize("mode", ["full", "sample"])
def test_the_end_is_the_limit_from_the_effective_start(mode):
    """At every time theta is the Bregman projection from the start with the smaller gaps."""
    found = flow(2, "l2", mode)
    reached = ddln.LeastSquares(X, X @ found.theta[-1])
    end = ddln.limit(theory.effective_start(found), reached)
    np.testing.assert_allclose(end.theta, found.theta[-1], rtol=0, atol=1e-8)
    plain = ddln.limit(found.initial, reached)
    assert np.abs(plain.theta - end.theta).max() > 1e-3
    with pytest.raises(ValueError, match="norm 'l2'"):
        theory.effective_start(flow(2, "linf", "full"))


def test_steps_by_optax_obey_the_discrete_gain():
    """(u + v) times 1 - a~(1 + S a), (u - v) times 1 + a~(1 - S a), a = c g, S = rho / |grad_w L|."""
    rate, steps = 0.05, 40
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RADIUS))
    with jax.numpy_dtype_promotion("standard"):  # as optax needs it
        run = ddln.descend(
            ddln.DeepDiagonal(LAYERS[:2], FACTOR), LOSS, optax.contrib.sam(optax.sgd(rate), ascent),
            2 * steps, ts=np.arange(2 * steps + 1), dual=False,
        )  # fmt: skip
    layers = np.asarray(run.parameterization.layers)
    gaps = layers[::2, 0] ** 2 - layers[::2, 1] ** 2
    for k in range(steps):
        here, there = layers[2 * k], layers[2 * k + 1]
        g, ascended = (X.T @ (X @ (FACTOR * w.prod(0)) - Y) for w in (here, there))
        d = pulled_back(here, g)
        np.testing.assert_allclose(there, here + RADIUS * d / np.linalg.norm(d), rtol=1e-12)
        a, b, s = FACTOR * g, rate * FACTOR * ascended, RADIUS / np.linalg.norm(d)
        expected = gaps[k] * (1 - b * (1 + s * a)) * (1 + b * (1 - s * a))
        np.testing.assert_allclose(gaps[k + 1], expected, rtol=1e-10, atol=1e-14)


def test_features_are_amplified_one_after_another():
    """Two features mu and equal layers u, one sample: (log u_i)' is sigma mu_i (1 - rho mu_i / N),
    N = |grad_w L| / sigma. The smaller feature grows faster while N < rho (mu_1 + mu_2), the larger one
    afterwards.
    """
    features, radius = np.array([1.0, 2.0]), 0.1
    loss = ddln.Logistic(features[None], np.ones(1))
    start = ddln.DeepDiagonal(jnp.full((2, 2), 0.25 / np.sqrt(10)))
    found = ddln.sam_flow(start, loss, 8.0, radius=radius, ts=np.linspace(0, 8, 60), rtol=1e-8)
    theta = np.asarray(found.theta)
    size = np.sqrt(2 * (theta @ features**2))
    growing = np.diff(theta[:, 0] / theta[:, 1]) > 0
    below, above = size[1:] < 0.3, size[:-1] > 0.3
    assert below.sum() > 3
    assert above.sum() > 3
    assert growing[below].all()
    assert not growing[above].any()


def test_the_limit_by_the_largest_entry_depends_on_the_start():
    """One sample with features mu and equal layers u: (log |u_i - rho|)' = sigma mu_i while u_i > 0. So what
    starts above rho grows, the larger feature faster, and what starts below ends at zero.
    """
    features, radius = np.array([1.0, 2.0]), 0.3
    loss = ddln.Logistic(features[None], np.ones(1))
    starts = np.array([[0.4, 0.4], [0.4, 0.25], [0.2, 0.25]])
    ts = jnp.asarray([0.2, 40.0])

    @jax.jit
    @jax.vmap
    def path(row):
        return ddln.sam_flow(
            ddln.DeepDiagonal(jnp.stack([row, row])), loss, 40.0, radius=radius, norm="linf",
            ts=ts, width=1e-5, rtol=1e-8, throw=False,
        )  # fmt: skip

    found = path(jnp.asarray(starts))
    assert np.all(ddln.is_okay(found.result))
    u = np.asarray(found.parameterization.layers)[:, :, 0]
    growth = np.log((u[:, 0] - radius) / (starts - radius)) / features
    np.testing.assert_allclose(growth[:, 0], growth[:, 1], rtol=1e-6)
    theta = np.asarray(found.theta)[:, 1]
    assert theta[0, 1] > 5 * theta[0, 0] > 0.1
    assert theta[1, 0] > 1
    assert np.abs(theta[1, 1]) < 1e-4
    assert np.abs(theta[2]).max() < 1e-4


def test_a_flow_without_gradient_stays():
    start = ddln.DeepDiagonal.zero_last(jnp.ones(5), 2)
    reached = ddln.LeastSquares(X, np.zeros(3))
    found = ddln.sam_flow(start, reached, 1.0, radius=RADIUS, width=WIDTH, throw=False)
    assert ddln.is_okay(found.result)
    np.testing.assert_array_equal(found.final.layers, start.layers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0.0}, "`radius` must be finite and positive"),
        ({"radius": np.inf}, "`radius` must be finite and positive"),
        ({"norm": "l1"}, "`norm` must be one of"),
        ({"mode": "batch"}, "`mode` must be one of"),
        ({"width": -1.0}, "`width` must be finite and positive"),
        ({"loss": lambda theta: jnp.sum(theta**2), "mode": "sample"}, "AbstractPredictionLoss"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    arguments = {"loss": LOSS, "radius": 0.1, **settings}
    with pytest.raises(ValueError, match=message):
        ddln.sam_flow(ddln.DeepDiagonal(LAYERS), t1=1.0, **arguments)
