"""Times of events (`ddln/engine/_event_location.py`) against a closed form, with two derivatives."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

# theta' = -theta: L = a^2 exp(-2 t) / 2 falls to c at t = log(a^2 / (2 c)) / 2.
LOSS = ddln.LeastSquares(jnp.eye(1), jnp.zeros(1))
LEVEL = 1e-2


def event_time(a, level=LEVEL, **settings):
    start = ddln.Identity(jnp.reshape(a, (1,)))
    event = ddln.LossBelow(level)
    flow = ddln.gradient_flow(start, LOSS, 20.0, event=event, throw=False, **settings)
    return flow.ts[-1]


def closed_form(a, level=LEVEL):
    return jnp.log(a**2 / (2 * level)) / 2


TIGHT = {"rtol": 1e-11, "atol": 1e-13}


@pytest.mark.parametrize("solver", [None, diffrax.Tsit5(), diffrax.Kvaerno5()])
def test_time_and_derivative(solver):
    found = jax.jit(jax.vmap(jax.value_and_grad(lambda a: event_time(a, solver=solver, **TIGHT))))
    starts = jnp.asarray([0.5, 1.0, 7.0])
    time, slope = found(starts)
    np.testing.assert_allclose(time, closed_form(starts), rtol=1e-8)
    np.testing.assert_allclose(slope, 1 / starts, rtol=1e-6)


def test_second_derivative_by_forward_over_reverse():
    def curvature(a):
        return jax.jvp(jax.grad(lambda a: event_time(a, **TIGHT)), (a,), (jnp.ones_like(a),))[1]

    starts = jnp.asarray([0.5, 2.0])
    np.testing.assert_allclose(jax.vmap(curvature)(starts), -1 / starts**2, rtol=1e-5)


def test_the_derivative_in_the_threshold():
    found = jax.grad(lambda level: event_time(jnp.asarray(1.0), level, **TIGHT))(LEVEL)
    np.testing.assert_allclose(found, -1 / (2 * LEVEL), rtol=1e-6)


def test_rows_before_the_event_and_a_condition_met_at_the_start():
    ts = jnp.linspace(0.0, 4.0, 9)
    flow = ddln.gradient_flow(
        ddln.Identity(jnp.ones(1)), LOSS, 4.0, ts=ts, event=ddln.LossBelow(LEVEL), **TIGHT
    )
    before = np.asarray(ts) <= closed_form(1.0)
    np.testing.assert_array_equal(np.isfinite(flow.ts), before)
    np.testing.assert_allclose(flow.theta[before, 0], np.exp(-ts[before]), rtol=1e-9)
    assert flow.result == ddln.RESULTS.event_occurred
    met = ddln.gradient_flow(ddln.Identity(jnp.ones(1)), LOSS, 4.0, event=ddln.LossBelow(1.0))
    assert met.result == ddln.RESULTS.event_occurred
    assert (float(met.ts[0]), float(met.theta[0, 0])) == (0.0, 1.0)


def test_float32_stops_at_the_zero():
    loss = ddln.LeastSquares(jnp.eye(1, dtype=jnp.float32), jnp.zeros(1, jnp.float32))
    flow = ddln.gradient_flow(
        ddln.Identity(jnp.ones(1, jnp.float32)), loss, 20.0, event=ddln.LossBelow(LEVEL), rtol=1e-5
    )
    np.testing.assert_allclose(flow.ts[0], closed_form(1.0), rtol=1e-4)
    np.testing.assert_allclose(flow.loss[0], LEVEL, rtol=1e-4)
