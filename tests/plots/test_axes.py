import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import text_boxes
from scipy.optimize import isotonic_regression

from ddln import plots
from ddln.plots._axes import drawable, label_right, spread


def test_spread_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 20):
        wanted = np.sort(rng.uniform(100, 200, count))
        steps = 9.0 * np.arange(count)
        placed = spread(wanted, 9.0, 1000.0)
        np.testing.assert_allclose(placed, isotonic_regression(wanted - steps).x + steps)
        assert np.all(np.diff(placed) >= 9.0 * (1 - 1e-12))


def test_spread_stays_within_the_height_where_there_is_room():
    placed = spread(np.array([0.0, 1.0, 2.0, 99.0, 100.0]), 10.0, 100.0)
    np.testing.assert_allclose(placed, [0, 10, 20, 90, 100])
    np.testing.assert_allclose(spread(np.zeros(4), 10.0, 15.0), [0, 10, 20, 30])


def test_spread_leaves_what_is_apart():
    wanted = np.array([3.0, 20.0, 50.0])
    np.testing.assert_array_equal(spread(wanted, 9.0, 60.0), wanted)
    assert spread(np.array([]), 9.0, 60.0).size == 0


def test_labels_stand_beside_the_ends_of_the_curves():
    _, ax = plt.subplots()
    ends = [0.0, 70.0, 100.0]
    for end in ends:
        ax.plot([0.0, 1.0], [50.0, end])
    with plots.style():
        label_right(ax, ends, ["a", "b", "c"], ["black"] * 3)
    boxes = text_boxes(ax)
    middles = [(box.y0 + box.y1) / 2 for box in boxes]
    heights = ax.transData.transform([(1.0, end) for end in ends])[:, 1]
    np.testing.assert_allclose(middles, heights, atol=0.5)
    assert all(box.x0 > ax.get_window_extent().x1 for box in boxes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$x^2$", "$x^2$"),
        ("US$", r"US\$"),
        (2, "2"),
        ("$$", r"\$\$"),
        ("$a_$", r"\$a_\$"),
        (r"$\nothing$ \$", r"\$\nothing\$ \$"),
    ],
)
def test_dollar_signs_around_no_formula_are_literal(text, expected):
    assert drawable(text) == expected
    figure, ax = plt.subplots()
    ax.set_title(drawable(text))
    figure.canvas.draw()
