"""The `plot` methods of results, which `_plot` leads to `ddln.plots`."""

import jax.numpy as jnp
import numpy as np
import pytest
from handmade import identity_trajectory, points
from test_ends import THETA, a_limit, a_sweep

import ddln
from ddln import plots


def lines(ax):
    return [points(line) for line in ax.get_lines()]


TIMES = np.arange(4.0)
FLOW = identity_trajectory(TIMES, THETA)
POTENTIAL = ddln.potential(ddln.Identity(jnp.zeros(2)))
MIRROR = ddln.MirrorTrajectory(
    potential=POTENTIAL, ts=FLOW.ts, theta=FLOW.theta, loss=FLOW.loss, dual=FLOW.theta, result=FLOW.result,
    stats={}, rtol=FLOW.rtol, atol=FLOW.atol, method="by hand",
)  # fmt: skip
PATH = ddln.VanishingLimit(
    ts=jnp.array([0.0, 1.0]), theta=jnp.array([[0.0, 0.0], [1.0, -2.0]]), active=jnp.zeros((2, 2), bool),
    dual=jnp.zeros((2, 2)), weights=jnp.ones((2, 2)), result=FLOW.result, stats={},
)  # fmt: skip


@pytest.mark.parametrize(
    ("result", "function", "options"),
    [
        (FLOW, plots.coefficient_paths, {"labelled": 2}),
        (MIRROR, plots.coefficient_paths, {"labelled": 2}),
        (a_sweep(THETA), plots.ends, {"x": np.arange(1.0, 5.0)}),
        (a_limit(THETA[0]), plots.ends, {"labelled": 2}),
        (PATH, plots.staircase, {"names": ("a", "b")}),
        (POTENTIAL, plots.potential_curves, {"reach": 0.5}),
    ],
    ids=["trajectory", "mirror", "sweep", "limit", "vanishing", "potential"],
)
def test_a_result_draws_itself(result, function, options):
    drawn = lines(result.plot(**options))
    expected = lines(function(result, **options))
    for one, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(np.isfinite(y).any() and np.any(y != 0) for _, y in drawn)
