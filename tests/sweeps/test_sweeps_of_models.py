"""Sums, four vectors and groups in the facilities of sweeps, against SciPy's flows of their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln

SIZE = 12  # more than there are lanes, so that there is a queue
RNG = np.random.default_rng(0)
Y = RNG.normal(size=3)
WEIGHTS = RNG.choice([-1.0, 1.0], (SIZE, 5, 4)) * RNG.uniform(0.5, 1.5, (SIZE, 5, 4))
ENDS = np.geomspace(0.2, 2.0, SIZE)
ONES = np.ones(4)

# From weights [5, 4] to a start, and to theta by hand.
MODELS = {
    "four vectors": (
        lambda w: ddln.FourVector(*w[:4]),
        lambda w: w[0] * w[1] - w[2] * w[3],
    ),
    "sum": (
        lambda w: ddln.Sum(
            ddln.Constant(ONES), ddln.DeepDiagonal(w[:3], -0.5), ddln.Power(jnp.abs(w[3]), 2.5)
        ),
        lambda w: ONES - 0.5 * w[0] * w[1] * w[2] + jnp.abs(w[3]) ** 2.5,
    ),
    "groups": (
        lambda w: ddln.Grouped(w[:2, :2], w[4], [[0, 3], [1, 2]]),
        lambda w: (w[0, :2] * w[1, :2])[np.array([0, 1, 1, 0])] * w[4],
    ),
}


def data(index):
    key = jax.random.fold_in(jax.random.key(0), index)
    return ddln.LeastSquares(jax.random.normal(key, (3, 4)), Y)


def swept(name, weights, **settings):
    starts = jax.vmap(MODELS[name][0])(weights)
    losses, ends = ddln.PerLane(data), ddln.PerLane(jnp.asarray(ENDS))
    return ddln.sweep(starts, losses, ends, rtol=1e-8, atol=1e-11, progress=False, **settings)


@pytest.mark.parametrize("name", MODELS)
def test_a_data_set_and_an_end_each_in_a_store(name, tmp_path):
    result = swept(name, jnp.asarray(WEIGHTS), store=tmp_path / "lanes.zarr")
    assert result.okay.all()
    for lane in (0, 7):
        X = np.asarray(data(lane).X)

        @jax.jit
        def velocity(t, w, X=X):
            theta, pull_back = jax.vjp(lambda w: MODELS[name][1](w.reshape(5, 4)), w)
            return -pull_back(jnp.asarray(X.T) @ (jnp.asarray(X) @ theta - Y))[0]

        start = WEIGHTS[lane].ravel()
        flow = solve_ivp(velocity, (0, ENDS[lane]), start, "LSODA", rtol=1e-10, atol=1e-12)
        theta = MODELS[name][1](flow.y[:, -1].reshape(5, 4))
        np.testing.assert_allclose(result.theta[lane, 0], theta, atol=1e-6)
    # Nothing is computed again.
    again = swept(name, jnp.asarray(WEIGHTS), store=tmp_path / "lanes.zarr")
    np.testing.assert_array_equal(again.theta[:], result.theta[:])


@pytest.mark.parametrize("name", ["four vectors", "sum"])
def test_inside_of_jit_and_grad(name):
    direction = jnp.asarray(RNG.normal(size=WEIGHTS.shape))

    @jax.jit
    @jax.value_and_grad
    def value(weights):
        return jnp.sum(jnp.sin(swept(name, weights).theta))

    _, slope = value(jnp.asarray(WEIGHTS))
    up, down = (value(jnp.asarray(WEIGHTS) + s * 1e-5 * direction)[0] for s in (1, -1))
    np.testing.assert_allclose(jnp.vdot(slope, direction), (up - down) / 2e-5, rtol=1e-5)
