import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import identity_trajectory, overlap, points, save, stack, text_boxes, trajectory
from matplotlib.axes import Axes

from ddln import plots
from ddln.plots._layers import sign_changes

TIMES = np.linspace(0.0, 2.0, 5)
# At coordinate 1 the middle layer is the smallest and changes its sign at t = 0.75.
LAYERS = np.stack([np.stack([[2.0, 2.0 + t], [3.0, 0.75 - t], [-1.0, -1.5 - t]]) for t in TIMES])


def layer_lines(ax: Axes) -> list:
    return [line for line in ax.get_lines() if len(points(line)[0]) == len(TIMES)]


def test_draws_the_layers_of_the_coordinate():
    ax = plots.layers(trajectory(TIMES, LAYERS), coordinate=1)
    assert isinstance(ax, Axes)
    lines = layer_lines(ax)
    assert len(lines) == 3
    for line, values in zip(lines, LAYERS[:, :, 1].T, strict=True):
        np.testing.assert_array_equal(points(line)[0], TIMES)
        np.testing.assert_array_equal(points(line)[1], values)
    assert ax.get_xscale() == ax.get_yscale() == "linear"
    assert ax.get_xlabel() == "time $t$"
    assert "u^j" in ax.get_ylabel()
    save(ax)


def test_smallest_layer_is_bold_and_its_change_of_sign_marked():
    ax = plots.layers(trajectory(TIMES, LAYERS), coordinate=1)
    widths = [line.get_linewidth() for line in layer_lines(ax)]
    assert widths[1] > 1.5 * widths[0] == 1.5 * widths[2]
    assert [text.get_text() for text in ax.texts] == ["$u^{3}$", "$u^{2}$ (smallest)", "$u^{1}$"]
    (marks,) = (line for line in ax.get_lines() if line.get_marker() == "o")
    np.testing.assert_allclose(points(marks)[0], [0.75], rtol=1e-15)
    np.testing.assert_array_equal(points(marks)[1], [0.0])


def test_tie_has_no_bold_layer_and_no_marks():
    ax = plots.layers(trajectory(TIMES, np.ones((5, 3, 2))))
    assert len({line.get_linewidth() for line in layer_lines(ax)}) == 1
    assert not [line for line in ax.get_lines() if line.get_marker() == "o"]
    boxes = text_boxes(ax)
    assert len(boxes) == 3
    assert not overlap(boxes)


def test_zero_line_is_visible_where_zero_is_not_between_the_layers():
    ax = plots.layers(trajectory(TIMES, 1 + np.abs(LAYERS)))
    low, high = ax.get_ylim()
    assert low <= 0 < high


def test_rows_not_reached_are_left_out():
    cut = trajectory(np.where(TIMES > 1.2, np.inf, TIMES), LAYERS)
    ax = plots.layers(cut, coordinate=1)
    np.testing.assert_array_equal(points(ax.get_lines()[0])[0], TIMES[:3])
    assert ax.get_xlim() == (0.0, 1.0)


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.layers(trajectory(TIMES, LAYERS), ax=second) is second
    assert not first.get_lines()
    assert len(plt.get_fignums()) == 1


def test_sign_changes():
    times = np.arange(6.0)
    found = sign_changes(times, np.array([0.0, 1.0, -3.0, -1.0, 0.0, 2.0]))
    # Leaving zero at the start is no change; the line from -1 at 3 to 2 at 5 is zero at 3 + 2/3.
    np.testing.assert_allclose(found, [1.25, 3 + 2 / 3], rtol=1e-15)
    # Coming near zero is none either.
    assert sign_changes(times, np.array([1.0, 1e-9, 1e-9, 0.0, 1e-9, 1.0])).size == 0


@pytest.mark.parametrize(
    ("make", "coordinate", "match"),
    [
        (lambda: identity_trajectory(TIMES, np.ones((5, 2))), 0, "a flow of a `ddln.DeepDiagonal`"),
        (lambda: trajectory(TIMES, LAYERS), 2, "Argument `coordinate` must be below the 2"),
        (lambda: trajectory(TIMES[:1], LAYERS[:1]), 0, "two or more saved times"),
        (lambda: stack(*[trajectory(TIMES, LAYERS)] * 2), 0, "must be one trajectory"),
    ],
)
def test_refuses(make, coordinate, match):
    with pytest.raises(ValueError, match=match):
        plots.layers(make(), coordinate)


def test_accepts_float32():
    small = trajectory(TIMES, LAYERS)
    small = type(small)(**{**vars(small), "ts": jnp.asarray(TIMES, jnp.float32)})
    assert isinstance(plots.layers(small), Axes)
