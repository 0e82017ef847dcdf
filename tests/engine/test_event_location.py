"""Times of events (`ddln/engine/_event_location.py`) against a closed form, with two derivatives."""

import functools

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
    """The time, and the flow beside it."""
    start = ddln.Identity(jnp.reshape(a, (1,)))
    event = ddln.LossBelow(level)
    flow = ddln.gradient_flow(start, LOSS, 20.0, event=event, throw=False, **settings)
    return flow.ts[-1], flow


def closed_form(a, level=LEVEL):
    return jnp.log(a**2 / (2 * level)) / 2


TIGHT = {"rtol": 1e-11, "atol": 1e-13}


@pytest.mark.parametrize("solver", [None, diffrax.Tsit5(), diffrax.Kvaerno5()])
def test_time_and_derivatives(solver):
    """In the start and in the threshold; the condition of the last lane is met at the start."""

    @jax.jit
    @jax.vmap
    def found(a, level):
        of_both = functools.partial(event_time, solver=solver, **TIGHT)
        return jax.value_and_grad(of_both, argnums=(0, 1), has_aux=True)(a, level)

    starts, levels = jnp.asarray([0.5, 1.0, 7.0, 0.1]), jnp.asarray([LEVEL, LEVEL, 0.02, LEVEL])
    (time, flow), (slope, in_level) = found(starts, levels)
    np.testing.assert_allclose(time[:3], closed_form(starts, levels)[:3], rtol=1e-8)
    np.testing.assert_allclose(slope[:3], 1 / starts[:3], rtol=1e-6)
    np.testing.assert_allclose(in_level[:3], -1 / (2 * levels[:3]), rtol=1e-6)
    assert (flow.result == ddln.RESULTS.event_occurred).all()
    assert (float(time[3]), float(flow.theta[3, 0, 0])) == (0.0, 0.1)


def test_second_derivative_by_forward_over_reverse():
    """`test_gradient_grid.py` has those of the steps of other solvers."""

    @jax.jit
    @jax.vmap
    def curvature(a):
        slope = jax.grad(lambda a: event_time(a, solver=diffrax.Tsit5(), **TIGHT)[0])
        return jax.jvp(slope, (a,), (jnp.ones_like(a),))[1]

    starts = jnp.asarray([0.5, 2.0])
    np.testing.assert_allclose(curvature(starts), -1 / starts**2, rtol=1e-5)


def test_rows_before_the_event():
    ts = jnp.linspace(0.0, 4.0, 9)
    flow = ddln.gradient_flow(
        ddln.Identity(jnp.ones(1)), LOSS, 4.0, ts=ts, event=ddln.LossBelow(LEVEL), **TIGHT
    )
    before = np.asarray(ts) <= closed_form(1.0)
    np.testing.assert_array_equal(np.isfinite(flow.ts), before)
    np.testing.assert_allclose(flow.theta[before, 0], np.exp(-ts[before]), rtol=1e-9)
    assert flow.result == ddln.RESULTS.event_occurred


def test_float32_stops_at_the_zero():
    loss = ddln.LeastSquares(jnp.eye(1, dtype=jnp.float32), jnp.zeros(1, jnp.float32))
    flow = ddln.gradient_flow(
        ddln.Identity(jnp.ones(1, jnp.float32)), loss, 20.0, event=ddln.LossBelow(LEVEL), rtol=1e-5
    )
    np.testing.assert_allclose(flow.ts[0], closed_form(1.0), rtol=1e-4)
    np.testing.assert_allclose(flow.loss[0], LEVEL, rtol=1e-4)
