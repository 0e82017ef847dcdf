import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import ddln

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 5)), RNG.normal(size=3)
LOSS = ddln.LeastSquares(X, Y, scale=0.5)
TS = jnp.concatenate([jnp.zeros(1), jnp.geomspace(0.1, 30.0, 40)])


def test_the_average_of_a_linear_model_in_closed_form_until_an_event():
    start = RNG.normal(size=5)
    settings = {"ts": TS, "dense": True, "rtol": 1e-10, "atol": 1e-13}
    # It stops before the last time, whose average is then unknown.
    flow = ddln.gradient_flow(
        ddln.Identity(start), LOSS, 30.0, event=lambda t, *_: 29.0 - t, **settings
    )
    # The augmented system (theta, integral of theta, 1)' is linear.
    matrix = np.zeros((11, 11))
    matrix[:5, :5], matrix[:5, 10] = -X.T @ X, X.T @ Y
    matrix[5:10, :5] = np.eye(5)
    first = np.concatenate([start, np.zeros(5), [1]])
    ends = [scipy.linalg.expm(matrix * t) @ first for t in TS]
    expected = np.array(
        [end[5:10] / t if t > 0 else start for end, t in zip(ends, TS, strict=True)]
    )
    mean = ddln.averaged(flow)
    np.testing.assert_allclose(mean[:-1], expected[:-1], rtol=1e-7, atol=1e-8)
    assert np.isnan(mean[-1]).all()


def test_the_average_of_a_network_by_scipy_and_its_derivative():
    layers = 0.3 + RNG.random((2, 5))

    def velocity(t, state):
        u, v = state[:5], state[5:10]
        g = X.T @ (X @ (u * v) - Y)
        return np.concatenate([-g * v, -g * u, u * v])

    first = np.concatenate([*layers, np.zeros(5)])
    solution = scipy.integrate.solve_ivp(
        velocity, (0, 30.0), first, "LSODA", TS[1:], rtol=1e-11, atol=1e-13
    )

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def average(layers):
        settings = {"ts": TS, "dense": True, "rtol": 1e-10, "atol": 1e-13, "throw": False}
        flow = ddln.gradient_flow(ddln.DeepDiagonal(layers), LOSS, 30.0, **settings)
        mean = ddln.averaged(flow)
        return jnp.sum(mean[-1]), mean

    (_, found), slope = average(jnp.asarray(layers))
    np.testing.assert_allclose(
        found[1:], (solution.y[10:] / np.asarray(TS[1:])).T, rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(found[0], layers[0] * layers[1], rtol=1e-12)
    shift = np.zeros((2, 5))
    shift[1, 2] = 1e-5
    (ahead, _), (behind, _) = (average(jnp.asarray(layers + s * shift))[0] for s in (1, -1))
    difference = (ahead - behind) / 2e-5
    np.testing.assert_allclose(slope[1, 2], difference, rtol=1e-5)


def test_the_average_of_the_vanishing_limit_is_the_lasso_for_orthogonal_columns():
    basis = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    correlation = np.array([2.0, -1.0, 0.3, 0.0])
    limit = ddln.vanishing_limit(
        ddln.DeepDiagonal.zero_last(jnp.ones(4), 2),
        ddln.LeastSquares(basis, basis @ correlation, scale=0.5),
    )
    tau = np.array([0.4, 0.7, 2.0, 50.0])
    soft = np.sign(correlation) * np.maximum(np.abs(correlation) - 1 / tau[:, None], 0)
    np.testing.assert_allclose(ddln.averaged(limit, jnp.asarray(tau)), soft, atol=1e-12)
    with pytest.raises(ValueError, match="Argument `ts` must give the times"):
        ddln.averaged(limit)


def test_paths_that_cannot_be_averaged():
    flow = ddln.gradient_flow(ddln.Identity(np.ones(5)), LOSS, 1.0)
    with pytest.raises(ValueError, match="Pass `dense=True` to the flow"):
        ddln.averaged(flow)
    with pytest.raises(ValueError, match="Argument `ts` must be None for a flow"):
        ddln.averaged(flow, jnp.ones(2))
