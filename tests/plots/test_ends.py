import jax
import jax.numpy as jnp
import numpy as np
import pytest
from handmade import legend_texts, points, save
from matplotlib.axes import Axes

import ddln
from ddln import plots
from ddln.plots import _ends

THETA = np.array([[3.0, -1.0, 0.1], [2.0, -1.5, 0.2], [1.0, -2.0, 0.3], [0.5, -2.5, 0.0]])
SCALES = np.array([1e-3, 1e-2, 0.1, 1.0])


def a_limit(theta, codes=None):
    """A limit, or a batch of them as `jax.vmap` makes it, with theta as given."""
    if theta.ndim == 2:
        codes = np.zeros(len(theta), int) if codes is None else codes
        lanes = [a_limit(*lane) for lane in zip(theta, codes, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes)
    failed = ddln.RESULTS.limit_out_of_reach
    return ddln.Limit(
        theta=jnp.asarray(theta), dual=jnp.zeros(3), multipliers=jnp.zeros(1),
        parameterization=ddln.Square(jnp.ones(3)), residual=jnp.zeros(()), gap=jnp.zeros(()),
        result=failed if codes else ddln.RESULTS.successful, stats={}, method="path",
    )  # fmt: skip


def a_sweep(theta, codes=None):
    """A sweep saved at three times that ends at theta; its last lane stopped at an event before."""
    rows = np.stack([0 * theta, theta / 2, theta], axis=1)
    rows[-1, -1], rows[-1, -2] = np.nan, theta[-1]
    codes = np.zeros(len(theta), np.int32) if codes is None else codes
    return ddln.SweepResult(
        ts=np.tile([0.0, 1.0, 2.0], (len(theta), 1)), theta=rows, loss=rows[..., 0], codes=codes, stats={},
        values=None, method="made up",
    )  # fmt: skip


def drawn(ax):
    return np.array([points(line)[1] for line in ax.get_lines()[:3]]).T


def test_lanes_side_by_side():
    sweep = a_sweep(THETA)
    data = sweep.to_xarray(("scale",), {"scale": SCALES})
    batch = a_limit(THETA)
    cases = [(sweep, SCALES), (data, None), (batch, SCALES), (sweep, SCALES[::-1])]
    for result, x in cases:
        ax = plots.ends(result, x, names=("a", "b", "c"), labelled=2)
        assert isinstance(ax, Axes)
        upside_down = x is not None and x[0] > x[-1]
        np.testing.assert_array_equal(drawn(ax), THETA[::-1] if upside_down else THETA)
        np.testing.assert_array_equal(points(ax.get_lines()[0])[0], SCALES)
        assert ax.get_xscale() == "log"
        assert {text.get_text() for text in ax.texts} == {"a", "b"}
        assert ax.get_legend() is None
    assert plots.ends(data).get_xlabel() == "scale"
    ax = plots.ends(sweep)
    assert (ax.get_xscale(), ax.get_xlabel()) == ("linear", "lane")
    save(ax)


def test_failed_lanes_leave_a_gap_and_a_cross():
    step = int(np.asarray(jax.tree.leaves(ddln.RESULTS.limit_out_of_reach)[0]))
    sweep = a_sweep(THETA, np.array([0, step, 0, 0], np.int32))
    for result in (sweep, sweep.to_xarray(), a_limit(THETA, np.array([0, 1, 0, 0]))):
        ax = plots.ends(result)
        values = drawn(ax)
        assert np.isnan(values[1]).all()
        np.testing.assert_array_equal(np.delete(values, 1, axis=0), np.delete(THETA, 1, axis=0))
        np.testing.assert_array_equal(points(ax.get_lines()[4])[0], [1])
        assert legend_texts(ax) == ["failed"]
        save(ax)


def test_one_limit_is_drawn_as_stems():
    ax = plots.ends(a_limit(THETA[0]), labelled=2)
    for index, line in enumerate(ax.get_lines()[:3]):
        np.testing.assert_array_equal(points(line), [[index, index], [0, THETA[0, index]]])
    assert {text.get_text() for text in ax.texts} == {r"$\theta_{0}$", r"$\theta_{1}$"}
    assert ax.get_xlabel() == "coefficient i"
    save(ax)


def test_of_many_lanes_some_are_drawn(monkeypatch):
    monkeypatch.setattr(_ends, "MOST", 3)
    ax = plots.ends(a_limit(np.arange(30.0).reshape(10, 3)))
    np.testing.assert_array_equal(points(ax.get_lines()[0])[0], [0, 4, 9])
    np.testing.assert_array_equal(drawn(ax)[:, 0], [0, 12, 27])
    assert ax.get_xlabel() == "lane (3 of 10 lanes)"


def test_refuses():
    sweep = a_sweep(THETA)
    with pytest.raises(ValueError, match="`x` must have one number for each of the 4 lanes"):
        plots.ends(sweep, SCALES[:2])
    with pytest.raises(ValueError, match="`names` must have one name for each of the 3"):
        plots.ends(sweep, names=("a",))
    without = ddln.SweepResult(sweep.ts, None, sweep.loss, sweep.codes, {}, None, "made up")
    with pytest.raises(ValueError, match="`result` must have theta, but it has none"):
        plots.ends(without)
    two = sweep.to_xarray(("seed", "scale"), {"seed": [0, 1], "scale": SCALES[:2]})
    with pytest.raises(ValueError, match=r"they have the dimensions \['seed', 'scale'\]"):
        plots.ends(two)
    np.testing.assert_array_equal(drawn(plots.ends(two.isel(seed=1))), THETA[2:])
