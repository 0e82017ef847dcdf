"""Sweeps with data, ends and settings of their own in each lane; `test_dynamics_grid` has every dynamics."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddln

SIZE = 12  # more than there are lanes, so that there is a queue
RNG = np.random.default_rng(0)
Y = jnp.asarray(RNG.normal(size=3))
LAYERS = jnp.asarray(RNG.choice([-1.0, 1.0], (SIZE, 2, 4)) * RNG.uniform(0.5, 1.5, (SIZE, 2, 4)))
STARTS = jax.vmap(ddln.DeepDiagonal)(LAYERS)
ENDS = jnp.geomspace(0.2, 3.0, SIZE)
NUMBERS = jnp.linspace(0.1, 1.0, SIZE)


def data(index):
    key = jax.random.fold_in(jax.random.key(0), index)
    return ddln.LeastSquares(jax.random.normal(key, (3, 4)), Y)


def test_events_with_a_threshold_of_their_own_stop_every_lane():
    levels = jnp.geomspace(0.3, 1e-3, SIZE)
    result = ddln.sweep(
        STARTS,
        data(0),
        100.0,
        event=ddln.LossBelow(ddln.PerLane(levels)),
        dynamics=ddln.MomentumDynamics(0.5),
        progress=False,
    )
    assert (result.result == ddln.RESULTS.event_occurred).all()
    np.testing.assert_allclose(result.loss[:, 0], levels, rtol=1e-6)


def test_limits_of_a_data_set_each():
    result = ddln.sweep(STARTS, ddln.PerLane(data), jnp.inf, progress=False)
    assert result.okay.all()
    for lane in (0, 7):
        end = ddln.limit(ddln.DeepDiagonal(LAYERS[lane]), data(lane))
        np.testing.assert_allclose(result.theta[lane, 0], end.theta, rtol=1e-9, atol=1e-12)


def test_limits_with_a_weight_decay_each():
    result = ddln.sweep(
        STARTS, ddln.PerLane(data), jnp.inf, weight_decay=ddln.PerLane(NUMBERS), progress=False
    )
    assert result.okay.all()
    for lane in (0, 7):
        loss, theta = data(lane), np.asarray(result.theta[lane, 0])
        force = np.asarray(loss.X.T @ (loss.X @ theta - loss.y))
        penalty = NUMBERS[lane] * np.sign(theta)
        np.testing.assert_allclose(np.where(theta == 0, 0, force + penalty), 0, atol=1e-12)
        assert np.max(np.abs(force)) < NUMBERS[lane] + 1e-12


def test_a_lane_with_bad_data_fails_alone():
    X = jax.random.normal(jax.random.key(0), (SIZE, 3, 4)).at[5, 0, 0].set(jnp.nan)
    y = jnp.broadcast_to(Y, (SIZE, 3))
    losses = eqx.filter_vmap(ddln.LeastSquares)(X, y)
    result = ddln.sweep(STARTS, ddln.PerLane(losses), 1.0, solver=diffrax.Tsit5(), progress=False)
    assert np.flatnonzero(~result.okay).tolist() == [5]
    (reason,) = result.failures()
    assert reason == ddln.RESULTS[ddln.RESULTS.nonfinite_initial_loss]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": ddln.PerLane(jnp.ones((SIZE + 1, 2)))}, "must be as many as the 12"),
        (
            {"dynamics": ddln.MomentumDynamics(1.0), "coordinates": "full"},
            "must be left out with `dynamics`",
        ),
        (
            {"dynamics": ddln.MomentumDynamics(1.0), "t1": np.inf},
            "`dynamics` must be gradient flow",
        ),
        ({"weight_decay": jnp.sin, "t1": np.inf}, "`weight_decay` must be a number"),
        ({"weight_decay": 0.0, "t1": np.inf}, "`weight_decay` must be finite and positive"),
        ({"event": ddln.LossBelow(0.1), "t1": np.inf}, "`event` must be None for t1 = inf"),
        (
            {"dynamics": ddln.DescentDynamics(optax.sgd(0.1)), "t1": ddln.PerLane(ENDS)},
            "`t1` must be one number of steps",
        ),
        ({"dynamics": ddln.DescentDynamics(optax.sgd(0.1)), "t1": 1.5}, "`steps` must be a whole"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_work_starts(settings, message):
    arguments = {"loss": data(0), "t1": 1.0, "progress": False, **settings}
    with pytest.raises(ValueError, match=message):
        ddln.sweep(STARTS, **arguments)


def test_other_numbers_do_not_compile_again():
    traces = []

    def loss(theta):
        traces.append(1)
        return jnp.sum((theta - 1) ** 2)

    for seed in range(3):
        ddln.sweep(
            jax.vmap(ddln.DeepDiagonal)(LAYERS * (1 + seed / 10)),
            loss,
            ddln.PerLane(ENDS + seed),
            dynamics=ddln.MomentumDynamics(0.5 + seed),
            rtol=1e-5 * (1 + seed),
            progress=False,
        )
        if seed == 0:
            first = len(traces)
        elif seed == 1:
            shapes = len(traces) - first
    # Shapes are evaluated in every call, and the program is not traced again.
    assert len(traces) - first == 2 * shapes < 2 * first
