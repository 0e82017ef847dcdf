"""Sequences of tasks, against closed forms and SciPy's flows of the weights."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

import ddln

RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 2, 5))
Y = RNG.normal(size=(2, 2))
LAYERS = RNG.normal(size=(2, 5))
TASKS = [ddln.LeastSquares(X[k], Y[k]) for k in range(2)]


def halved(network, number):
    return jax.tree.map(lambda leaf: 0.5**number * leaf, network)


def layers_of(network):
    return np.asarray(network.layers)


def trained(layers, k, t1):
    def velocity(t, w):
        u, v = w.reshape(2, 5)
        g = X[k].T @ (X[k] @ (u * v) - Y[k])
        return np.concatenate([-v * g, -u * g])

    end = solve_ivp(velocity, (0, t1), layers.ravel(), method="LSODA", rtol=1e-12, atol=1e-14)
    return end.y[:, -1].reshape(2, 5)


@pytest.mark.parametrize("t1", [np.inf, 0.7])
def test_the_second_task_starts_where_the_first_one_ended(t1):
    settings: dict[str, Any] = {} if t1 == np.inf else {"rtol": 1e-9, "atol": 1e-12}
    run = ddln.train_sequence(ddln.DeepDiagonal(LAYERS), TASKS, between=halved, t1=t1, **settings)
    time = min(t1, 1e4)
    first = trained(LAYERS, 0, time)
    second = trained(0.5 * first, 1, time)
    found = [layers_of(end) for end in run.ends]
    np.testing.assert_allclose(found, [first, second], atol=1e-7)
    np.testing.assert_allclose(layers_of(run.starts[1]), 0.5 * first, atol=1e-7)
    theta = np.stack([np.prod(one, axis=0) for one in (LAYERS, first, second)])
    losses = [[np.sum((X[k] @ one - Y[k]) ** 2) / 2 for k in range(2)] for one in theta]
    np.testing.assert_allclose(run.theta, theta[1:], atol=1e-7)
    np.testing.assert_allclose(run.losses, losses, atol=1e-6)
    np.testing.assert_allclose(run.forgetting, [losses[2][0] - losses[1][0], 0], atol=1e-6)
    begun = np.sum((X[1] @ theta[1] / 4 - Y[1]) ** 2) / 2
    np.testing.assert_allclose(run.transferred, [losses[0][0], begun], atol=1e-6)


def test_a_large_pretraining_task_moves_the_next_bias():
    # Without a change between the tasks the end minimizes the hyperbolic entropy around theta_1.
    run = ddln.train_sequence(ddln.DeepDiagonal(LAYERS), TASKS)
    gap = np.abs(LAYERS[0] ** 2 - LAYERS[1] ** 2)
    before = np.asarray(run.theta[0])

    def entropy(theta):
        tilt = np.arcsinh(2 * before / gap)
        return np.sum(theta * np.arcsinh(2 * theta / gap) - np.hypot(theta, gap / 2) - theta * tilt)

    best = minimize(
        entropy,
        before,
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda theta: X[1] @ theta - Y[1]},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    np.testing.assert_allclose(run.theta[1], best.x, atol=1e-5)


def test_lanes_derivatives_and_codes():
    def last(step):
        start = ddln.DeepDiagonal(LAYERS + step)
        tasks = [TASKS[0], ddln.LeastSquares(X[1], Y[1] + step)]
        run = ddln.train_sequence(start, tasks, between=halved, throw=False)
        return jnp.sum(run.theta[1] ** 2), ddln.is_okay(run.result)

    steps = jnp.asarray([0.0, 1e-5, -1e-5, jnp.nan])
    (values, okay), slopes = jax.jit(jax.vmap(jax.value_and_grad(last, has_aux=True)))(steps)
    np.testing.assert_array_equal(okay, [True, True, True, False])
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-7)


@pytest.mark.parametrize(
    ("tasks", "between", "message"),
    [
        ([], None, "`tasks` must have at least one loss"),
        ([TASKS[0], ddln.LeastSquares(X[0, :, :4], Y[0])], None, r"task 1 does not fit: .*\(5,\)"),
        (TASKS, lambda network, _: ddln.Square(network.layers[0]), "same class, shapes and dtypes"),
    ],
)
def test_bad_arguments(tasks, between, message):
    with pytest.raises(ValueError, match=message):
        ddln.train_sequence(ddln.DeepDiagonal(LAYERS), tasks, between=between)


def test_replaced_leaves_are_those_that_train():
    def reset(network, number):
        return eqx.tree_at(lambda p: p.layers, network, jnp.asarray(LAYERS))

    run = ddln.train_sequence(ddln.DeepDiagonal(LAYERS), TASKS[::-1], between=reset)
    alone = trained(LAYERS, 0, 1e4)
    np.testing.assert_allclose(layers_of(run.ends[1]), alone, atol=1e-8)
