"""Sums of terms of several depths as starts, whose coordinates move at one xi, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

import ddln

SPARSE = ddln.Signal.sparse(0.1)
OFFSET = 0.2
CONSTANT = ddln.Constant(np.array([OFFSET]))
# The scales of terms of two and three layers, n/d, noise.
PARAMETERS = np.array([0.4, 0.6, 0.4, 0.3])


def outcome(p):
    """s^2, gamma, E (theta - theta*)^2 and E |theta|."""
    start = ddln.Sum(
        CONSTANT,
        ddln.DeepDiagonal.zero_last(jnp.ones(1), 2, p[0]),
        ddln.DeepDiagonal.zero_last(jnp.ones(1), 3, p[1]),
    )
    end = ddln.state_evolution(start, SPARSE, p[2], p[3], throw=False)
    return jnp.stack([end.effective_noise, end.effective_penalty, end.mse, end.l1])


@pytest.fixture(scope="module")
def found():
    step = 1e-4
    shifts = np.concatenate([k * step * np.eye(4) for k in (-2, -1, 1, 2)])
    points = jnp.asarray(PARAMETERS + np.concatenate([np.zeros((1, 4)), shifts]))

    @jax.jit
    @jax.vmap
    def values_and_derivatives(p):
        value, forward = jax.linearize(outcome, p)
        reverse = jax.linear_transpose(forward, p)
        rows = jax.vmap(lambda row: reverse(row)[0])(jnp.eye(4))
        return value, jax.vmap(forward)(jnp.eye(4)).T, rows

    values, forward, reverse = map(np.asarray, values_and_derivatives(points))
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    differences = np.tensordot(weights, values[1:].reshape(4, 4, 4), 1).T
    return values[0], forward[0], reverse[0], differences


def means_by_scipy(s, gamma):
    """E (theta - theta*)^2, E M / (M + gamma) and E |theta| by integrals over t, v = b sinh t."""
    a, b = PARAMETERS[:2]

    def at(t):
        v = b * np.sinh(t)
        xi = np.arctan(np.sinh(t)) / b
        theta = OFFSET + 0.5 * a**2 * np.sinh(2 * xi) + v * (v**2 + b**2)
        metric = a**2 * np.cosh(2 * xi) + (3 * v**2 + b**2) * (v**2 + b**2)
        return theta, xi, metric, b * np.cosh(t) / (v**2 + b**2)

    total = np.zeros(3)
    for share, deviation in ((0.9, 0.0), (0.1, 10**0.5)):
        width = np.hypot(deviation, s)
        keep = s**2 / width**2

        def values(t, width=width, keep=keep):
            theta, xi, metric, dxi = at(t)
            z = theta + gamma * xi
            density = norm.pdf(z, scale=width) * (metric + gamma) * dxi
            error = theta - (1 - keep) * z
            return density * np.array([error**2, metric / (metric + gamma), abs(theta)])

        part, _ = integrate.quad_vec(
            values, -8, 8, epsabs=1e-13, epsrel=1e-12, points=[-2, -1, -0.5, 0, 0.5, 1, 2]
        )
        total += share * part
        total[0] += share * keep * deviation**2
    return total


def test_moments_and_equations(found):
    s2, gamma, mse, l1 = found[0]
    error, divergence, size = means_by_scipy(s2**0.5, gamma)
    np.testing.assert_allclose(divergence, PARAMETERS[2], rtol=1e-9)
    np.testing.assert_allclose(s2, PARAMETERS[3] ** 2 + mse / PARAMETERS[2], rtol=1e-9)
    np.testing.assert_allclose([mse, l1], [error, size], rtol=1e-8)


def test_derivatives_agree_with_differences(found):
    _, forward, reverse, differences = found
    # The residual of the fixed point, 1e-11, over the step.
    np.testing.assert_allclose(forward, differences, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(reverse, forward, atol=1e-12, rtol=1e-8)
