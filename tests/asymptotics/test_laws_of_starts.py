"""Starts with probabilities, ties, starts other than zero, and signals that depend on them, against SciPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

import ddln

# Two layers u, v of two coordinates; the weights; components and their probabilities for each start.
MIXED = ([[0.3, 1.5], [0.0, 0.0]], [0.3, 0.7])
SIGNED = ([[1.0, 0.8], [0.5, -0.6]], [0.6, 0.4])
TIED = ([[0.5, 0.2], [0.5, 0.2]], [0.5, 0.5])
BOTH = [[[0.0, 0.0], [0.5, 0.5]], [[0.0, 0.0], [2.0, 2.0]], [[0.8, 0.8], [0.2, 0.2]]]
APART = [[[0.3, -1.0], [0.5, 0.2]], [[0.1, 0.5], [2.0, 0.0]], [[0.4, 0.9], [0.6, 0.1]]]
POSITIVE = [[[0.1, 0.1], [2.0, 2.0]], [[0.0, 0.0], [0.3, 0.3]], [[0.7, 0.7], [0.3, 0.3]]]
CASES = [
    (*MIXED, *BOTH, 0.4, 0.3),
    (*SIGNED, *APART, 0.6, 0.2),
    (*TIED, *POSITIVE, 0.5, 0.1),
    # A sign that the start cannot take: the norm of theta would have to be negative.
    (*TIED, *[[[-1.0, -1.0]] * 2, [[0.0, 0.0]] * 2, [[0.5, 0.5]] * 2], 0.9, 0.0),
]


@pytest.fixture(scope="module")
def found():
    columns = [jnp.asarray(np.array(column, float)) for column in zip(*CASES, strict=True)]

    @jax.jit
    @jax.vmap
    def evolved(layers, weights, means, deviations, probabilities, ratio, noise):
        signal = ddln.Signal(means, deviations, probabilities)
        return ddln.state_evolution(
            ddln.DeepDiagonal(layers),
            signal,
            ratio,
            noise,
            weights=weights,
            observe=lambda theta: jnp.abs(theta) ** 1.5,
            throw=False,
        )

    return evolved(*columns)


def curve_of(u, v):
    """theta and M as functions of xi: theta = (D/2) sinh(2 xi + k), or theta_0 exp(2 xi) at a tie."""
    gap = abs(u**2 - v**2)
    if gap == 0:
        return lambda xi: (u * v * np.exp(2 * xi), 2 * u * v * np.exp(2 * xi)), []
    k = np.log(abs((u + v) / (u - v)))
    theta = lambda xi: (0.5 * gap * np.sinh(2 * xi + k), gap * np.cosh(2 * xi + k))  # noqa: E731
    return theta, [-0.5 * k]


def means_by_scipy(case, s, gamma):
    """E (theta - theta*)^2, E M / (M + gamma), E |theta| and E |theta|^1.5, by integrals over xi."""
    layers, weights, means, deviations, probabilities = (np.array(part) for part in case[:5])
    total = np.zeros(4)
    for k, weight in enumerate(weights):
        curve, kinks = curve_of(*layers[:, k])
        for mean, deviation, share in zip(
            means[:, k], deviations[:, k], probabilities[:, k], strict=True
        ):
            width = np.hypot(deviation, s)
            keep = s**2 / width**2

            def values(xi, mean=mean, width=width, keep=keep, curve=curve):
                theta, metric = curve(xi)
                z = theta + gamma * xi
                posterior = z - keep * (z - mean)
                density = norm.pdf(z, mean, width) * (metric + gamma)
                size = abs(theta)
                return density * np.array(
                    [(theta - posterior) ** 2, metric / (metric + gamma), size, size**1.5]
                )

            grid = np.concatenate([np.linspace(-400, -12, 4001)[:-1], np.linspace(-12, 12, 24001)])
            theta, _ = curve(np.clip(grid, -100, 100))
            inside = grid[np.abs(theta + gamma * grid - mean) < 10 * width]
            ends = sorted(
                [inside[0], *(x for x in kinks if inside[0] < x < inside[-1]), inside[-1]]
            )
            for low, high in itertools.pairwise(ends):
                part, _ = integrate.quad_vec(values, low, high, epsabs=1e-12, epsrel=1e-11)
                total += weight * share * part
            total[0] += weight * share * keep * deviation**2
    return total


@pytest.mark.parametrize("number", [0, 1, 2], ids=["weights", "nonzero starts", "ties"])
def test_moments_and_equations(found, number):
    case = CASES[number]
    ratio, noise = case[5:]
    s2, gamma = float(found.effective_noise[number]), float(found.effective_penalty[number])
    mse, divergence, l1, power = means_by_scipy(case, s2**0.5, gamma)
    # The tolerance of the fixed point is eps^0.7, 1e-11.
    np.testing.assert_allclose(divergence, ratio, rtol=1e-9)
    np.testing.assert_allclose(s2, noise**2 + mse / ratio, rtol=1e-9)
    np.testing.assert_allclose(found.mse[number], mse, rtol=1e-9)
    np.testing.assert_allclose(found.active[number], divergence, rtol=1e-9)
    np.testing.assert_allclose(found.l1[number], l1, rtol=1e-9)
    # |theta|^1.5 is not smooth at 0, where panels end.
    np.testing.assert_allclose(found.observed[number], power, rtol=1e-6)


def test_balanced_layers_are_a_power():
    # Three equal layers stay equal: theta = u^3, M = 3 theta^(4/3), a third of that of the power w^3.
    signal = ddln.Signal([0.0, 1.0], [0.0, 0.0], [0.8, 0.2])
    layers, power = (
        ddln.state_evolution(start, signal, 0.4, 0.1)
        for start in (ddln.DeepDiagonal(jnp.full((3, 1), 0.8)), ddln.Power(jnp.full(1, 0.8), 3))
    )
    # Two curves, each with the error of its quadrature.
    np.testing.assert_allclose(layers.mse, power.mse, rtol=1e-9)
    np.testing.assert_allclose(layers.l1, power.l1, rtol=1e-9)
    np.testing.assert_allclose(3 * layers.effective_penalty, power.effective_penalty, rtol=1e-9)


def test_a_code_where_the_sign_cannot_be_reached(found):
    missing = found.result == ddln.RESULTS.no_fixed_point
    np.testing.assert_array_equal(missing, [False, False, False, True])
    assert np.isnan(found.mse[3])


def test_four_vectors_and_pairs_are_two_layers():
    # The gap of `FourVector.zero` is 4 scale^2, and the squares of p and q of both pairs add up to one: two
    # layers (1, 0), ten digits of which are known.
    both = ddln.Sum(ddln.FourVector.zero(1, 0.3), ddln.DeepDiagonal([[0.0], [0.8]]))
    found = ddln.state_evolution(both, ddln.Signal.sparse(0.1), 0.1)
    np.testing.assert_allclose(found.mse, 0.8795725772, atol=1e-10)


def test_signals_that_depend_on_the_start_are_drawn_with_it():
    signal = ddln.Signal([[1.0, 5.0], [2.0, 5.0]], [[0.0, 0.0]] * 2, [[0.25, 1.0], [0.75, 0.0]])
    starts = jnp.arange(2000) % 2
    drawn = np.asarray(signal.draw(jax.random.key(0), 2000, starts))
    assert np.all(drawn[1::2] == 5)
    # Four standard errors.
    np.testing.assert_allclose(drawn[::2].mean(), 1.75, atol=4 * (0.1875 / 1000) ** 0.5)
    np.testing.assert_allclose(signal.energy, [3.25, 25])
    with pytest.raises(ValueError, match="`starts` must be given"):
        signal.draw(jax.random.key(0), 4)
