import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import legend_texts, points, save
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from ddln import plots

SCALES = np.array([0.01, 0.1, 1.0])
DEPTHS = [2, 5]
# Seeds 0..4 around a middle: the median is the middle, the quartiles are one step away.
MIDDLES = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
VALUES = MIDDLES[:, :, None] + 0.1 * np.array([0, -2, 2, 1, -1])[None, None, :]


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_draws_medians_and_quartiles(array):
    ax = plots.scale_curves(array(SCALES), array(VALUES), DEPTHS, label="error")
    assert isinstance(ax, Axes)
    lines, bands = ax.get_lines(), ax.collections
    assert len(lines) == len(bands) == 2
    for line, band, middle in zip(lines, bands, MIDDLES, strict=True):
        np.testing.assert_array_equal(points(line)[0], SCALES)
        np.testing.assert_allclose(points(line)[1], middle, rtol=1e-14)
        (path,) = band.get_paths()
        for x, y in zip(SCALES, middle, strict=True):
            vertices = np.asarray(path.vertices)
            heights = vertices[vertices[:, 0] == x, 1]
            np.testing.assert_allclose((heights.min(), heights.max()), (y - 0.1, y + 0.1))
        np.testing.assert_allclose(
            to_rgb(line.get_color()), np.asarray(band.get_facecolor())[0, :3]
        )
    assert len({str(line.get_marker()) for line in lines}) == 2
    assert len({line.get_linestyle() for line in lines}) == 2
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("scale of initialization", "error")
    save(ax)


def test_legend_covers_no_data():
    depths = [2, 3, 4, 6, 8]
    ax = plots.scale_curves(SCALES, np.ones((5, 3, 2)), depths, label="error")
    assert set(legend_texts(ax)) == {f"$L = {depth}$" for depth in depths}


def test_failed_runs_are_left_out():
    values = VALUES.copy()
    values[0, 0, 1:3] = np.nan, np.inf
    values[0, 2] = np.nan
    line = plots.scale_curves(SCALES, values, DEPTHS, label="error").get_lines()[0]
    np.testing.assert_allclose(points(line)[1], [1.0, 2.0, np.nan], rtol=1e-14)


def test_values_over_decades_have_a_log_axis():
    ax = plots.scale_curves(SCALES, 10.0**VALUES, DEPTHS, label="error")
    assert ax.get_yscale() == "log"


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.scale_curves(SCALES, VALUES, DEPTHS, label="error", ax=second) is second
    assert not first.get_lines()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (VALUES[0], r"Argument `values` must have the axes \[depth, scale, seed\]"),
        (VALUES.swapaxes(0, 1), "with 2 depths and 3 scales"),
    ],
)
def test_refuses(values, match):
    with pytest.raises(ValueError, match=match):
        plots.scale_curves(SCALES, values, DEPTHS, label="error")
