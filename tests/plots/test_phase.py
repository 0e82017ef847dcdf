import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray
from handmade import cells, grey_levels, legend_texts, save
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from ddln import plots

SCALES = np.array([0.01, 0.1, 1.0, 10.0])
DEPTHS = [2, 3, 6]
VALUES = np.geomspace(1e-4, 1e2, 12).reshape(3, 4)


def hatched(ax) -> list:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_draws_one_cell_per_run(array):
    ax = plots.phase(array(SCALES), DEPTHS, array(VALUES), label="distance")
    assert isinstance(ax, Axes)
    np.testing.assert_array_equal(cells(ax), VALUES)
    corners = ax.collections[0].get_coordinates()  # pyright: ignore[reportAttributeAccessIssue]
    # Borders lie in the geometric middle of the scales, and one row is one depth.
    np.testing.assert_allclose(corners[0, :, 0], 10.0 ** np.arange(-2.5, 2.0), rtol=1e-14)
    np.testing.assert_array_equal(corners[:, 0, 1], [-0.5, 0.5, 1.5, 2.5])
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["2", "3", "6"]
    assert ax.get_xlabel() == "scale of initialization"
    assert ax.get_ylabel() == "depth $L$"
    save(ax)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (VALUES, LogNorm),
        (np.where(VALUES < 1e-2, np.nan, VALUES), LogNorm),
        (np.where(VALUES < 1e-2, 0.0, VALUES), Normalize),
        (-VALUES, Normalize),
        (1 + VALUES / 100, Normalize),
    ],
)
def test_colours_are_logarithmic_where_positive_values_span_decades(values, kind):
    ax = plots.phase(SCALES, DEPTHS, values, label="distance")
    norm = ax.collections[0].norm
    assert type(norm) is kind
    assert (norm.vmin, norm.vmax) == (np.nanmin(values), np.nanmax(values))
    assert (ax.get_legend() is None) == (not np.isnan(values).any())


def test_colour_bar_shows_what_the_colours_are():
    ax = plots.phase(SCALES, DEPTHS, VALUES, label="distance")
    (bar,) = (other for other in ax.figure.axes if other is not ax)
    assert bar.get_ylabel() == "distance"
    assert bar.get_yscale() == "log"
    np.testing.assert_allclose(bar.get_ylim(), (VALUES.min(), VALUES.max()))


def test_runs_that_have_not_converged_have_a_circle():
    short = np.zeros((3, 4), bool)
    short[0, 1] = short[2, 3] = True
    for ax in (
        plots.phase(SCALES, DEPTHS, VALUES, label="distance", unconverged=short),
        *plots.phase_pair(SCALES, DEPTHS, VALUES, VALUES, unconverged=short),
    ):
        (circles,) = ax.get_lines()
        np.testing.assert_array_equal(circles.get_xdata(), SCALES[[1, 3]])
        np.testing.assert_array_equal(circles.get_ydata(), [0, 2])
        assert "not converged" in legend_texts(ax)
    none = plots.phase(SCALES, DEPTHS, VALUES, label="distance", unconverged=0 * short)
    assert len(none.get_lines()) == 0
    assert none.get_legend() is None
    with pytest.raises(ValueError, match=r"`unconverged` must have the axes"):
        plots.phase(SCALES, DEPTHS, VALUES, label="distance", unconverged=short[0])


def test_failed_runs_are_hatched():
    values = VALUES.copy()
    values[0, 1], values[2, 3] = np.nan, np.inf
    ax = plots.phase(SCALES, DEPTHS, values, label="distance")
    places = [
        (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in hatched(ax)
    ]
    borders = 10.0 ** np.arange(-2.5, 2.0)
    expected = [
        (borders[1], -0.5, borders[2] - borders[1], 1),
        (borders[3], 1.5, borders[4] - borders[3], 1),
    ]
    np.testing.assert_allclose(places, expected, rtol=1e-13)
    assert legend_texts(ax) == ["failed"]
    save(ax)


def test_labelled_data_of_a_sweep():
    """At the last time, the median of the initializations that did not fail."""
    values = np.stack([VALUES, 3 * VALUES, 100 * VALUES], axis=1)
    okay = np.ones(values.shape, bool)
    okay[0, 2, 1] = False
    okay[1, :, 3] = False
    dims = ("depth", "initialization", "scale")
    saved = np.stack([0 * values, values], axis=-1)
    data = xarray.Dataset(
        {"error": ((*dims, "save"), saved), "okay": (dims, okay), "steps": (dims, 1 + 0 * okay)},
        {"depth": DEPTHS, "scale": SCALES},
    )
    expected = 3 * VALUES
    expected[0, 1] = 2 * VALUES[0, 1]
    expected[1, 3] = np.nan
    ax = plots.phase(data, values="error")
    np.testing.assert_allclose(cells(ax), expected)
    assert ax.figure.axes[-1].get_ylabel() == "error"
    np.testing.assert_array_equal(
        cells(plots.phase(data, values="steps", label="n")), np.ones((3, 4))
    )
    one = data["error"].isel(initialization=1).transpose("scale", "depth", "save")
    np.testing.assert_array_equal(cells(plots.phase(one)), 3 * VALUES)
    curves = plots.scale_curves(data, "error", label="the error")
    assert curves.get_ylabel() == "the error"
    np.testing.assert_allclose([line.get_ydata() for line in curves.get_lines()], expected)
    for wrong, message in (
        ({"values": "nothing"}, "must name a variable of the dataset, one of"),
        ({}, "must name a variable of the dataset, one of"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.phase(data, **wrong)
    with pytest.raises(ValueError, match="must not be given with an"):
        plots.phase(one, values="error")
    with pytest.raises(ValueError, match="must have the dimensions depth and scale"):
        plots.phase(one.isel(scale=0))
    with pytest.raises(ValueError, match="`label` must name the quantity"):
        plots.phase(SCALES, DEPTHS, VALUES)


def test_all_runs_failed():
    ax = plots.phase(SCALES, DEPTHS, np.full((3, 4), np.nan), label="distance")
    assert len(hatched(ax)) == 12
    save(ax)


def test_colours_get_lighter_with_the_value_in_grey():
    ax = plots.phase(SCALES, [2], VALUES.reshape(-1)[None, ::3], label="distance")
    levels = grey_levels(ax)
    box = ax.get_window_extent()
    row = levels[round(levels.shape[0] - (box.y0 + box.y1) / 2)]
    middles = box.x0 + (np.arange(4) + 0.5) / 4 * box.width
    assert np.all(np.diff(row[middles.astype(int)]) > 0.1)


def test_pair_shares_colours_and_depths():
    failed = np.where(VALUES < 1e-3, np.nan, VALUES)
    left, right = plots.phase_pair(SCALES, DEPTHS, failed, 10 * VALUES, label="relative distance")
    assert left.figure is right.figure
    np.testing.assert_array_equal(cells(left), failed)
    np.testing.assert_array_equal(cells(right), 10 * VALUES)
    for ax in (left, right):
        norm = ax.collections[0].norm
        assert type(norm) is LogNorm
        assert (norm.vmin, norm.vmax) == (VALUES.min() * 10, VALUES.max() * 10)
    assert len(hatched(left)) == np.isnan(failed).sum()
    assert not hatched(right)
    assert r"\ell_1" in left.get_title(loc="left")
    assert r"\ell_2" in right.get_title(loc="left")
    (bar,) = (ax for ax in left.figure.axes if ax not in (left, right))
    assert bar.get_ylabel() == "relative distance"
    save(left)


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.phase(SCALES, DEPTHS, VALUES, label="distance", ax=second) is second
    assert not first.collections
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("scales", "depths", "values", "match"),
    [
        (SCALES[::-1], DEPTHS, VALUES, "Argument `scales` must be two or more numbers, positive"),
        (SCALES - 0.01, DEPTHS, VALUES, "Argument `scales` must be two or more numbers, positive"),
        ([1.0], DEPTHS, VALUES, "Argument `scales` must be two or more"),
        (SCALES, [2, 2.5, 3], VALUES, "Argument `depths` must be whole numbers"),
        (SCALES, DEPTHS, VALUES.T, r"Argument `values` must have the axes \[depth, scale\] with 3"),
        (SCALES, DEPTHS, VALUES[0], r"Argument `values` must have the axes \[depth, scale\]"),
        (SCALES, DEPTHS, [["a"] * 4] * 3, "Argument `values` must be a numeric array"),
        (SCALES, [], VALUES, "Argument `depths` must not be empty"),
    ],
)
def test_refuses(scales, depths, values, match):
    with pytest.raises(ValueError, match=match):
        plots.phase(scales, depths, values, label="distance")


def test_pair_names_the_wrong_argument():
    with pytest.raises(ValueError, match="Argument `to_l2` must have the axes"):
        plots.phase_pair(SCALES, DEPTHS, VALUES, VALUES.T)
