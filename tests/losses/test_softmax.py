"""The softmax loss, against SciPy's and the flow of its scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import log_softmax, softmax

import ddln

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))
Y = np.array([0, 2, 1, 1, 0, 2])
THETA = RNG.normal(size=(4, 3))
LOSS = ddln.Softmax(X, Y, scale=0.5)


def slope(theta):
    return 0.5 * X.T @ (softmax(X @ theta, axis=1) - np.eye(3)[Y])


def test_value_gradient_and_margins():
    theta = jnp.asarray(THETA)
    expected = -0.5 * log_softmax(X @ THETA, axis=1)[np.arange(6), Y].sum()
    np.testing.assert_allclose(LOSS(theta), expected, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(LOSS)(theta), slope(THETA), rtol=1e-11, atol=1e-14)
    scores = X @ THETA
    others = [np.delete(row, label).max() for row, label in zip(scores, Y, strict=True)]
    np.testing.assert_allclose(LOSS.margins(theta), scores[np.arange(6), Y] - others, rtol=1e-12)
    # Large scores do not overflow.
    assert jnp.isfinite(jax.grad(LOSS)(1e5 * theta)).all()


def test_flow_of_a_difference_of_squares():
    u, v = RNG.uniform(0.5, 1.5, (2, 4, 3))
    flow = ddln.gradient_flow(ddln.PowerDifference(u, v, 2), LOSS, 1.0, rtol=1e-8, atol=1e-11)

    def velocity(t, w):
        a, b = w.reshape(2, 4, 3)
        g = slope(a**2 - b**2)
        return np.concatenate([(-2 * a * g).ravel(), (2 * b * g).ravel()])

    start = np.concatenate([u.ravel(), v.ravel()])
    a, b = solve_ivp(velocity, (0, 1), start, rtol=1e-11, atol=1e-13).y[:, -1].reshape(2, 4, 3)
    np.testing.assert_allclose(flow.theta[-1], a**2 - b**2, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddln.Softmax(X, Y[:3]), "`y` must have one integer for each of the 6 rows"),
        (lambda: ddln.Softmax(X, 1.0 * Y), "dtype float64"),
        (lambda: ddln.Softmax(X, Y, classes=2), "classes from 0 to 1, but entry 1 is 2"),
        (lambda: jax.jit(lambda y: ddln.Softmax(X, y).scale)(Y), "`classes` must be given"),
        (lambda: LOSS(jnp.ones((3, 4))), r"must have the shape \(4, 3\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
