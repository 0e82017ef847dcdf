"""Sensitivities against finite differences of SciPy's flows."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln

TIMES = (0.5, 2.0)
RNG = np.random.default_rng(4)
X = RNG.normal(size=(5, 4)) / 2
Y = RNG.normal(size=5)
LAYERS = RNG.normal(size=(3, 4))
# At the first coordinate two layers tie, at the second all three, at the third one is zero.
TIED = LAYERS.copy()
TIED[:, 0] = 0.5, -0.5, 0.9
TIED[:, 1] = 0.8, -0.8, 0.8
TIED[:, 2] = 0.0, 0.7, 0.7


def theta(layers=LAYERS, X=X, y=Y, weights=None):
    """theta at the times, by SciPy, from the weights of the network."""
    weights = np.ones(len(y)) if weights is None else weights

    def velocity(t, w):
        u = w.reshape(3, 4)
        g = X.T @ (weights * (X @ np.prod(u, axis=0) - y))
        return np.concatenate([-np.prod(np.delete(u, j, 0), axis=0) * g for j in range(3)])

    flow = solve_ivp(velocity, (0, 2), layers.ravel(), "DOP853", TIMES, rtol=1e-12, atol=1e-14).y.T
    return np.prod(flow.reshape(-1, 3, 4), axis=1)


def differences(function, x, step=1e-5):
    """Central differences, shape [T, d, *x]."""
    columns = []
    for index in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[index] = step
        columns.append((function(x + move) - function(x - move)) / (2 * step))
    return np.stack(columns, axis=-1).reshape(len(TIMES), 4, *x.shape)


def found(wrt, layers=LAYERS, **settings):
    return ddln.sensitivity(
        ddln.DeepDiagonal(layers), ddln.LeastSquares(X, Y), 2.0, wrt, ts=TIMES, rtol=1e-9, atol=1e-12,
        **settings,
    )  # fmt: skip


# Smaller programs than those of the usual choice, which the weights have.
EXPLICIT = {"coordinates": "full", "solver": diffrax.Tsit5()}


def test_in_the_data():
    expected = differences(lambda value: theta(y=value), Y)
    np.testing.assert_allclose(found("y", **EXPLICIT).derivative, expected, rtol=0, atol=1e-6)
    expected = differences(lambda value: theta(X=value), X)
    np.testing.assert_allclose(found("X").derivative, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [LAYERS, TIED], ids=["no ties", "ties"])
def test_in_the_weights(layers):
    """A tie is no exception: the flow of the weights is smooth there."""
    sensitivity = found("weights", layers)
    expected = differences(lambda value: theta(layers=value), layers)
    np.testing.assert_allclose(sensitivity.derivative.layers, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(sensitivity.trajectory.theta, theta(layers), atol=1e-7)
    assert sensitivity.trajectory.method == "reduced, Rodas5P"


def test_influence_of_samples():
    expected = differences(lambda value: theta(weights=value), np.ones(5))
    np.testing.assert_allclose(found("samples", **EXPLICIT).derivative, expected, rtol=0, atol=1e-6)


def test_rows_that_are_not_reached_are_nan():
    sensitivity = found("y", max_steps=5, throw=False, **EXPLICIT)
    reached = np.isfinite(sensitivity.trajectory.ts)
    assert not reached.all()
    assert np.all(np.isnan(np.asarray(sensitivity.derivative)[~reached]))


def test_a_vector_hessian_product_of_the_end():
    """Forward over reverse, against differences of the gradient."""

    def end(layers):
        network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, Y)
        flow = ddln.gradient_flow(
            network, loss, 2.0, rtol=1e-9, atol=1e-12, dual=False, throw=False
        )
        return jnp.sum(jnp.square(flow.theta[-1]))

    direction = np.random.default_rng(7).normal(size=LAYERS.shape)
    gradient_and_product = jax.jit(lambda u: jax.jvp(jax.grad(end), (u,), (direction,)))
    step = 1e-5
    (_, product), (ahead, _), (behind, _) = (
        gradient_and_product(LAYERS + move * direction) for move in (0.0, step, -step)
    )
    np.testing.assert_allclose(product, (ahead - behind) / (2 * step), rtol=0, atol=1e-5)


def test_calls_of_one_shape_compile_once():
    traces = []

    def loss(theta):
        traces.append(1)
        return jnp.sum(jnp.square(theta - 1))

    start = ddln.Identity(np.zeros(2))
    counts = []
    for t1 in (1.0, 2.0, 3.0):
        ddln.sensitivity(start, loss, t1, rtol=1e-5 * t1)
        counts.append(len(traces))
    # Each later call evaluates the shape of the loss once, and nothing else.
    assert counts[2] - counts[1] == counts[1] - counts[0] == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="Argument `wrt` must be one of"):
        found("labels")
    with pytest.raises(ValueError, match="Argument `loss` must be a `ddln"):
        ddln.sensitivity(ddln.DeepDiagonal(LAYERS), jnp.sum, 1.0, "y")
    with pytest.raises(ValueError, match="Argument `weights` must have the shape"):
        ddln.Weighted(ddln.LeastSquares(X, Y), np.ones(3))
