import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import legend_texts, points, save, stack, trajectory
from matplotlib.axes import Axes

import ddln
from ddln import plots

TIMES = np.linspace(0.0, 3.0, 7)
MINIMUM = 0.25
RATES = (1.0, 2.0)


def flow(rate, times=TIMES, dtype=float):
    losses = jnp.asarray(MINIMUM + np.exp(-rate * TIMES), dtype)
    return trajectory(times, np.ones((len(TIMES), 2, 3)), losses)


BATCH = stack(*map(flow, RATES))
SWEEP = ddln.SweepResult(
    ts=np.asarray(BATCH.ts),
    theta=np.asarray(BATCH.theta),
    loss=np.asarray(BATCH.loss),
    codes=np.zeros(2, np.int32),
    stats={},
    values=None,
    method="made up",
)
# Its axes in another order.
DATASET = SWEEP.to_xarray(("depth", "seed"), {"depth": [3], "seed": [0, 1]}).transpose("save", ...)


@pytest.mark.parametrize(
    "flows",
    [[flow(rate) for rate in RATES], BATCH, SWEEP, DATASET],
    ids=["list", "batch", "sweep", "dataset"],
)
def test_draws_gaps_and_bounds(flows):
    bounds = {
        "loose": [2 * np.exp(-0.5 * rate * TIMES) for rate in RATES],
        "looser": jnp.full((2, 7), 3.0),
    }
    ax = plots.loss_curves(flows, MINIMUM, bounds=bounds, labels=["slow", "fast"])
    assert isinstance(ax, Axes)
    assert ax.get_yscale() == "log"
    assert ax.get_xscale() == "linear"
    lines = ax.get_lines()
    assert len(lines) == 6
    expected = [np.exp(-rate * TIMES) for rate in RATES] + [*bounds["loose"], *bounds["looser"]]
    for line, values in zip(lines, expected, strict=True):
        np.testing.assert_array_equal(points(line)[0], TIMES)
        np.testing.assert_allclose(points(line)[1], values, rtol=1e-13)
    # A bound has the colour and the marker of its flow, and each kind of line its dashes.
    looks = [(line.get_color(), line.get_marker()) for line in lines]
    assert looks == looks[:2] * 3
    assert looks[0][0] != looks[1][0]
    assert looks[0][1] != looks[1][1]
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--", "--", ":", ":"]
    save(ax)


def test_legend_names_flows_and_bounds_and_covers_no_data():
    bounds = {name: np.ones((2, 7)) for name in "abc"}
    ax = plots.loss_curves(list(map(flow, RATES)), 0.0, bounds=bounds, labels=["slow", "fast"])
    # Three columns, filled from above: read row by row it is slow, fast, a; b, c.
    assert legend_texts(ax) == ["slow", "b", "fast", "c", "a"]


def test_one_flow_without_names_has_no_legend():
    ax = plots.loss_curves(flow(1.0), MINIMUM)
    assert len(ax.get_lines()) == 1
    assert ax.get_legend() is None


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_ends_where_the_gap_is_rounding(dtype):
    eps = float(jnp.finfo(dtype).eps)
    # Gaps in units of rounding, 10 eps * (largest loss), in which every fourth is large again.
    losses = 1024.0 * np.array([1.0, 20 * eps, 5 * eps, 40 * eps, -2 * eps, 1 * eps, 1.0])
    bound = 1024.0 * np.array([1.0, 1.0, 1.0, 30 * eps, 3 * eps, eps**2, 0.0])
    run = trajectory(TIMES, np.ones((7, 2, 3)), jnp.asarray(losses, dtype))
    gap, drawn = plots.loss_curves(run, 0.0, bounds={"bound": [bound]}).get_lines()
    np.testing.assert_array_equal(np.isnan(points(gap)[1]), [0, 0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.isnan(points(drawn)[1]), [0, 0, 0, 0, 1, 1, 1])


def test_rows_not_reached_are_left_out():
    cut = flow(1.0, np.where(TIMES > 2.2, np.inf, TIMES))
    (line,) = plots.loss_curves(cut, MINIMUM).get_lines()
    assert np.isfinite(points(line)[0]).sum() == np.isfinite(points(line)[1]).sum() == 5


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.loss_curves(flow(1.0), MINIMUM, ax=second) is second
    assert not first.get_lines()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("flows", "options", "match"),
    [
        ([], {}, "Argument `trajectories` must have one flow or more"),
        (
            [flow(1.0)],
            {"labels": ["a", "b"]},
            "Argument `labels` must have one name for each of the 1",
        ),
        (
            [flow(1.0)],
            {"bounds": {"b": np.ones((2, 7))}},
            r"`bounds\['b'\]` must have one row for each",
        ),
        ([flow(1.0)], {"bounds": {"b": np.ones((1, 6))}}, "one value for each saved time"),
        ([flow(1.0, np.where(TIMES > 0, np.inf, 0.0))], {}, "flow 0 has 1. Pass `ts`"),
        ([flow(1.0)], {"minimum": [1.0, 2.0]}, "Argument `minimum` must be a number"),
    ],
)
def test_refuses(flows, options, match):
    with pytest.raises(ValueError, match=match):
        plots.loss_curves(flows, **({"minimum": 0.0} | options))
