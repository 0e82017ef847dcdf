import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from handmade import legend_texts, overlap, points, save, text_boxes
from matplotlib.colors import to_rgb

from ddln import RESULTS, VanishingLimit, plots

TS = np.array([0.0, 1.0, 3.0, np.inf])
THETA = np.array([[0.0, 0, 0, 0], [2, 0, 0, 0], [1.5, -1, 0, 0.1], [1.5, -1, 0, 0.1]])
PATH = VanishingLimit(
    ts=jnp.asarray(TS),
    theta=jnp.asarray(THETA),
    active=jnp.asarray(THETA != 0),
    dual=jnp.zeros((4, 4)),
    weights=jnp.ones((2, 4)),
    result=RESULTS.successful,  # pyright: ignore[reportArgumentType]
    stats={"num_plateaus": jnp.asarray(3)},
)
TIMES = np.linspace(0, 5, 11)
FLOW = np.sin(TIMES)[:, None] * np.array([[1.0, -1.0, 0.0, 0.1]])


def test_draws_plateaus_and_jumps():
    ax = plots.staircase(PATH, labelled=3)
    *lines, zero = ax.get_lines()
    assert len(lines) == 4
    for line, column in zip(lines, THETA.T, strict=True):
        x, y = points(line)
        np.testing.assert_allclose(x, [0, 1, 3, 3.75])
        np.testing.assert_array_equal(y, [*column[:3], column[2]])
        assert line.get_drawstyle() == "steps-post"
    assert points(zero)[1].tolist() == [0, 0]
    assert ax.get_xlim() == (0, 3.75)
    # The coefficient that stays at zero is grey and has no name.
    assert to_rgb(lines[2].get_color()) == to_rgb("0.8")
    assert {text.get_text() for text in ax.texts} == {
        r"$\theta_{0}$",
        r"$\theta_{1}$",
        r"$\theta_{3}$",
    }
    assert not overlap(text_boxes(ax))
    save(ax)


def test_draws_a_flow_under_its_limit():
    ax = plots.staircase(
        PATH, jnp.asarray(TIMES), jnp.asarray(FLOW), names=list("abcd"), labelled=2
    )
    lines = ax.get_lines()
    assert len(lines) == 9
    for line in lines[:4]:
        assert to_rgb(line.get_color()) == (0, 0, 0)
    for line, column in zip(lines[4:8], FLOW.T, strict=True):
        x, y = points(line)
        # The picture ends a quarter after the last jump.
        np.testing.assert_array_equal(x, TIMES[TIMES <= 3.75])
        np.testing.assert_array_equal(y, column[TIMES <= 3.75])
    assert {text.get_text() for text in ax.texts} == {"a", "b"}
    assert legend_texts(ax) == ["vanishing initialization"]
    save(ax)


def test_a_path_that_never_moves():
    still = jax.tree.map(lambda leaf: leaf, PATH)
    still = VanishingLimit(
        ts=jnp.array([0.0, np.inf]),
        theta=jnp.zeros((2, 4)),
        active=jnp.zeros((2, 4), bool),
        dual=still.dual[:2],
        weights=still.weights,
        result=still.result,
        stats=still.stats,
    )
    assert plots.staircase(still).get_xlim()[1] > 0


def test_draws_on_given_axes():
    _, (first, second) = plt.subplots(1, 2)
    assert plots.staircase(PATH, ax=second) is second
    assert not first.get_lines()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"times": TIMES}, "must be given together"),
        ({"times": TIMES, "theta": FLOW[:3]}, r"`theta` must have the shape \(11, 4\)"),
        ({"names": ["a"]}, "`names` must have one name for each of the 4"),
    ],
)
def test_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        plots.staircase(PATH, **arguments)


def test_refuses_a_batch():
    batch = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * 2), PATH)
    with pytest.raises(ValueError, match="`path` must be one path"):
        plots.staircase(batch)
