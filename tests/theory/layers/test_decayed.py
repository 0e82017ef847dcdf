import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
LAYERS = jnp.asarray(RNG.uniform(0.2, 1.2, (3, 6)) * RNG.choice([-1, 1], (3, 6)))
LOSS = ddln.LeastSquares(RNG.normal(size=(4, 6)), RNG.normal(size=4), scale=0.5)
TS = jnp.linspace(0.1, 4.0, 12)
SCHEDULES = {
    "number": 0.3,
    "function": lambda t: 0.2 * (1 + jnp.cos(t)),
    "jumps": ddln.PiecewiseConstant([1.0, 2.5], [0.4, 0.0, 0.1]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_integral_of_a_schedule_against_scipy(name):
    decay = SCHEDULES[name]
    ts = np.array([0.0, 0.5, 1.0, 3.0, 9.0])
    at = decay if callable(decay) else lambda t: decay
    expected = [
        scipy.integrate.quad(lambda s: float(at(s)), 0, t, points=[1.0, 2.5], limit=200)[0]
        for t in ts
    ]
    np.testing.assert_allclose(ddln.integrated_decay(decay, ts), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_gaps_shrink_at_twice_the_rate(name):
    decay = SCHEDULES[name]
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(LAYERS),
        LOSS,
        4.0,
        ts=TS,
        weight_decay=decay,
        coordinates="full",
        rtol=1e-9,
        atol=1e-12,
    )
    check = theory.decayed_gap(flow, LOSS, decay)
    assert check.status == "holds"
    largest = np.abs(check.lhs - check.rhs).max()
    assert largest < 1e-7
    # Another weight decay, or none, is noticed.
    assert theory.decayed_gap(flow, LOSS, 0.29).status == "violated"
    assert theory.conservation(flow, LOSS).status == "violated"


def test_the_regularized_loss_decreases_where_the_loss_may_not():
    start, decay = ddln.DeepDiagonal(LAYERS), 0.5
    # From the end without weight decay the loss can only increase.
    end = ddln.gradient_flow(start, LOSS, 60.0).final
    flow = ddln.gradient_flow(end, LOSS, 4.0, ts=TS, weight_decay=decay, rtol=1e-8, atol=1e-11)
    assert theory.regularized_loss(flow, LOSS, decay).status == "holds"
    assert theory.monotone_loss(flow, LOSS).status == "violated"
    assert theory.regularized_loss(flow, LOSS, 0.0).status == "violated"
    with pytest.raises(ValueError, match="Argument `weight_decay` must be a number"):
        theory.regularized_loss(flow, LOSS, jnp.cos)


def test_checks_under_vmap():
    @jax.vmap
    def status(scale):
        start = ddln.DeepDiagonal(scale * LAYERS)
        flow = ddln.gradient_flow(start, LOSS, 1.0, ts=TS / 4, weight_decay=0.1, throw=False)
        gap = theory.decayed_gap(flow, LOSS, 0.1)
        return jnp.all(jnp.abs(gap.lhs - gap.rhs) <= gap.tolerance)

    assert np.all(status(jnp.array([0.01, 1.0, 2.0])))
