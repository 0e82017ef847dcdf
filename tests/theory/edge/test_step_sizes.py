"""Thresholds of the step size against roots of the recursions, a closed form, and iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory

BETA = 0.6


def one(target):
    return ddln.LeastSquares(np.ones((1, 1)), target)


def test_minima_lose_their_stability_where_a_root_passes_minus_one():
    """theta = u v w = 4 at (1, 4, 1): the Hessian has the eigenvalue 16 + 1 + 16, and zeros."""
    minimum, loss = ddln.DeepDiagonal([[1.0], [4.0], [1.0]]), one(np.array([4.0]))
    settings = ((0.0, False), (BETA, False), (BETA, True))

    @jax.jit
    def run(minimum):
        return [
            theory.stable_step_size(minimum, loss, momentum=beta, nesterov=nesterov)
            for beta, nesterov in settings
        ]

    found = run(minimum)
    np.testing.assert_allclose(found[0], 2 / 33, rtol=1e-13)
    for eta, nesterov in zip(found[1:], (False, True), strict=True):
        shrink = 1 - 33 * float(eta)
        # w_{k+1} = linear w_k - constant w_{k-1}.
        linear, constant = BETA + shrink, BETA
        if nesterov:
            linear, constant = (1 + BETA) * shrink, BETA * shrink
        roots = np.roots([1, -linear, constant])
        np.testing.assert_allclose(np.abs(roots + 1).min(), 0, atol=1e-12)
    # No curvature at all.
    assert np.isinf(run(ddln.DeepDiagonal(jnp.zeros((3, 1))))[0])
    with pytest.raises(ValueError, match=r"`momentum` must be in \[0, 1\)"):
        theory.stable_step_size(minimum, loss, momentum=1.0)


def test_the_orbit_of_one_coordinate_and_its_threshold_with_derivatives():
    """u = v, target y: the orbit doubles its period at eta = (sqrt(5) - 1) / y.

    The points have eta theta = 1 + eta y - r and 1 + eta y - 1 / r, where r + 1 / r = 1 + eta y.
    """

    def values(parameters):
        eta, target = parameters
        network, loss = ddln.DeepDiagonal([[1.2], [1.2]]), one(target[None])
        orbit = theory.period_two_orbit(network, loss, eta)
        doubled = theory.period_doubling(network, loss, eta + 0.05)
        return jnp.concatenate([jnp.sort(orbit.theta[:, 0]), doubled.step_size[None]])

    point = np.array([1.15, 1.0])
    found, forward, reverse = jax.jit(
        lambda p: (values(p), jax.jacfwd(values)(p), jax.jacrev(values)(p))
    )(point)

    def exact(eta, target):
        r = (1 + eta * target + np.sqrt((1 + eta * target) ** 2 - 4)) / 2
        thetas = np.sort([(1 + eta * target - r) / eta, (1 + eta * target - 1 / r) / eta])
        return np.array([*thetas, (np.sqrt(5) - 1) / target])

    np.testing.assert_allclose(found, exact(*point), rtol=1e-12)
    h = 1e-6
    for column, move in enumerate(np.eye(2) * h):
        slope = (exact(*(point + move)) - exact(*(point - move))) / (2 * h)
        np.testing.assert_allclose(forward[:, column], slope, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(forward, reverse, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="`period_two_orbit` has derivatives of first order only"):
        jax.hessian(values)(point)


def test_periods_of_a_network_beside_the_threshold():
    """d = 2, three layers: descent has the period two below the threshold, and four above."""
    X = np.array([[1.0, 0.4], [0.2, 0.9]])
    y = X @ np.array([1.0, 0.7])
    loss = ddln.LeastSquares(X, y)

    def descend(eta, layers, steps):
        path = []
        for _ in range(steps):
            g = X.T @ (X @ np.prod(layers, axis=0) - y)
            others = np.stack([np.prod(np.delete(layers, j, axis=0), axis=0) for j in range(3)])
            layers = layers - eta * g * others
            path.append(layers)
        return np.array(path)

    minimum = ddln.DeepDiagonal.balanced(jnp.array([1.0, 0.7]), 3)
    edge = float(theory.stable_step_size(minimum, loss))
    start = descend(1.12 * edge, np.asarray(minimum.layers) + 0.01, 2000)[-1]
    doubled = theory.period_doubling(ddln.DeepDiagonal(start), loss, 1.12 * edge)
    assert doubled.result == ddln.RESULTS.successful
    np.testing.assert_allclose(np.abs(np.asarray(doubled.multipliers) + 1).min(), 0, atol=1e-11)
    threshold = float(doubled.step_size)
    assert edge < threshold < 1.5 * edge
    near = np.asarray(doubled.points.layers)[0] + 1e-3
    for factor, period in ((0.99, 2), (1.01, 4)):
        path = descend(factor * threshold, near, 3000)[-5:]
        moved = [np.abs(path[-1] - path[-1 - lag]).max() for lag in (2, 4)]
        assert moved[1] < 1e-9
        assert (moved[0] < 1e-9) == (period == 2)
    # A start that is no orbit, at a step size that diverges.
    none = theory.period_doubling(ddln.DeepDiagonal(100.0 * start), loss, 100.0, max_steps=3)
    assert none.result == ddln.RESULTS.no_orbit
