"""Settings of an integration: rounded times, values of wrong types, and what only a trace shows."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddln
from ddln.engine import PerLane, Solve

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.array([1.0, -1.0, 0.5])
LOSS = ddln.LeastSquares(X, Y)
NETWORK = ddln.DeepDiagonal(np.random.default_rng(1).normal(size=(3, 4)))
ENDS = (0.1, 0.3, 7.0, 300, 1e5)


def grids(t1):
    yield jnp.logspace(-3, np.log10(t1), 50)
    yield jnp.geomspace(1e-3, t1, 7)
    yield np.geomspace(1e-3, t1, 50)
    yield np.linspace(0, t1, 50)
    yield np.arange(11) * (t1 / 10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_times_that_rounding_put_beyond_the_end_are_the_end(dtype):
    beyond = 0
    for t1 in ENDS:
        for grid in grids(t1):
            ts = np.asarray(grid, dtype)
            beyond += float(ts[-1]) > t1
            clipped = Solve(t1, ts).checked().ts
            assert float(clipped[-1]) <= t1
            np.testing.assert_allclose(clipped, ts, rtol=1e-6)
    # Otherwise nothing is tested here.
    assert beyond


def test_times_beyond_the_end_by_more_are_refused():
    for t1, last in ((0.3, 0.31), (0.3, 0.3 * (1 + 1e-5)), (1e5, 1e5 + 1)):
        with pytest.raises(ValueError, match=r"`ts` must lie in \[0, t1\]"):
            Solve(t1, [0.1, last]).checked()


def test_times_of_lanes_are_clipped_to_the_end_of_each():
    ends = np.array([0.1, 0.3, 0.7])
    over = np.nextafter(ends, 1)
    ts = np.stack([ends / 2, over], axis=1)
    found = Solve(PerLane(ends), PerLane(ts)).checked().ts.values
    np.testing.assert_array_equal(found[:, 1], ends)
    found = Solve(PerLane(ends), [0.05, over[0]]).checked().ts
    assert found[-1] == ends[0]


@pytest.fixture(scope="module")
def traced():
    """A flow whose end, times and event are traced."""

    @jax.jit
    def run(t1, middle, blank_after):
        def event(t, network, loss):
            return jnp.where(t > blank_after, jnp.nan, 1.0)

        ts = jnp.stack([middle, jnp.exp(jnp.log(t1))])
        return ddln.gradient_flow(
            NETWORK, LOSS, t1, ts=ts, event=event, solver=diffrax.Tsit5(), throw=False
        )

    return lambda *numbers: run(*(jnp.asarray(number, float) for number in numbers))


def test_a_grid_made_of_a_traced_end_reaches_it(traced):
    over = 0
    for t1 in (0.1, 0.3, 0.7, 1.1):
        flow = traced(t1, t1 / 2, 9.0)
        assert flow.result == ddln.RESULTS.successful
        assert np.isfinite(flow.loss).all()
        over += float(jnp.exp(jnp.log(t1))) > t1
    assert over


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((0.5, 0.6, 9.0), "invalid_times"),
        ((0.5, -0.1, 9.0), "invalid_times"),
        ((-0.5, 0.1, 9.0), "invalid_times"),
        ((np.nan, 0.1, 9.0), "invalid_times"),
        ((np.inf, 0.1, 9.0), "invalid_times"),
        ((0.5, 0.1, 0.2), "undefined_event"),
        ((0.5, 0.1, -1.0), "undefined_event"),
    ],
)
def test_what_only_a_run_shows_is_a_code(traced, numbers, code):
    assert traced(*numbers).result == getattr(ddln.RESULTS, code)


def test_a_time_that_float32_cannot_resolve_is_a_code():
    start = ddln.DeepDiagonal.zero_last(jnp.ones(4, jnp.float32), 5, 1e-3)
    loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))
    flow = ddln.gradient_flow(start, loss, 1e11, throw=False)
    assert flow.result == ddln.RESULTS.unresolved_time
    assert "float64" in ddln.RESULTS[flow.result]
    assert flow.stats["num_steps"] < 16384


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"solver": "Kvaerno5"},
            r"`solver` must be None or a solver.*`diffrax\.Kvaerno5\(\)`.*'Kvaerno5'",
        ),
        ({"solver": diffrax.Tsit5}, "`solver` must be"),
        ({"adjoint": "reverse"}, "`adjoint` must be"),
        ({"adjoint": diffrax.ForwardMode}, "`adjoint` must be"),
        ({"event": 0.1}, "`event` must be None or a function"),
        ({"event": ddln.LossBelow}, "`event` must be None or a function"),
    ],
)
def test_settings_of_wrong_types(settings, message, unchecked):
    with pytest.raises(ValueError, match=message):
        Solve(1.0, **settings).checked()


@pytest.mark.parametrize("optimizer", ["sgd", optax.sgd, 0.1, None])
def test_optimizers_of_wrong_types(optimizer, unchecked):
    with pytest.raises(
        ValueError, match=r"`optimizer` must be an optax optimizer such as `optax\.sgd"
    ):
        ddln.descend(NETWORK, LOSS, optimizer, 3)
