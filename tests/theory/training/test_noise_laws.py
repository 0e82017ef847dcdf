"""The laws of stochastic flows: exact in logarithms, of order 1/2 for layers, and those of real SGD."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory

SAMPLES, DIM = 4, 6
RNG = np.random.default_rng(5)
X = RNG.normal(size=(SAMPLES, DIM))
Y = RNG.normal(size=SAMPLES)
KAPPA = 0.5 / SAMPLES
LOSS = ddln.LeastSquares(X, Y, scale=KAPPA)


def start(depth, seed=1):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.3, 1.2, (depth, DIM))


def paths(network, t1, steps, count, noise=None, loss=LOSS, **settings):
    @jax.jit
    @jax.vmap
    def run(key):
        path = ddln.stochastic_flow(
            network,
            loss,
            t1,
            key=key,
            noise=noise or ddln.SampleNoise(),
            steps=steps,
            throw=False,
            **settings,
        )
        return path, theory.stochastic_gap(path, loss)

    return run(jax.random.split(jax.random.key(7), count))


def check_law(check):
    """Holds to rounding, and tells a wrong constant."""
    assert check.holds.all()
    assert float(jnp.abs(check.rhs - check.lhs).max()) < 1e-11
    assert float(-check.rhs.min()) > 0.01
    for wrong in (2.0, 0.0):
        assert eqx.tree_at(lambda c: c.rhs, check, wrong * check.rhs).violated.all()


def test_the_law_holds_to_rounding_in_logarithmic_coordinates():
    network = ddln.DeepDiagonal(start(4), factor=1.3)
    # Few steps: nothing is left to the limit dt -> 0.
    _, check = paths(network, 20.0, 200, 8, step_size=0.1, ts=jnp.linspace(0, 20, 5))
    check_law(check)


def test_layers_converge_to_the_law_with_order_one_half():
    network, count = ddln.DeepDiagonal(start(3)), 150
    settings = {"step_size": 0.1, "brownian_steps": 4096}
    exact, _ = paths(network, 1.0, 4096, count, **settings)

    def errors(steps, **changes):
        path, check = paths(network, 1.0, steps, count, coordinates="full", **settings, **changes)
        differences = path.theta - exact.theta, check.rhs - check.lhs
        assert check.holds.all()
        return path, check, [float(jnp.sqrt(jnp.mean(jnp.square(d)))) for d in differences]

    counts = [128, 1024]
    rows = [errors(steps) for steps in counts]
    for kind in range(2):
        sizes = [row[2][kind] for row in rows]
        slope = -np.polyfit(np.log(counts), np.log(sizes), 1)[0]
        assert 0.4 < slope < 0.6
    # The estimate of the error is not idle.
    path, check, (_, broken) = rows[-1]
    assert float(jnp.sqrt(jnp.mean(jnp.square(check.tolerance)))) < 25 * broken
    # Twice the exponent, or that of a Stratonovich equation, is seen in the mean over the paths.
    mean, law = -check.lhs.mean(0), path.record.shrinkage.mean(0)
    spread = jnp.std(check.rhs - check.lhs, axis=0) / count**0.5
    assert (jnp.abs(mean - law) < 6 * spread).all()
    for wrong in (2 * law, 0 * law):
        assert (jnp.abs(mean - wrong) > 6 * spread).all()
    # A Stratonovich solver would conserve the gaps, but for the correction of the drift.
    _, check, (off, broken) = errors(256, solver=diffrax.Heun())
    assert broken < 0.05 * float(-check.rhs.mean())
    assert off < 0.01


def entropy_projection(target, plus, minus, factor):
    """argmin of the divergence of scale c |w+ w-| from its centre on X theta = X target: Newton in NumPy."""
    size, centre = factor * np.abs(plus * minus), np.log(np.abs(plus / minus))
    nu = np.zeros(SAMPLES)
    for _ in range(100):
        exponent = 2 * X.T @ nu + centre
        residual = X @ (size * np.sinh(exponent) - target)
        step = np.linalg.solve(2 * X @ np.diag(size * np.cosh(exponent)) @ X.T, residual)
        nu = nu - step * min(1.0, 0.5 / np.abs(X.T @ step).max())
    return size * np.sinh(2 * X.T @ nu + centre)


def test_a_path_ends_at_the_limit_of_the_shrunk_start():
    layers, factor = start(2), 1.3
    network, ts = ddln.DeepDiagonal(layers, factor), jnp.array([1.0, 2.0, 400.0])
    path, check = paths(network, 400.0, 4000, 2, step_size=0.3, ts=ts)
    check_law(check)
    path = jax.tree.map(lambda leaf: leaf[0], path)
    end = np.asarray(path.theta[-1])
    np.testing.assert_allclose(X @ end, Y, atol=1e-9)
    plus, minus = (layers[0] + layers[1]) / 2**0.5, (layers[0] - layers[1]) / 2**0.5
    shrunk = np.exp(-np.asarray(path.record.shrinkage[-1, 0]) / 2)
    expected = entropy_projection(end, plus * shrunk, minus * shrunk, factor)
    np.testing.assert_allclose(end, expected, atol=1e-11)
    # The start as it was predicts another end.
    assert np.abs(end - entropy_projection(end, plus, minus, factor)).max() > 1e-3
    limit = ddln.limit(theory.effective_start(path), LOSS)
    np.testing.assert_allclose(limit.theta, end, atol=1e-8)
    # Without its last time there is no end.
    unfinished = eqx.tree_at(lambda p: p.ts, path, path.ts.at[-1].set(jnp.inf))
    assert jnp.isnan(theory.effective_start(unfinished)()).all()


def real_sgd(layers, gamma, steps, seeds):
    """Single-sample SGD on theta = u v, L = |X theta - y|^2/(2n): shrinkage, and what the models say."""
    rng = np.random.default_rng(11)
    u, v = (np.broadcast_to(layer, (seeds, DIM)).copy() for layer in layers)
    second, isotropic, centred = np.zeros((3, seeds, DIM))
    first = np.log(np.abs(layers[0] ** 2 - layers[1] ** 2))
    for _ in range(steps):
        residual = (u * v) @ X.T - Y
        mean = residual @ X / SAMPLES
        square = residual**2 @ X**2 / SAMPLES
        second += gamma**2 * square
        centred += gamma**2 * (square - mean**2)
        isotropic += gamma**2 * np.mean(residual**2, axis=1)[:, None] * np.mean(X**2, axis=0)
        k = rng.integers(SAMPLES, size=seeds)
        g = residual[np.arange(seeds), k][:, None] * X[k]
        u, v = u - gamma * g * v, v - gamma * g * u
    return first - np.log(np.abs(u**2 - v**2)), second, centred, isotropic


def test_real_sgd_has_the_exact_second_moment_and_not_the_isotropic_one():
    layers, gamma, steps, seeds = start(2), 0.02, 800, 250
    shrinkage, second, centred, isotropic = real_sgd(layers, gamma, steps, seeds)

    def interval(samples):
        return 4 * np.std(samples, axis=0) / seeds**0.5

    mean = shrinkage.mean(axis=0)
    off = (shrinkage - second).mean(axis=0)
    # Beside chance: x^4 / 2 in -log|1 - x^2|, for x of the order of 0.05.
    assert (np.abs(off) < interval(shrinkage - second) + 0.01 * mean).all()

    def simulated(noise):
        network = ddln.DeepDiagonal(layers)
        path, _ = paths(network, gamma * steps, steps, seeds, noise=noise, step_size=gamma)
        return np.asarray(path.record.shrinkage[:, -1, 0]), np.asarray(path.record.loss_integral)

    (exact, _), (model, integral) = simulated(ddln.SampleNoise()), simulated(ddln.IsotropicNoise())
    # The exponent of the paper: 4 kappa gamma diag(X^T X) int L, for theta = u v.
    expected = 4 * KAPPA * gamma * integral[:, -1:] * np.sum(X**2, axis=0)
    np.testing.assert_allclose(model, expected, rtol=1e-11)
    room = interval(exact) + interval(centred) + 0.05 * mean
    assert (np.abs(exact.mean(axis=0) - centred.mean(axis=0)) < room).all()
    # Right in the sum over the coordinates, wrong at most of them.
    ratio = model.mean(axis=0) / mean
    assert 0.8 < model.mean() / mean.mean() < 1.2
    assert ratio.min() < 0.8
    assert ratio.max() > 1.2
    beyond = np.abs(model.mean(axis=0) - mean) > interval(model) + interval(shrinkage) + 0.05 * mean
    assert beyond.sum() >= DIM // 2
    ratio = isotropic.mean(axis=0) / second.mean(axis=0)
    assert ratio.min() < 0.8
    assert ratio.max() > 1.2


def test_other_trajectories_are_refused():
    def deep(size):
        return ddln.stochastic_flow(
            ddln.DeepDiagonal(start(4)),
            LOSS,
            1.0,
            key=jax.random.key(0),
            noise=ddln.SampleNoise(),
            step_size=size,
            steps=8,
        )

    def without_record(size):
        return theory.stochastic_gap(eqx.tree_at(lambda p: p.record, deep(size), None), LOSS)

    with pytest.raises(ValueError, match="must have two layers, but it has 4"):
        jax.eval_shape(lambda size: theory.effective_start(deep(size)), 0.1)
    with pytest.raises(ValueError, match=r"must be a `ddln.stochastic_flow`"):
        jax.eval_shape(without_record, 0.1)
