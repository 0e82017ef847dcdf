"""The gain of two layers against sums in NumPy and Newton's method, and the recursion of the gaps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddln
from ddln import theory

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SAMPLES, DIM, STEPS = 5, 8, 1000
SAVED = [10, STEPS]
RATES = np.array([0.02, 0.2, 0.35])
FACTOR = -0.8


def problem():
    rng = np.random.default_rng(2)
    # Well conditioned, so that few steps converge.
    X = np.linalg.qr(rng.normal(size=(DIM, SAMPLES)))[0].T * np.linspace(2, 3, SAMPLES)[:, None]
    layers = rng.choice([-1.0, 1.0], (2, DIM)) * rng.uniform(0.6, 1.3, (2, DIM))
    return X, X @ np.array([1.0, -1.0, 0.7, 0, 0, 0, 0, 0]), layers


X, Y, LAYERS = problem()
LOSS = ddln.LeastSquares(X, Y, 0.5 / SAMPLES)


def signed(layers):
    """w_+ and w_-."""
    return np.stack([layers[0] + layers[1], layers[0] - layers[1]]) / np.sqrt(2)


def gradient(w):
    theta = FACTOR * (w[0] ** 2 - w[1] ** 2) / 2
    return X.T @ (X @ theta - Y) / SAMPLES


def minimizer(a, target):
    """argmin {D_psi(theta, centre) : X theta = target} by Newton's method on the multipliers.

    theta = A sinh(c0 - 2 X^T nu), A = c a_+ a_-, c0 = log(a_+/a_-).
    """
    size, shift = FACTOR * a[0] * a[1], np.log(a[0] / a[1])
    multipliers = np.zeros(SAMPLES)
    for _ in range(200):
        angle = shift - 2 * X.T @ multipliers
        residual = X @ (size * np.sinh(angle)) - target
        slope = -2 * (X * (size * np.cosh(angle))) @ X.T
        step = np.linalg.solve(slope, residual)
        multipliers -= step / max(1.0, np.max(np.abs(X.T @ step)))
    assert np.max(np.abs(residual)) < 1e-12
    return size * np.sinh(angle)


def summed(rate, steps):
    """theta and a_+- of gradient descent, with q_+-(x) = -+2x - log (1 -+ x)^2 summed up."""
    w = signed(LAYERS)
    sums = np.zeros((2, DIM))
    for _ in range(steps):
        x = rate * FACTOR * gradient(w)
        factors = np.stack([1 - x, 1 + x])
        sums += np.stack([-2 * x, 2 * x]) - np.log(factors**2)
        w = w * factors
    return FACTOR * (w[0] ** 2 - w[1] ** 2) / 2, np.abs(signed(LAYERS)) * np.exp(-sums / 2)


@functools.cache
def descents():
    """Gradient descent with several steps, and the gain of each at both saved steps."""

    def end(rate):
        run = ddln.descend(
            ddln.DeepDiagonal(LAYERS, FACTOR), LOSS, optax.sgd(rate), STEPS, ts=SAVED, throw=False
        )
        checks = theory.gain_identity(run, LOSS), theory.gain_optimality(run, LOSS)
        return run, theory.gain(run), checks

    return quick_jit(jax.vmap(end))(jnp.asarray(RATES))


@pytest.mark.parametrize("lane", range(len(RATES)))
def test_scale_and_centre_are_those_of_the_sums(lane):
    run, gain, _ = descents()
    flow_end = None
    for row, steps in enumerate(SAVED):
        theta, a = summed(RATES[lane], steps)
        scale, centre = np.abs(FACTOR) * a[0] * a[1], FACTOR * (a[0] ** 2 - a[1] ** 2) / 2
        start = np.abs(FACTOR * np.prod(signed(LAYERS), axis=0))
        np.testing.assert_allclose(run.theta[lane, row], theta, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(gain.scale[lane, row], scale, rtol=1e-10)
        np.testing.assert_allclose(gain.centre[lane, row], centre, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(gain.shrink[lane, row], -np.log(scale / start), atol=1e-10)
        # An independent solver reaches theta_K from them, converged or not.
        np.testing.assert_allclose(minimizer(a, X @ theta), theta, rtol=1e-10, atol=1e-10)
        flow_end = minimizer(np.abs(signed(LAYERS)), X @ theta)
        # With the scale, but the centre of the start: close, and wrong.
        w = signed(LAYERS)
        ratio = np.sqrt(a[0] * a[1] / np.abs(w[0] * w[1]))
        unshifted = minimizer(np.abs(w) * ratio, X @ theta)
        assert np.max(np.abs(unshifted - theta)) > 1e-8
    assert np.max(np.abs(flow_end - theta)) > 1e-4


def test_the_end_is_predicted_by_the_limit_of_the_effective_start():
    run, gain, _ = descents()

    def end(start):
        return ddln.limit(start, LOSS, rtol=1e-13, throw=False).theta

    predicted = quick_jit(jax.vmap(end))(gain.start)
    # The first descent has not converged: its prediction is the end it goes to.
    np.testing.assert_allclose(predicted[1:], run.theta[1:, -1], atol=1e-10)


def test_the_checks_hold_for_gradient_steps():
    _, _, (identity, optimality) = descents()
    assert list(identity.status) == ["holds"] * 3
    assert list(optimality.status) == ["holds"] * 3


@functools.cache
def stochastic():
    def end(key):
        run = ddln.descend(
            ddln.DeepDiagonal(LAYERS, FACTOR),
            LOSS,
            optax.sgd(0.1),
            STEPS,
            key=key,
            batch_size=1,
            ts=SAVED,
            throw=False,
        )
        checks = theory.gain_identity(run, LOSS), theory.gain_optimality(run, LOSS)
        return run, theory.gain(run), checks

    return quick_jit(jax.vmap(end))(jax.random.split(jax.random.key(0), 2))


def test_single_samples():
    """Where the steps are random the sums are not known beforehand, but the minimizer is."""
    run, gain, checks = stochastic()
    assert np.max(np.abs(run.theta[0, -1] - run.theta[1, -1])) > 1e-4
    for lane in range(2):
        for row in range(2):
            scale, centre = gain.scale[lane, row] / FACTOR, gain.centre[lane, row] / FACTOR
            # a_+-^2 from their product and difference.
            root = np.hypot(scale, centre)
            a = np.sqrt(np.stack([root + centre, root - centre]))
            theta = run.theta[lane, row]
            np.testing.assert_allclose(minimizer(a, X @ theta), theta, rtol=1e-9, atol=1e-9)
    for check in checks:
        assert list(check.status) == ["holds"] * 2


def heavy_ball(rate, beta, steps):
    """theta and a_+- of heavy ball, with Gam(d) = log|1+d| - d - (beta/(1-beta)) d^2/(1+d) summed up."""
    w, velocity, sums = signed(LAYERS), np.zeros((2, DIM)), np.zeros((2, DIM))
    ratio = beta / (1 - beta)
    for _ in range(steps):
        g = FACTOR * gradient(w)
        velocity = beta * velocity - rate * np.stack([g, -g]) * w
        delta = velocity / w
        sums += np.log(np.abs(1 + delta)) - delta - ratio * delta**2 / (1 + delta)
        w = w + velocity
    sums -= ratio * delta / (1 + delta)
    return FACTOR * (w[0] ** 2 - w[1] ** 2) / 2, np.abs(signed(LAYERS)) * np.exp(sums), w


def test_heavy_ball_through_changes_of_sign():
    rate, beta, steps = 0.05, 0.9, 1000
    network, optimizer = ddln.DeepDiagonal(LAYERS, FACTOR), optax.sgd(rate, momentum=beta)
    run = ddln.descend(network, LOSS, optimizer, steps, ts=[11, steps])
    theta, a, w = heavy_ball(rate, beta, steps)
    assert np.any(w * signed(LAYERS) < 0)
    np.testing.assert_allclose(run.theta[-1], theta, atol=1e-12)
    gain = quick_jit(functools.partial(theory.gain, momentum=True))(run)
    # At the end the averaged gradients are the sum of all gradients.
    np.testing.assert_allclose(gain.scale[-1], np.abs(FACTOR * a[0] * a[1]), rtol=1e-9)
    np.testing.assert_allclose(gain.centre[-1], FACTOR * (a[0] ** 2 - a[1] ** 2) / 2, rtol=1e-9)
    np.testing.assert_allclose(minimizer(a, Y), run.theta[-1], atol=1e-10)
    predicted = ddln.limit(gain.start, LOSS, rtol=1e-13, throw=False).theta
    np.testing.assert_allclose(predicted, run.theta[-1], atol=1e-9)
    flow_end = minimizer(np.abs(signed(LAYERS)), Y)
    assert np.max(np.abs(flow_end - run.theta[-1])) > 1e-2
    optimality = quick_jit(lambda run: theory.gain_optimality(run, LOSS, momentum=True))(run)
    assert optimality.status == "holds"
    # Factors 1 -+ x_k are for gradient steps.
    checks = quick_jit(
        lambda run: (theory.gain_identity(run, LOSS), theory.gain_optimality(run, LOSS))
    )(run)
    assert [check.status for check in checks] == ["violated", "violated"]


def test_rows_that_were_not_reached_have_no_gain():
    optimizer = optax.sgd(50.0)
    run = ddln.descend(
        ddln.DeepDiagonal(LAYERS), LOSS, optimizer, 20, ts=[0, 1, 19, 20], throw=False
    )
    assert run.result == ddln.RESULTS.diverged
    gain = theory.gain(run)
    reached = np.isfinite(run.ts)
    assert reached.tolist() == [True, True, True, False]
    for values in (gain.shrink, gain.scale, gain.centre):
        assert np.isnan(values).all(axis=1).tolist() == (~reached).tolist()
    assert np.isnan(gain.start.positive).all()
    np.testing.assert_allclose(gain.shrink[0], 0, atol=1e-14)


@functools.cache
def by_depth(depth, momentum):
    layers = np.random.default_rng(depth).normal(size=(depth, DIM)) * 0.7
    optimizer = optax.sgd(0.03, momentum=momentum)
    network = ddln.DeepDiagonal(layers, 1.3)
    settings = {"key": jax.random.key(0), "batch_size": 2, "ts": [0, 1, 2, 3, 50, 51, 60]}

    def end():
        run = ddln.descend(network, LOSS, optimizer, 60, throw=False, **settings)
        return theory.gap_recursion(run, LOSS), run.parameterization.layers, run.dual

    return quick_jit(end)()


@pytest.mark.parametrize("depth", [2, 4])
def test_gaps_after_each_step(depth):
    check, layers, dual = by_depth(depth, None)
    assert check.status == "holds"
    assert np.asarray(check.compared).reshape(6, -1).all(axis=1).tolist() == [1, 1, 1, 0, 1, 0]
    pairs = [(j, k) for j in range(depth) for k in range(j + 1, depth)]
    for step in (0, 4):
        x = 1.3 * (dual[step + 1] - dual[step])
        for entry, (j, k) in enumerate(pairs):
            before, after = layers[step], layers[step + 1]
            others = np.prod(np.delete(before, (j, k), axis=0) ** 2, axis=0)
            expected = (before[j] ** 2 - before[k] ** 2) * (1 - x**2 * others)
            np.testing.assert_allclose(after[j] ** 2 - after[k] ** 2, expected, atol=1e-13)
            np.testing.assert_allclose(check.rhs[step, entry], expected, atol=1e-13)


def test_gaps_with_momentum_are_others():
    check, _, _ = by_depth(4, 0.9)
    assert check.status == "violated"


def test_bad_input():
    deep = ddln.DeepDiagonal(np.ones((3, DIM)))
    run = ddln.descend(deep, LOSS, optax.sgd(0.01), 2)
    with pytest.raises(ValueError, match="two layers"):
        theory.gain(run)
    with pytest.raises(ValueError, match="two saved steps or more"):
        theory.gap_recursion(run, LOSS)
    identity = ddln.descend(ddln.Identity(jnp.ones(DIM)), LOSS, optax.sgd(0.01), 2)
    with pytest.raises(ValueError, match="but it is a Identity"):
        theory.gap_recursion(identity, LOSS)
