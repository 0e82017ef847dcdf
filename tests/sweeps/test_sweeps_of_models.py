"""Sums, four vectors, groups and ties in the facilities of flows and sweeps, against SciPy's flows of their
weights.
"""

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
    "ties": (lambda w: ddln.Tied(w[:3], [2, 1, 1]), lambda w: w[0] ** 2 * w[1] * w[2]),
}


def data(index):
    key = jax.random.fold_in(jax.random.key(0), index)
    return ddln.LeastSquares(jax.random.normal(key, (3, 4)), Y)


def swept(name, weights, **settings):
    starts = jax.vmap(MODELS[name][0])(weights)
    losses, ends = ddln.PerLane(data), ddln.PerLane(jnp.asarray(ENDS))
    return ddln.sweep(starts, losses, ends, rtol=1e-8, atol=1e-11, progress=False, **settings)


def theta_of(name, weights):
    return np.asarray(MODELS[name][1](weights.reshape(5, 4)))


def by_scipy(name, X, start, end, **settings):
    """The flow of the weights."""
    X = jnp.asarray(X)

    @jax.jit
    def velocity(t, w):
        theta, pull_back = jax.vjp(lambda w: MODELS[name][1](w.reshape(5, 4)), w)
        return -pull_back(X.T @ (X @ theta - Y))[0]

    return solve_ivp(velocity, (0, end), start.ravel(), "LSODA", rtol=1e-10, atol=1e-12, **settings)


@pytest.mark.parametrize("name", MODELS)
def test_an_event_saved_times_and_dense_output(name):
    loss, times = data(3), np.array([0.02, 0.1, 0.3])
    start = MODELS[name][0](jnp.asarray(WEIGHTS[3]))
    level = 0.3 * float(loss(start.effective()))
    flow = ddln.gradient_flow(
        start,
        loss,
        50.0,
        ts=times,
        event=ddln.LossBelow(level),
        dense=True,
        rtol=1e-8,
        atol=1e-11,
        max_steps=500,
    )
    assert flow.result == ddln.RESULTS.event_occurred

    def passed(t, w):
        return 0.5 * np.sum((np.asarray(loss.X) @ theta_of(name, w) - Y) ** 2) - level

    passed.terminal = True
    exact = by_scipy(name, loss.X, WEIGHTS[3], 50.0, events=passed, dense_output=True)
    stop = exact.t_events[0][0]
    reached = times < stop
    assert reached.any()
    np.testing.assert_array_equal(np.isfinite(flow.ts), reached)
    for t, theta in zip(times[reached], flow.theta[reached], strict=True):
        np.testing.assert_allclose(theta, theta_of(name, exact.sol(t)), atol=1e-6)
    for t in (0.37 * stop, stop):
        np.testing.assert_allclose(flow.evaluate(t)(), theta_of(name, exact.sol(t)), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_data_set_and_an_end_each_in_a_store(name, tmp_path):
    result = swept(name, jnp.asarray(WEIGHTS), store=tmp_path / "lanes.zarr")
    assert result.okay.all()
    for lane in (0, 7):
        flow = by_scipy(name, data(lane).X, WEIGHTS[lane], ENDS[lane])
        np.testing.assert_allclose(result.theta[lane, 0], theta_of(name, flow.y[:, -1]), atol=1e-6)
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
