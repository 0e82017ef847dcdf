"""Orbits of period two against a closed form, iteration in mpmath, and the recursion of the gaps."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import ddln
from ddln import theory

ONE = ddln.LeastSquares(np.ones((1, 1)), np.ones(1))
RATES = np.linspace(1.05, 1.45, 9)


def test_orbits_of_one_coordinate():
    """theta = u v, L = (theta - 1)^2 / 2 and u = v: u -> u (1 + eta - eta u^2).

    The ratio r of the points of an orbit solves r + 1 / r = 1 + eta, eta a^2 = 1 + eta - r, and the
    multiplier is 9 - 2 (1 + eta)^2: the orbit starts at eta = 1 = 2 / sharpness, and doubles its period at
    eta = sqrt(5) - 1.
    """

    @jax.jit
    @jax.vmap
    def run(eta, start):
        return theory.period_two_orbit(ddln.DeepDiagonal([start[:1], start[1:]]), ONE, eta)

    r = (1 + RATES + np.sqrt((1 + RATES) ** 2 - 4)) / 2
    exact = np.stack(
        [np.sqrt((1 + RATES - r) / RATES), np.sqrt((1 + RATES - 1 / r) / RATES)], axis=1
    )
    start = np.broadcast_to(exact[:, :1] * 1.02, (len(RATES), 2))
    orbit = run(RATES, start)
    assert (orbit.result == ddln.RESULTS.successful).all()
    layers = np.asarray(orbit.points.layers)
    for layer in (0, 1):
        # To rounding, divided by the distance 4 (eta - 1) from the branching.
        np.testing.assert_allclose(np.sort(layers[:, :, layer, 0], axis=1), exact, atol=1e-13)
    np.testing.assert_allclose(orbit.theta, layers[:, :, 0] ** 2, rtol=1e-13)
    np.testing.assert_allclose(
        orbit.loss, (orbit.theta[..., 0] - 1) ** 2 / 2, rtol=1e-11, atol=1e-15
    )
    for lane, eta in enumerate(RATES):
        one = jax.tree.map(lambda leaf, lane=lane: leaf[lane], orbit)
        g = layers[lane, :, 0, 0] ** 2 - 1
        along, gap = 9 - 2 * (1 + eta) ** 2, np.prod(1 - eta**2 * g**2)
        expected = sorted([along, gap], key=abs, reverse=True)
        np.testing.assert_allclose(one.multipliers, expected, rtol=1e-10)
    doubled = np.asarray(
        [np.abs(jax.tree.map(lambda x, i=i: x[i], orbit).multipliers[0]) > 1 for i in range(9)]
    )
    np.testing.assert_array_equal(doubled, np.sqrt(5) - 1 < RATES)
    # Below the branching there is the minimum alone; the nearest solution is reported as none.
    none = run(np.full(9, 0.9), start)
    assert (none.result == ddln.RESULTS.no_orbit).all()


def test_an_orbit_of_a_network_and_the_decay_of_its_gaps():
    """d = 2, n = 3, two layers: descent ends on the orbit, whose steps are repeated in 40 digits."""
    X = np.random.default_rng(3).normal(size=(3, 2))
    y = X @ np.array([1.0, 0.8])
    loss = ddln.LeastSquares(X, y)
    minimum = ddln.DeepDiagonal.balanced(jnp.asarray([1.0, 0.8]), 2)
    jacobian = np.concatenate([X, X], axis=1) * np.sqrt([1.0, 0.8, 1.0, 0.8])
    eta = 2.1 / np.linalg.eigvalsh(jacobian.T @ jacobian)[-1]
    u, v = np.asarray(minimum.layers) + np.array([[0.1, 0.05], [0.0, 0.0]])
    gaps, rates = [], []
    for _ in range(4000):
        g = X.T @ (X @ (u * v) - y)
        gaps.append(u**2 - v**2)
        rates.append(1 - eta**2 * g**2)
        u, v = u - eta * g * v, v - eta * g * u
    orbit = theory.period_two_orbit(ddln.DeepDiagonal([u, v]), loss, eta)
    assert orbit.result == ddln.RESULTS.successful
    assert orbit.residual < 1e-12
    # Of the four multipliers two are those of the gaps.
    g = (np.asarray(orbit.theta) @ X.T - y) @ X
    np.testing.assert_allclose(orbit.gap_factors[:, 0], 1 - eta**2 * g**2, rtol=1e-12)
    decay = np.prod(1 - eta**2 * g**2, axis=0)
    multipliers = np.asarray(orbit.multipliers)
    distance = np.abs(multipliers[:, None] - decay)
    assert (distance.min(axis=0) < 1e-11).all()
    assert np.abs(multipliers).max() < 1
    # So fall the gaps of the descent, two steps a time, once it is near.
    np.testing.assert_allclose(np.prod(rates[-2:], axis=0), decay, rtol=1e-9)
    np.testing.assert_allclose(gaps[102] / gaps[100], np.prod(rates[100:102], axis=0), rtol=1e-9)
    with mpmath.workdps(40):
        a = [[mpmath.mpf(float(x)) for x in row] for row in np.asarray(orbit.points.layers)[0]]
        design = [[mpmath.mpf(float(x)) for x in row] for row in X]
        b = a
        for _ in range(2):
            theta = [p * q for p, q in zip(*b, strict=True)]
            rest = [
                mpmath.fdot(row, theta) - mpmath.mpf(float(t))
                for row, t in zip(design, y, strict=True)
            ]
            g = [mpmath.fdot([row[i] for row in design], rest) for i in range(2)]
            b = [
                [p - mpmath.mpf(eta) * s * q for p, q, s in zip(b[0], b[1], g, strict=True)],
                [q - mpmath.mpf(eta) * s * p for p, q, s in zip(b[0], b[1], g, strict=True)],
            ]
        moved = max(
            abs(p - q) for old, new in zip(a, b, strict=True) for p, q in zip(old, new, strict=True)
        )
    assert moved < 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_size": -1.0}, "`step_size` must be finite and positive"),
        ({"step_size": 1.0, "max_steps": 0}, "`max_steps` must be at least 1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        theory.period_two_orbit(ddln.DeepDiagonal(jnp.ones((2, 1))), ONE, **settings)
