"""RKC against closed forms, SciPy and finite differences."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.integrate import solve_ivp

import ddln

CELLS = 100
START = np.sin(np.pi * np.linspace(0, 1, CELLS + 2)[1:-1]) + np.linspace(-1, 1, CELLS) ** 2


def laplacian():
    ones = np.ones(CELLS - 1)
    return (np.diag(ones, 1) + np.diag(ones, -1) - 2 * np.eye(CELLS)) * CELLS**2


def integrate(field, y0, t1, *, step=None, rtol=1e-6, reverse=False, **settings):
    adaptive = diffrax.PIDController(rtol=rtol, atol=1e-3 * rtol)
    controller = adaptive if step is None else diffrax.ConstantStepSize()
    adjoint = diffrax.RecursiveCheckpointAdjoint() if reverse else diffrax.ForwardMode()
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        ddln.RKC(reverse=reverse, **settings),
        0.0,
        t1,
        step,
        y0,
        stepsize_controller=controller,
        adjoint=adjoint,
        saveat=diffrax.SaveAt(t1=True, dense=not reverse),
    )


def test_order_two_also_of_the_dense_output():
    """y' = -y^2 + cos t - 50 y: steps of all sizes here take several stages."""

    def field(t, y, args):
        return -jnp.square(y) + jnp.cos(t) - 50 * y

    y0 = np.array([1.0, 0.3])
    reference = solve_ivp(
        lambda t, y: -(y**2) + np.cos(t) - 50 * y, (0, 1), y0, rtol=1e-12, atol=1e-13,
        t_eval=[0.4321, 1.0], method="Radau",
    ).y.T  # fmt: skip
    errors = []
    for steps in (16, 32, 64, 128):

        @jax.jit
        def found(step):
            solution = integrate(field, jnp.asarray(y0), 1.0, step=step)
            return jnp.stack([solution.evaluate(0.4321), solution.ys[-1]])

        errors.append(np.max(np.abs(found(1 / steps) - reference), axis=1))
    slopes = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(slopes[-1] > 1.8)


def test_heat_equation_in_few_steps():
    """Spectral radius 4e4 for a time of 0.1: an explicit method of order 2 takes 2000 steps."""
    matrix = jnp.asarray(laplacian())
    solution = integrate(lambda t, y, args: matrix @ y, jnp.asarray(START), 0.1, rtol=1e-5)
    exact = scipy.linalg.expm(0.1 * laplacian()) @ START
    np.testing.assert_allclose(solution.ys[-1], exact, atol=1e-4)
    assert solution.stats["num_steps"] < 200


def test_a_step_that_needs_too_many_stages_is_made_smaller():
    matrix = jnp.asarray(laplacian())
    solution = integrate(
        lambda t, y, args: matrix @ y, jnp.asarray(START), 0.1, rtol=1e-3, max_stages=10
    )
    exact = scipy.linalg.expm(0.1 * laplacian()) @ START
    np.testing.assert_allclose(solution.ys[-1], exact, atol=1e-2)
    # A step of s stages reaches s^2 / (1.54 * 4e4) at most.
    assert solution.stats["num_accepted_steps"] > 0.1 / (10**2 / (1.54 * 4e4))


@pytest.mark.parametrize("reverse", [False, True])
def test_derivatives_are_those_of_the_solution(reverse):
    """Of the exact solution: that of RKC jumps a little where the number of stages changes."""
    rng = np.random.default_rng(0)
    matrix = -np.diag(np.geomspace(1, 1000, 6)) + 0.1 * rng.normal(size=(6, 6))
    direction = rng.normal(size=6)

    def end(y0):
        def field(t, y, args):
            return jnp.asarray(matrix) @ y - y**3

        solution = integrate(field, y0, 0.5, rtol=1e-7, reverse=reverse)
        return jnp.sum(jnp.square(solution.ys[-1]))

    def exact(y0):
        solution = solve_ivp(
            lambda t, y: matrix @ y - y**3, (0, 0.5), y0, "Radau", rtol=1e-12, atol=1e-14
        )
        return np.sum(solution.y[:, -1] ** 2)

    y0, step = np.ones(6), 1e-4
    expected = (exact(y0 + step * direction) - exact(y0 - step * direction)) / (2 * step)
    along = (jnp.asarray(y0),), (jnp.asarray(direction),)
    found = jax.grad(end)(*along[0]) @ direction if reverse else jax.jvp(end, *along)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_flows_of_large_data_take_it_and_agree_with_scipy(monkeypatch):
    monkeypatch.setattr("ddln.flows._gradient_flow.FACTORIZATION_LIMIT", 30)
    rng = np.random.default_rng(3)
    n, d = 31, 40
    X = rng.normal(size=(n, d)) / np.sqrt(n)
    layers, theta = rng.normal(size=(2, d)), np.zeros(d)
    theta[:5] = 2
    y = X @ theta
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), 2.0, rtol=1e-7, adjoint=diffrax.ForwardMode()
    )  # fmt: skip
    assert flow.method == "reduced, RKC"

    def velocity(t, w):
        u, v = w.reshape(2, d)
        g = X.T @ (X @ (u * v) - y)
        return np.concatenate([-g * v, -g * u])

    end = solve_ivp(velocity, (0, 2), layers.ravel(), rtol=1e-9, atol=1e-11, method="DOP853").y[
        :, -1
    ]
    np.testing.assert_allclose(flow.theta[-1], np.prod(end.reshape(2, d), axis=0), atol=2e-4)


def test_float32():
    matrix = jnp.asarray(laplacian(), jnp.float32)
    field = lambda t, y, args: matrix @ y  # noqa: E731
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        ddln.RKC(),
        jnp.float32(0),
        jnp.float32(0.1),
        None,
        jnp.asarray(START, jnp.float32),
        stepsize_controller=diffrax.PIDController(rtol=jnp.float32(1e-3), atol=jnp.float32(1e-6)),
        adjoint=diffrax.ForwardMode(),
    )
    exact = scipy.linalg.expm(0.1 * laplacian()) @ START
    assert solution.ys.dtype == jnp.float32
    np.testing.assert_allclose(solution.ys[-1], exact, atol=1e-2)
