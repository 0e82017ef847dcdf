"""Measures of bias on vectors whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln import DeepDiagonal, Identity
from ddln.limits import (
    effective_sparsity,
    excess_l1,
    regime_exponent,
    relative_distance,
    richness,
)

# The line theta_1 + 2 theta_2 = 2: smallest l1 norm at (0, 1), smallest l2 norm at (0.4, 0.8).
X, Y = np.array([[1.0, 2.0]]), np.array([2.0])
RICH, KERNEL = np.array([0.0, 1.0]), np.array([0.4, 0.8])


def test_effective_sparsity():
    rows = jnp.array([[3.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0] * 4])
    np.testing.assert_allclose(effective_sparsity(rows), [1.0, 3.0, 4.0, 0.0])


def test_excess_l1():
    np.testing.assert_allclose(excess_l1(np.stack([RICH, KERNEL]), X, Y), [0.0, 0.2], atol=1e-12)
    with pytest.raises(ValueError, match="`y` must have a part"):
        excess_l1(RICH, X, np.zeros(1))


def test_richness():
    middle = 0.5 * (RICH + KERNEL)
    values = richness(np.stack([KERNEL, middle, RICH, np.array([2.0, 0.0])]), X, Y)
    np.testing.assert_allclose(values, [0.0, 0.5, 1.0, -4.0], atol=1e-9)
    with pytest.raises(ValueError, match="they are the same"):
        richness(RICH, np.eye(2), np.ones(2))


def test_relative_distance():
    rows = np.stack([RICH, KERNEL])
    np.testing.assert_allclose(relative_distance(rows, RICH), [0, np.sqrt(0.2)], rtol=1e-12)


def test_regime_exponent_of_two_layers_is_that_of_the_hyperbolic_entropy():
    theta = jnp.array([0.3, -2.0, 0.0])
    scales = jnp.array([1e-6, 0.1, 1.0, 1e3])

    def exponent(scale):
        return regime_exponent(DeepDiagonal.zero_last(scale * jnp.ones(3), 2), theta)

    exponents = jax.vmap(exponent)(scales)
    z = 2 * np.asarray(theta)[None] / np.asarray(scales)[:, None] ** 2
    q = z * np.arcsinh(z) - np.sqrt(1 + z**2) + 1
    # Differences of numbers near 1 lose eight digits at z = 1e-6.
    expected = np.sum(z * np.arcsinh(z), axis=1) / q.sum(axis=1)
    np.testing.assert_allclose(exponents[:3], expected[:3], rtol=1e-12)
    np.testing.assert_allclose(exponents[3], 2, rtol=1e-10)
    assert np.all(np.diff(exponents) > 0)
    assert 1 < exponents[0] < 1.05


def test_regime_exponent_at_the_start():
    assert regime_exponent(Identity(jnp.ones(2)), jnp.ones(2)) == 2
    assert regime_exponent(Identity(jnp.ones(2)), jnp.array([3.0, 1.0])) == 2
