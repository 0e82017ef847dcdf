import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.array([1.0, -1.0, 0.5])
LOSS = ddln.LeastSquares(X, Y)
NETWORK = ddln.DeepDiagonal(np.random.default_rng(1).normal(size=(3, 4)))


def test_loss_below_stops_where_the_loss_gets_there():
    flow = ddln.gradient_flow(NETWORK, LOSS, 1e3, event=ddln.LossBelow(1e-2), rtol=1e-9)
    assert flow.result == ddln.RESULTS.event_occurred
    np.testing.assert_allclose(flow.loss, [1e-2], rtol=1e-6)
    straight = ddln.gradient_flow(NETWORK, LOSS, float(flow.ts[0]), rtol=1e-9)
    np.testing.assert_allclose(flow.theta, straight.theta, atol=1e-6)


@pytest.mark.parametrize("coordinates", ["reduced", "full"])
def test_gradient_norm_below(coordinates):
    flow = ddln.gradient_flow(
        NETWORK, LOSS, 1e3, event=ddln.GradientNormBelow(1e-3), coordinates=coordinates, rtol=1e-9
    )
    gradient = jax.grad(lambda network: LOSS(network()))(flow.final)
    np.testing.assert_allclose(jnp.linalg.norm(gradient.layers), 1e-3, rtol=1e-4)


def test_rows_after_the_event_are_blank():
    ts = np.linspace(0, 50, 6)
    flow = ddln.gradient_flow(NETWORK, LOSS, 50.0, ts=ts, event=ddln.LossBelow(1e-2))
    reached = np.isfinite(flow.ts)
    assert 0 < reached.sum() < 6
    np.testing.assert_array_equal(reached, np.isfinite(flow.loss))
    assert np.all(np.asarray(flow.loss)[reached] >= 1e-2)


def test_a_condition_met_at_the_start_stops_there():
    flow = ddln.gradient_flow(NETWORK, LOSS, 10.0, event=ddln.LossBelow(1e6))
    assert flow.result == ddln.RESULTS.event_occurred
    np.testing.assert_array_equal(flow.ts, [0.0])
    np.testing.assert_allclose(flow.theta[0], NETWORK(), rtol=1e-14)


def test_a_boolean_condition_stops_after_a_step():
    flow = ddln.gradient_flow(NETWORK, LOSS, 10.0, event=lambda t, network, loss: t > 1.0)
    assert flow.result == ddln.RESULTS.event_occurred
    assert 1.0 < flow.ts[0] < 10.0


def test_lanes_stop_at_their_own_times():
    stack = jax.vmap(lambda s: ddln.DeepDiagonal(s * NETWORK.layers))(jnp.array([0.5, 1.0, 2.0]))
    flows = jax.vmap(
        lambda p: ddln.gradient_flow(p, LOSS, 1e3, event=ddln.LossBelow(1e-2), throw=False)
    )(stack)
    np.testing.assert_allclose(flows.loss, 1e-2, rtol=1e-3)
    assert len(np.unique(flows.ts)) == 3


def test_values_of_events_in_other_dtypes():
    """Integers and truth values of Python, and float32 in a flow of float64."""
    single = ddln.gradient_flow(
        NETWORK,
        LOSS,
        1e3,
        event=lambda t, network, loss: (loss(network()) - 1e-2).astype(jnp.float32),
    )
    double = ddln.gradient_flow(NETWORK, LOSS, 1e3, event=ddln.LossBelow(1e-2))
    np.testing.assert_allclose(single.ts, double.ts, rtol=1e-5)
    for value, stops in ((1.0, False), (True, True), (0, True)):
        flow = ddln.gradient_flow(
            NETWORK,
            LOSS,
            1.0,
            event=lambda t, network, loss, value=value: value,
            solver=diffrax.Tsit5(),
        )
        assert (flow.result == ddln.RESULTS.event_occurred) == stops
