"""Problem: a pytree with static names."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln import LeastSquares
from ddln.problems import Problem

X = jnp.asarray([[1.0, 0.0], [1.0, 2.0], [0.0, 3.0]])
Y = jnp.asarray([1.0, 3.0, -1.0])


def test_loss_is_least_squares_with_the_given_scale():
    problem = Problem(X, Y)
    theta = jnp.asarray([0.5, -2.0])
    residual = np.asarray(X) @ np.asarray(theta) - np.asarray(Y)
    assert isinstance(problem.loss(), LeastSquares)
    np.testing.assert_allclose(problem.loss()(theta), 0.5 * residual @ residual, rtol=1e-15)
    np.testing.assert_allclose(problem.loss(scale=1.0)(theta), residual @ residual, rtol=1e-15)


def test_leaves_are_the_arrays_and_names_are_static():
    problem = Problem(X, Y, jnp.ones(2), feature_names=["a", "b"], target_name="t", name="mine")
    assert len(jax.tree.leaves(problem)) == 3
    assert len(jax.tree.leaves(Problem(X, Y))) == 2
    doubled = jax.jit(lambda p: jax.tree.map(lambda leaf: 2 * leaf, p))(problem)
    np.testing.assert_array_equal(doubled.X, 2 * X)
    assert (doubled.feature_names, doubled.target_name, doubled.name) == (("a", "b"), "t", "mine")


def test_default_names():
    problem = Problem(X, Y)
    assert problem.feature_names == ("x0", "x1")
    assert problem.target_name == "y"
    assert problem.theta_true is None


def test_gradient_reaches_the_data():
    theta = jnp.asarray([0.5, -2.0])
    gradient = eqx.filter_grad(lambda p: p.loss()(theta))(Problem(X, Y))
    np.testing.assert_allclose(gradient.y, Y - X @ theta, rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": Y[:2]}, "`y` must have one entry for each of the 3 rows of `X`, but it has 2"),
        ({"theta_true": jnp.ones(3)}, "`theta_true` must have one entry for each of the 2 columns"),
        ({"feature_names": ["a"]}, "`feature_names` must have one name for each of the 2 columns"),
        ({"X": Y}, "`X` must have the axes"),
        ({"y": Y.at[1].set(jnp.nan)}, "`y` must be finite, but entry \\[1\\] is nan"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        Problem(**{"X": X, "y": Y} | arguments)
