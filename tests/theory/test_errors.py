"""The estimates of numerical errors: from their definitions, and against what errors really do."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from theory_cases import D, random_cases, trajectory

import ddln
from ddln.theory._errors import effective_error, loss_error, weight_error
from ddln.theory._rows import fill_unreached

STEPS, RTOL, ATOL = 3, 1e-3, 1e-4
ROUNDING = 16 * np.finfo(float).eps


def flow(steps=STEPS):
    """A short flow of three layers that claims large errors."""
    return dataclasses.replace(
        trajectory(random_cases(3)[2], np.array([0.1, 1.0])),
        stats={"num_accepted_steps": jnp.asarray(steps)},
        rtol=jnp.asarray(RTOL),
        atol=jnp.asarray(ATOL),
    )


def layer_errors(layers, steps=STEPS):
    return steps * (RTOL * np.abs(layers) + ATOL) + ROUNDING * np.abs(layers)


def test_weights_and_theta():
    for steps in (STEPS, 0):
        run = flow(steps)
        layers = np.asarray(run.parameterization.layers)
        errors = layer_errors(layers, steps)
        np.testing.assert_allclose(
            weight_error(run, fill_unreached(run)).layers, errors, rtol=1e-12
        )
        others = [np.prod(np.delete(layers, j, axis=1), axis=1) for j in range(3)]
        expected = np.sqrt(np.sum((np.stack(others, axis=1) * errors) ** 2, axis=1))
        expected += ROUNDING * np.abs(run.theta)
        np.testing.assert_allclose(effective_error(run, fill_unreached(run)), expected, rtol=1e-12)


def mixed(run):
    """theta = A w, a map that is not separable, at the saved theta."""
    A = np.random.default_rng(0).normal(size=(3, D))
    start = ddln.FromFunction(lambda w: A @ w, run.theta[0])
    changed = {
        "initial": start,
        "parameterization": eqx.tree_at(lambda p: p.weights, start, run.theta),
        "theta": run.theta @ A.T,
        "dual": None,
    }
    return A, dataclasses.replace(run, **changed)


def test_theta_of_mixed_weights():
    A, run = mixed(flow())
    errors = STEPS * (RTOL * np.abs(run.parameterization.weights) + ATOL)
    expected = np.sqrt(errors**2 @ (A**2).T)
    np.testing.assert_allclose(effective_error(run, fill_unreached(run)), expected, rtol=1e-10)


def test_the_loss_moves_by_the_error_where_all_signs_agree():
    """Quadratics with positive slopes: L(theta + e) - L(theta) is the bound itself."""
    run = flow()
    rng = np.random.default_rng(1)
    X = rng.uniform(0.1, 1, (4, D))
    below = np.asarray(run.theta) @ X.T - 1
    error = np.asarray(effective_error(run, fill_unreached(run)))
    squares = ddln.LeastSquares(X, below.min(axis=0), 0.7)
    centre = np.asarray(run.theta).min(axis=0) - 0.1

    def plain(theta):
        return 0.3 * jnp.sum((theta - centre) ** 2)

    exact = dataclasses.replace(run, rtol=jnp.asarray(0.0), atol=jnp.asarray(0.0))
    rounded = np.asarray(effective_error(exact, fill_unreached(exact)))
    for loss in (squares, plain):
        bound, rest = (loss_error(one, fill_unreached(one), loss) for one in (run, exact))
        for row, theta in enumerate(run.theta):
            moved = loss(theta + error[row]) - loss(theta)
            np.testing.assert_allclose(bound[row], moved, rtol=1e-9)
            slope = jax.grad(loss)(theta)
            expected = slope @ rounded[row] + ROUNDING * loss(theta)
            np.testing.assert_allclose(rest[row], expected, rtol=1e-9)
