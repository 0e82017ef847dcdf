"""Sums of terms of different depths as starts, against SciPy (`ddln.asymptotics._sum_chart`)."""

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
# The scales of terms of two and eight layers, n/d, noise.
PARAMETERS = np.array([0.4, 0.6, 0.4, 0.3])
# The term of eight layers is steep here: it moves first hardly, and then most.
OTHERS = np.array([[0.3, 1.0, 0.4, 0.3], [1e-3, 0.9, 0.35, 0.1], [3.0, 0.7, 0.6, 0.3]])


def outcome(p):
    """s^2, gamma, E (theta - theta*)^2 and E |theta|."""
    start = ddln.Sum(
        CONSTANT,
        ddln.DeepDiagonal.zero_last(jnp.ones(1), 2, p[0]),
        ddln.DeepDiagonal.zero_last(jnp.ones(1), 8, p[1]),
    )
    end = ddln.state_evolution(start, SPARSE, p[2], p[3], throw=False)
    return jnp.stack([end.effective_noise, end.effective_penalty, end.mse, end.l1])


@pytest.fixture(scope="module")
def found():
    step = 1e-4
    shifts = np.concatenate([k * step * np.eye(4) for k in (-2, -1, 1, 2)])
    points = jnp.asarray(PARAMETERS + np.concatenate([np.zeros((1, 4)), shifts]))
    points = jnp.concatenate([points, jnp.asarray(OTHERS)])

    @jax.jit
    @jax.vmap
    def values_and_derivatives(p):
        value, forward = jax.linearize(outcome, p)
        reverse = jax.linear_transpose(forward, p)
        rows = jax.vmap(lambda row: reverse(row)[0])(jnp.eye(4))
        return value, jax.vmap(forward)(jnp.eye(4)).T, rows

    values, forward, reverse = map(np.asarray, values_and_derivatives(points))
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    differences = np.tensordot(weights, values[1:17].reshape(4, 4, 4), 1).T
    return np.delete(values, slice(1, 17), 0), forward[0], reverse[0], differences


def means_by_scipy(a, b, s, gamma):
    """E (theta - theta*)^2, E M / (M + gamma) and E |theta| by integrals over t, v = b sinh t.

    Of eight layers theta = v w^7 with w = b cosh t, the size of the others, and d xi / d t = w^-6.
    """

    def at(t):
        v, w, u = b * np.sinh(t), b * np.cosh(t), np.tanh(t)
        xi = (u - 2 * u**3 / 3 + u**5 / 5) / b**6
        theta = OFFSET + 0.5 * a**2 * np.sinh(2 * xi) + v * w**7
        metric = a**2 * np.cosh(2 * xi) + w**14 + 7 * v**2 * w**12
        return theta, xi, metric, w**-6

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
            values, -3, 3, epsabs=1e-13, epsrel=1e-12, points=np.linspace(-2.5, 2.5, 51)
        )
        total += share * part
        total[0] += share * keep * deviation**2
    return total


def test_moments_and_equations(found):
    for (a, b, ratio, noise), value in zip([PARAMETERS, *OTHERS], found[0], strict=True):
        s2, gamma, mse, l1 = value
        error, divergence, size = means_by_scipy(a, b, s2**0.5, gamma)
        np.testing.assert_allclose(divergence, ratio, rtol=1e-9)
        np.testing.assert_allclose(s2, noise**2 + mse / ratio, rtol=1e-9)
        np.testing.assert_allclose([mse, l1], [error, size], rtol=1e-9)


def test_derivatives_agree_with_differences(found):
    _, forward, reverse, differences = found
    # The residual of the fixed point, 1e-11, over the step.
    np.testing.assert_allclose(forward, differences, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(reverse, forward, atol=1e-12, rtol=1e-8)


def test_the_law_of_the_end_has_its_moments():
    start = ddln.Sum(CONSTANT, ddln.Square(jnp.ones(1)), ddln.DeepDiagonal([[0.9], [0.5], [0.2]]))
    law = ddln.asymptotics.end_law(start, SPARSE, 0.4, 0.3, size=1024)
    theta = law.start.effective()
    # By four nodes a panel.
    assert law.lost < 1e-8
    np.testing.assert_allclose(law.weights @ theta**2, law.evolution.l2, rtol=1e-5)
    np.testing.assert_allclose(law.weights @ jnp.abs(theta), law.evolution.l1, rtol=1e-5)


def test_experiments_agree():
    start = ddln.Sum(*(ddln.DeepDiagonal.zero_last(jnp.ones(1), L, 0.3) for L in (2, 3)))
    end = ddln.state_evolution(start, SPARSE, 0.4, 0.1)
    runs = ddln.asymptotics.simulate(
        start, SPARSE, 0.4, 0.1, dim=200, runs=100, key=jax.random.key(5)
    )
    for name in ("mse", "l1"):
        mean, error = runs.mean(getattr(runs, name))
        # Of d = 200 the trend in 1/d is below the error.
        assert abs(mean - getattr(end, name)) < 3 * error
