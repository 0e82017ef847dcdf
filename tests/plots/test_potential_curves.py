import jax.numpy as jnp
import numpy as np
import pytest
from handmade import points, save

import ddln
from ddln import plots


def test_the_entropy_of_squares_is_drawn_in_its_domain():
    """Q = sum(theta log(theta / theta_0) - theta + theta_0) / 2 for theta >= 0, from 0.5 and 1.125."""
    potential = ddln.potential(ddln.Square(jnp.array([1.0, 1.5])))
    ax = plots.potential_curves(potential, reach=2.0, coordinates=[1, 0], names=("b", "a"))
    assert {text.get_text() for text in ax.texts} == {"a", "b"}
    for line, start in zip(ax.get_lines(), (1.125, 0.5), strict=True):
        s, heights = points(line)
        np.testing.assert_allclose(s, np.linspace(-2, 2, 401))
        theta = start + s
        inside = theta > 0
        expected = (theta[inside] * np.log(theta[inside] / start) - theta[inside] + start) / 2
        np.testing.assert_allclose(heights[inside], expected, atol=1e-12)
        assert np.isnan(heights[theta < 0]).all()
    save(ax)


def test_refuses():
    potential = ddln.potential(ddln.Identity(jnp.zeros(2)))
    with pytest.raises(ValueError, match="`reach` must be positive"):
        plots.potential_curves(potential, 0.0)
    with pytest.raises(ValueError, match="`coordinates` must be numbers from 0 to 1"):
        plots.potential_curves(potential, coordinates=[2])
    with pytest.raises(ValueError, match="`names` must have one name for each of the 2"):
        plots.potential_curves(potential, names=("a",))
