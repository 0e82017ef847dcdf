import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import legend_texts, points, save
from matplotlib.colors import to_rgb

from ddln import plots

SCALES = np.array([0.01, 0.1, 1.0])
DEPTHS = [2, 3]
LAW = np.stack([2.0 * SCALES, 5.0 * SCALES**3])[:, :, None] * np.array([1.0, 3.0])[None, None]
EXCESS = LAW * np.array([1.0, 0.9, 0.5])[None, :, None]


def test_draws_what_was_measured_and_what_was_predicted():
    ax = plots.excess_curves(SCALES, EXCESS, LAW, DEPTHS)
    lines = ax.get_lines()
    assert len(lines) == 8
    for index, (depth, start) in enumerate(np.ndindex(2, 2)):
        measured, law = lines[2 * index], lines[2 * index + 1]
        np.testing.assert_array_equal(points(measured)[0], SCALES)
        np.testing.assert_array_equal(points(measured)[1], EXCESS[depth, :, start])
        np.testing.assert_array_equal(points(law)[1], LAW[depth, :, start])
        assert measured.get_linestyle() == "None"
        assert measured.get_marker() not in ("None", "")
        assert law.get_marker() == "None"
        assert to_rgb(measured.get_color()) == to_rgb(law.get_color())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert legend_texts(ax) == ["$L = 2$", "$L = 3$"]
    save(ax)


def test_only_positive_values_are_drawn_and_set_the_range():
    excess, law = EXCESS.copy(), LAW.copy()
    excess[0, 0, 0], excess[1, 0, 1], law[1, 0, 0] = 0.0, -1e-16, 1e-40
    ax = plots.excess_curves(SCALES, excess, law, DEPTHS)
    assert np.isnan(points(ax.get_lines()[0])[1][0])
    assert np.isnan(points(ax.get_lines()[6])[1][0])
    low, high = ax.get_ylim()
    known = excess[excess > 0]
    assert known.min() / 10 < low < known.min()
    assert known.max() < high < 10 * known.max()
    save(ax)


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.excess_curves(SCALES, EXCESS, LAW, DEPTHS, label="error", ax=second) is second
    assert second.get_ylabel() == "error"
    assert not first.get_lines()


@pytest.mark.parametrize(
    ("excess", "law", "match"),
    [
        (EXCESS[0], LAW, r"Argument `excess` must have the axes \[depth, scale, start\]"),
        (EXCESS, LAW[:1], "Argument `predicted` must have the axes"),
        (EXCESS, LAW[..., :1], "Arguments `excess` and `predicted` must have the same shape"),
    ],
)
def test_refuses(excess, law, match):
    with pytest.raises(ValueError, match=match):
        plots.excess_curves(SCALES, excess, law, DEPTHS)
