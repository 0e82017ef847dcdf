import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import identity_trajectory, overlap, points, save, stack, text_boxes
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

import ddln
from ddln import plots

TIMES = np.linspace(0.0, 1.0, 4)
ENDS = np.array([0.1, -5.0, 3.0, 0.2, 4.9, -0.3])
THETA = TIMES[:, None] * ENDS[None, :]
NAMES = ("age", "sex", "bmi", "bp", "s1", "s2")


def is_grey(line) -> bool:
    return len(set(to_rgb(line.get_color()))) == 1


def test_draws_coefficients_against_their_norm():
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA), names=NAMES, labelled=3)
    assert isinstance(ax, Axes)
    lines = ax.get_lines()[: len(ENDS)]
    for line, end in zip(lines, ENDS, strict=True):
        np.testing.assert_allclose(points(line)[0], TIMES * np.abs(ENDS).sum(), rtol=1e-14)
        np.testing.assert_array_equal(points(line)[1], TIMES * end)
    assert ax.get_xscale() == ax.get_yscale() == "linear"
    assert "theta" in ax.get_xlabel()
    assert "theta" in ax.get_ylabel()
    save(ax)


def test_draws_a_lane_of_a_sweep_and_of_its_dataset():
    theta = np.random.default_rng(0).normal(size=(2, 4, 3))
    sweep = ddln.SweepResult(
        ts=np.tile(np.arange(4.0), (2, 1)), theta=theta, loss=theta[..., 0], codes=np.zeros(2, np.int32),
        stats={}, values=None, method="made up",
    )  # fmt: skip
    lane = jax.tree.map(lambda leaf: leaf[1], sweep)
    for one in (lane, sweep.to_xarray().isel(initialization=1)):
        lines = plots.coefficient_paths(one).get_lines()
        assert len(lines) == 4
        for index in range(3):
            norm = np.abs(theta[1]).sum(axis=1)
            np.testing.assert_allclose(points(lines[index]), [norm, theta[1, :, index]])
    with pytest.raises(ValueError, match="must be one trajectory"):
        plots.coefficient_paths(sweep.to_xarray())


def test_names_the_largest_and_leaves_the_rest_grey():
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA), names=NAMES, labelled=3)
    assert {text.get_text() for text in ax.texts} == {"sex", "s1", "bmi"}
    assert [is_grey(line) for line in ax.get_lines()[: len(ENDS)]] == [
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_names_that_are_no_formulas_are_literal():
    names = ["$$", "$a$", "US$", "$_$", "a_b", "c"]
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA), names=names)
    assert {text.get_text() for text in ax.texts} == {
        r"\$\$", "$a$", r"US\$", r"\$_\$", "a_b", "c"
    }  # fmt: skip
    save(ax)


def test_labels_do_not_overlap_and_stay_in_the_order_of_their_ends():
    crowded = np.array([1.0, 1.01, 1.02, 0.99, 1.0, 0.98, 1.03])
    run = identity_trajectory(TIMES, TIMES[:, None] * crowded[None, :])
    ax = plots.coefficient_paths(run, names=[f"name {end}" for end in crowded])
    boxes = text_boxes(ax)
    assert len(boxes) == 7
    assert not overlap(boxes)
    assert all(box.x0 >= ax.get_window_extent().x1 for box in boxes)
    by_height = [ax.texts[i].get_text() for i in np.argsort([box.y0 for box in boxes])]
    assert by_height == [f"name {end}" for end in np.sort(crowded)]


def test_default_names_are_indices_also_of_matrices():
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA.reshape(4, 2, 3)), labelled=1)
    assert [text.get_text() for text in ax.texts] == [r"$\theta_{0,1}$"]
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA), labelled=1)
    assert [text.get_text() for text in ax.texts] == [r"$\theta_{1}$"]


def test_nothing_labelled():
    ax = plots.coefficient_paths(identity_trajectory(TIMES, THETA), labelled=0)
    assert not ax.texts
    assert all(is_grey(line) for line in ax.get_lines())


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.coefficient_paths(identity_trajectory(TIMES, THETA), ax=second) is second
    assert not first.get_lines()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (
            lambda run: run,
            {"names": NAMES[:2]},
            "Argument `names` must have one name for each of the 6",
        ),
        (lambda run: run, {"labelled": -1}, "Argument `labelled` must not be negative"),
        (lambda run: stack(run, run), {}, "must be one trajectory"),
    ],
)
def test_refuses(make, options, match):
    with pytest.raises(ValueError, match=match):
        plots.coefficient_paths(make(identity_trajectory(TIMES, THETA)), **options)
