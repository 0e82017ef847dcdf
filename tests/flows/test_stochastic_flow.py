"""Stochastic flow against the same schemes written in NumPy, and its contract."""

import re

import diffrax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln.engine.internal import BrownianSteps

SAMPLES, DIM = 4, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, DIM))
Y = RNG.normal(size=SAMPLES)
LOSS = ddln.LeastSquares(X, Y, scale=0.5 / SAMPLES)
GAMMA, T1 = 0.1, 4.0


def start(depth, seed=1):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.3, 1.2, (depth, DIM))


def run(network, steps=64, key=0, noise=None, **settings):
    settings = {"step_size": GAMMA, "throw": False} | settings
    key = jax.random.key(key) if isinstance(key, int) else key
    return ddln.stochastic_flow(
        network, LOSS, T1, key=key, noise=noise or ddln.SampleNoise(), steps=steps, **settings
    )


def increments(steps, seed=0, refinement=1):
    """The Brownian increments of a run over its steps, with variance dt."""
    path = BrownianSteps(jax.random.key(seed), SAMPLES, jnp.float64, refinement)
    drawn = jax.vmap(lambda k: path.evaluate(k, k + 1))(jnp.arange(steps))
    return np.asarray(drawn) * np.sqrt(T1 / steps)


def stochastic_gradient(theta, dt, brownian):
    """g, C_ii and dZ for single samples, C from its definition."""
    residual = X @ theta - Y
    each = residual[:, None] * X  # n kappa 2 r_k x_k for kappa = 1/(2n)
    g = each.mean(axis=0)
    variance = (each**2).mean(axis=0) - g**2
    spread = brownian - brownian.mean()
    return g, variance, g * dt + np.sqrt(GAMMA / SAMPLES) * each.T @ spread


def test_two_layers_are_the_logarithmic_euler_scheme():
    layers, steps, factor = start(2), 64, 1.3
    plus, minus = (layers[0] + layers[1]) / 2**0.5, (layers[0] - layers[1]) / 2**0.5
    dt, dual = T1 / steps, np.zeros(DIM)
    rows, duals, losses = [], [], [0.0]
    for brownian in increments(steps):
        theta = factor * (plus**2 - minus**2) / 2
        _, variance, dz = stochastic_gradient(theta, dt, brownian)
        losses.append(losses[-1] + dt * np.mean((X @ theta - Y) ** 2) / 2)
        drift = factor**2 / 2 * GAMMA * variance * dt
        plus, minus = plus * np.exp(-factor * dz - drift), minus * np.exp(factor * dz - drift)
        dual = dual - dz
        rows.append(factor * (plus**2 - minus**2) / 2)
        duals.append(dual)
    path = run(ddln.DeepDiagonal(layers, factor), ts=[0.0, 1.0, 2.03, 4.0])
    assert path.method == "reduced, Euler"
    # 2.03 is rounded to step 32.
    np.testing.assert_array_equal(path.ts, [0.0, 1.0, 2.0, 4.0])
    np.testing.assert_allclose(path.theta[1:], np.array(rows)[[15, 31, 63]], atol=1e-12)
    np.testing.assert_allclose(path.dual[1:], np.array(duals)[[15, 31, 63]], atol=1e-12)
    np.testing.assert_allclose(path.record.loss_integral, np.array(losses)[[0, 16, 32, 64]])
    np.testing.assert_allclose(path.theta[0], factor * np.prod(layers, axis=0), atol=1e-15)
    assert int(path.stats["num_steps"]) == steps


def test_full_coordinates_are_the_euler_maruyama_scheme():
    layers, steps = start(3), 64
    weights = layers.copy()
    for brownian in increments(steps):
        theta = np.prod(weights, axis=0)
        _, _, dz = stochastic_gradient(theta, T1 / steps, brownian)
        others = np.stack([np.prod(np.delete(weights, j, axis=0), axis=0) for j in range(3)])
        weights = weights - others * dz
    path = run(ddln.DeepDiagonal(layers), coordinates="full")
    np.testing.assert_allclose(path.final.layers, weights, atol=1e-12)
    assert path.method == "full, Euler"


def test_any_parameterization():
    measurements = RNG.normal(size=(SAMPLES, 2, 3))
    left, right = RNG.normal(size=(2, 1)), RNG.normal(size=(3, 1))
    loss = ddln.LeastSquares(measurements, Y, scale=0.5)
    path = ddln.stochastic_flow(
        ddln.MatrixFactorization(left, right),
        loss,
        0.5,
        key=jax.random.key(0),
        noise=ddln.LabelNoise(0.3),
        step_size=0.1,
        steps=16,
    )
    u, v, dt = left.copy(), right.copy(), 0.5 / 16
    for brownian in increments(16) * np.sqrt(0.5 / T1):
        residual = np.einsum("nij,ij->n", measurements, u @ v.T) - Y
        slopes = residual * dt + np.sqrt(0.1) * 0.3 * brownian
        dz = np.einsum("n,nij->ij", slopes, measurements)
        u, v = u - dz @ v, v - dz.T @ u
    np.testing.assert_allclose(path.final.left, u, atol=1e-12)
    np.testing.assert_allclose(path.final.right, v, atol=1e-12)
    assert path.record.shrinkage is None


def test_a_refined_brownian_path_is_the_same_path():
    fine = increments(64).reshape(16, 4, SAMPLES).sum(axis=1)
    np.testing.assert_allclose(increments(16, refinement=4), fine, atol=1e-14)
    np.testing.assert_allclose(np.var(increments(4096)), T1 / 4096, rtol=0.05)


def test_without_noise_it_is_the_gradient_flow():
    layers = start(3)

    def velocity(t, state):
        u = state[:-DIM].reshape(3, DIM)
        g = X.T @ (X @ np.prod(u, axis=0) - Y) / SAMPLES
        others = [np.prod(np.delete(u, j, axis=0), axis=0) for j in range(3)]
        return np.concatenate([*(-other * g for other in others), -g])

    state = np.concatenate([layers.reshape(-1), np.zeros(DIM)])
    end = solve_ivp(velocity, (0, T1), state, rtol=1e-9, atol=1e-11).y[:, -1]
    path = jax.jit(lambda: run(ddln.DeepDiagonal(layers), steps=4096, step_size=0.0))()
    np.testing.assert_allclose(
        path.theta[0], np.prod(end[:-DIM].reshape(3, DIM), axis=0), atol=1e-3
    )
    np.testing.assert_allclose(path.dual[0], end[-DIM:], atol=2e-3)


def code(results, lane):
    return jax.tree.map(lambda leaf: leaf[lane], results)


def test_ties_zeros_and_bad_starts_as_lanes():
    tied, frozen, mixed = start(3), start(3), start(3)
    tied[1] = -tied[0]
    frozen[:2] = 0.0
    mixed[:, 0], mixed[:2, 1], mixed[0, 2] = 0.7, 0.0, 0.0
    broken, huge, plain = np.full((3, DIM), np.nan), np.full((3, DIM), 1e160), start(3)
    paths = jax.jit(jax.vmap(lambda u: run(ddln.DeepDiagonal(u))))
    lanes = paths(np.stack([tied, frozen, mixed, broken, huge, plain]))
    ends = np.asarray(lanes.parameterization.layers)[:, 0]
    np.testing.assert_allclose(np.abs(ends[0, 0]), np.abs(ends[0, 1]), rtol=1e-12)
    np.testing.assert_array_equal(np.sign(ends[0, :2]), np.sign(tied[:2]))
    np.testing.assert_allclose(ends[1], frozen, rtol=1e-14)
    np.testing.assert_allclose(np.ptp(ends[2, :, 0]), 0.0, atol=1e-14)
    np.testing.assert_allclose(ends[2, :, 1], mixed[:, 1], rtol=1e-14)
    assert ends[2, 0, 2] != 0
    names = ["successful"] * 3 + [
        "nonfinite_initialization",
        "nonfinite_initial_loss",
        "successful",
    ]
    for lane, name in enumerate(names):
        assert bool(code(lanes.result, lane) == getattr(ddln.RESULTS, name))
        assert np.isfinite(lanes.theta[lane]).all() == (name == "successful")
    # One lane does not disturb another.
    np.testing.assert_array_equal(paths(np.stack([plain] * 6)).theta[5], lanes.theta[5])
    network = ddln.DeepDiagonal(frozen)
    with pytest.warns(UserWarning, match=r"Coordinates \[0, 1, 2, 3, 4\] have two or more layers"):
        jax.eval_shape(lambda size: run(network, step_size=size, throw=True), 0.1)


def test_a_path_that_diverges_has_a_code_and_keeps_its_finite_rows():
    network, times = ddln.DeepDiagonal(start(2)), np.linspace(0, T1, 9)

    def both(size):
        settings = {"step_size": size, "coordinates": "full"}
        return run(network, ts=times, **settings), run(network, **settings)

    saved, last = jax.jit(jax.vmap(both))(jnp.array([GAMMA, 300.0, jnp.nan]))
    for paths in (saved, last):
        for lane, name in enumerate(["successful", "diverged", "diverged"]):
            assert bool(code(paths.result, lane) == getattr(ddln.RESULTS, name))
        # What is kept is finite, what is not kept is marked.
        reached = np.isfinite(paths.ts)
        np.testing.assert_array_equal(np.isfinite(paths.theta).all(axis=-1), reached)
        np.testing.assert_array_equal(np.isfinite(paths.loss), reached)
    assert np.isfinite(saved.theta[0]).all()
    assert 0 < np.isfinite(saved.ts[1]).sum() < 9
    assert 0 < float(last.ts[1, 0]) < T1
    assert int(last.stats["num_steps"][1]) == round(float(last.ts[1, 0]) / T1 * 64)
    with pytest.raises(RuntimeError, match="step size"):
        run(ddln.DeepDiagonal(start(3)), step_size=300.0, coordinates="full", throw=True)


def test_float32_stays_float32():
    loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32), scale=0.5 / SAMPLES)
    layers = start(2).astype(np.float32)
    path = ddln.stochastic_flow(
        ddln.DeepDiagonal(layers),
        loss,
        T1,
        key=jax.random.PRNGKey(0),
        noise=ddln.IsotropicNoise(),
        step_size=GAMMA,
        steps=256,
    )
    for leaf in jax.tree.leaves((path.theta, path.loss, path.dual, path.record)):
        assert leaf.dtype == jnp.float32
    ratio = np.abs(np.diff(np.asarray(path.final.layers) ** 2, axis=0) / np.diff(layers**2, axis=0))
    ratio = np.abs(ratio[0])
    np.testing.assert_allclose(np.log(ratio), -np.sum(path.record.shrinkage[0], axis=0), atol=1e-4)


def test_exports_for_all_platforms_without_callbacks():
    def paths(layers, key):
        return jax.vmap(lambda k: run(ddln.DeepDiagonal(layers), key=k, ts=[2.0, 4.0]).theta)(
            jax.random.split(jax.random.wrap_key_data(key), 3)
        )

    exported = jax.export.export(jax.jit(paths), platforms=["cpu", "cuda", "tpu"])(
        jax.ShapeDtypeStruct((2, DIM), jnp.float64), jax.ShapeDtypeStruct((2,), jnp.uint32)
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert not re.search(r"custom_call.*callback", exported.mlir_module())


def test_memory_does_not_grow_with_steps():
    paths = 100
    ends = jax.jit(jax.vmap(lambda k: run(ddln.DeepDiagonal(start(2)), 10**6, k).theta))
    compiled = ends.lower(jax.random.split(jax.random.key(0), paths)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10_000 * paths


def test_bad_arguments_are_named():
    network = ddln.DeepDiagonal(start(2))
    key, noise = jax.random.key(0), ddln.SampleNoise()

    def call(parameterization=network, loss=LOSS, t1=T1, **changes):
        settings = {"key": key, "noise": noise, "step_size": GAMMA, "steps": 8} | changes
        return ddln.stochastic_flow(parameterization, loss, t1, **settings)

    for message, arguments in {
        "`key` must be one JAX random key": {"key": None},
        "`key` must .* `jax.vmap` over keys": {"key": jax.random.split(key, 3)},
        "`step_size`": {"step_size": -0.1},
        "`steps` must be from 1": {"steps": 0},
        "`brownian_steps` must be a multiple of `steps` = 8": {"brownian_steps": 12},
        "`loss` must be a `ddln.AbstractPredictionLoss`": {"loss": lambda theta: jnp.sum(theta)},
        "`loss` must be a `ddln.LeastSquares`": {
            "loss": ddln.Logistic(X, np.sign(Y)),
            "noise": ddln.IsotropicNoise(),
        },
        "`t1`": {"t1": -1.0},
        "`ts` must lie in": {"ts": [5.0]},
        "`coordinates` must be 'full'": {
            "parameterization": ddln.Square(start(2)[0]),
            "coordinates": "reduced",
        },
        "`solver` must be .* Tsit5": {"solver": diffrax.Tsit5()},
        "`solver` must be .* ItoMilstein": {"solver": diffrax.ItoMilstein()},
        "`solver` must be .* SPaRK": {"solver": diffrax.SPaRK()},
    }.items():
        with pytest.raises(ValueError, match=message):
            call(**arguments)
    with pytest.raises(TypeError, match="key"):
        ddln.stochastic_flow(network, LOSS, T1, noise=noise, step_size=GAMMA, steps=8)
