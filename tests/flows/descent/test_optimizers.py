"""Optimizers of optax beyond gradient descent: that they run, and what theory says of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import ddln

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
LOSS = ddln.LeastSquares(X, RNG.normal(size=3))
LAYERS = RNG.choice([-1.0, 1.0], (2, 5)) * RNG.uniform(0.5, 1.5, (2, 5))
NETWORK = ddln.DeepDiagonal(LAYERS)
# optax mixes dtypes.
mixed = functools.partial(jax.numpy_dtype_promotion, "standard")


def value(weights):
    return LOSS(ddln.DeepDiagonal(weights)())


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_adam_tends_to_sign_flow(memory):
    """At the time gamma k, with an error of order gamma."""
    rates, t1 = jnp.asarray([1e-3, 5e-5]), 0.4

    def end(rate, steps):
        optimizer = optax.adam(rate, b1=memory, b2=memory, eps=1e-12)
        return ddln.descend(NETWORK, LOSS, optimizer, steps, dual=False).theta[-1]

    with mixed():
        found = [end(rate, round(t1 / float(rate))) for rate in rates]
    flow = ddln.steepest_flow(NETWORK, LOSS, t1, exponent=1.0, width=1e-5, rtol=1e-7)
    far, near = (np.abs(theta - flow.theta[-1]).max() for theta in found)
    assert near < far / 3
    assert near < 5e-3


def test_adam_follows_its_modified_equation():
    """With b = (1 + beta_1) / (1 - beta_1), r likewise of beta_2, R_j = sqrt(d_j^2 + eps):

    w_j' = -(d_j + gamma / 2 (b - r d_j^2 / R_j^2) d/dw_j sum_k R_k) / R_j, up to gamma^2.
    """
    first, second, eps, t1 = 0.5, 0.8, 0.1, 0.4
    rates = np.array([4e-3, 2e-3])
    b, r = ((1 + beta) / (1 - beta) for beta in (first, second))
    rows, y = np.asarray(LOSS.X), np.asarray(LOSS.y)

    def slopes(w):
        return (rows.T @ (rows @ (w[0] * w[1]) - y)) * w[::-1]

    def velocity(t, w, rate):
        w = w.reshape(LAYERS.shape)
        d = slopes(w)
        size = np.sqrt(d**2 + eps)
        # The derivative of grad_w L along d / R is that of sum_k R_k.
        u, h = d / size, 1e-6
        along = (slopes(w + h * u) - slopes(w - h * u)) / (2 * h)
        return -((d + 0.5 * rate * (b - r * d**2 / size**2) * along) / size).ravel()

    def by_scipy(rate):
        solution = solve_ivp(
            velocity, (0, t1), LAYERS.ravel(), "DOP853", args=(rate,), rtol=1e-10, atol=1e-12
        )
        return solution.y[:, -1].reshape(LAYERS.shape)

    plain, modified = np.zeros(2), np.zeros(2)
    for i, rate in enumerate(rates):
        optimizer = optax.adam(rate, b1=first, b2=second, eps=0.0, eps_root=eps)
        with mixed():
            run = ddln.descend(NETWORK, LOSS, optimizer, round(t1 / rate), dual=False)
        plain[i], modified[i] = (
            np.abs(run.final.layers - by_scipy(assumed)).max() for assumed in (0.0, rate)
        )
    assert 0.8 < np.log2(plain[0] / plain[1]) < 1.3, plain
    assert 1.7 < np.log2(modified[0] / modified[1]) < 2.5, modified
    assert modified[1] < 0.2 * plain[1], (modified, plain)


def test_muon_is_sign_descent_of_aligned_singular_values():
    """Factors A diag(u) B^T and C diag(v) B^T of a target A diag(y) C^T: u - v is conserved."""
    rate, steps = 0.01, 40
    A, B, C = (np.linalg.qr(RNG.normal(size=(3, 3)))[0] for _ in range(3))
    u, v, y = np.array([0.5, 1.0, 1.5]), np.array([0.9, 0.6, 0.7]), np.array([3.0, 2.0, -1.0])
    target = jnp.asarray(A @ np.diag(y) @ C.T)
    start = ddln.MatrixFactorization(A @ np.diag(u) @ B.T, C @ np.diag(v) @ B.T)
    # Steps of Newton and Schulz that converge to the orthogonal factor, unlike those of the default.
    muon = optax.contrib.muon(
        rate, ns_coeffs=(15 / 8, -10 / 8, 3 / 8), ns_steps=16, beta=0.0, nesterov=False, eps=1e-300
    )
    with mixed():
        run = ddln.descend(
            start, lambda theta: 0.5 * jnp.sum((theta - target) ** 2), muon, steps, dual=False
        )
    found = [
        np.diag(x.T @ np.asarray(w) @ B) for x, w in ((A, run.final.left), (C, run.final.right))
    ]
    moved = rate * steps * np.array([1.0, 1.0, -1.0])
    np.testing.assert_allclose(found, [u + moved, v + moved], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_decoupled_decay_shrinks_gaps_of_absolute_values(name):
    """Without memory both are sign descent: |u| - |v| times 1 - gamma lambda a step, exactly."""
    rate, decay, steps = 1e-3, 0.5, 200
    settings = {"eps": 1e-300} if name == "adamw" else {}
    optimizer = getattr(optax, name)(rate, b1=0.0, b2=0.0, weight_decay=decay, **settings)
    with mixed():
        run = ddln.descend(NETWORK, LOSS, optimizer, steps, dual=False)
    layers = np.asarray(run.final.layers)
    assert (layers * LAYERS > 0).all()
    gap, start = (np.abs(w[0]) - np.abs(w[1]) for w in (layers, LAYERS))
    np.testing.assert_allclose(gap, start * (1 - rate * decay) ** steps, rtol=1e-10)


RUNS = {
    "rmsprop": optax.rmsprop(0.01),
    "sophia": optax.contrib.sophia(0.01),
    "muon": optax.contrib.muon(0.01),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_loss_falls(name):
    with mixed():
        run = ddln.descend(NETWORK, LOSS, RUNS[name], 30, dual=False)
    assert run.loss[-1] < 0.9 * value(jnp.asarray(LAYERS))


def test_ascents_inside_of_a_step_get_the_gradient():
    rate, radius = 0.05, 0.1
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(radius))
    optimizer = optax.contrib.sam(optax.sgd(rate), ascent, opaque_mode=True)
    with mixed():
        run = ddln.descend(NETWORK, LOSS, optimizer, 3, dual=False)
    weights, gradient = jnp.asarray(LAYERS), jax.grad(value)
    for _ in range(3):
        d = gradient(weights)
        weights = weights - rate * gradient(weights + radius * d / jnp.linalg.norm(d))
    np.testing.assert_allclose(run.final.layers, weights, rtol=1e-12)


def test_a_step_without_direction_is_a_code():
    """Where the gradient vanishes its direction is 0 / 0: the run ends there, with the weights it has."""
    reached = ddln.LeastSquares(X, X @ NETWORK())
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    optimizer = optax.contrib.sam(optax.sgd(0.05), ascent, opaque_mode=True)
    with mixed():
        run = ddln.descend(NETWORK, reached, optimizer, 3, dual=False, throw=False)
    assert run.result == ddln.RESULTS.diverged
    np.testing.assert_array_equal(run.final.layers, LAYERS)


def test_other_needs_are_named():
    optimizer = optax.lookahead(optax.sgd(0.1), 3, 0.5)
    with mixed(), pytest.raises(ValueError, match="has no attribute 'fast'"):
        ddln.descend(NETWORK, LOSS, optimizer, 3, dual=False)
