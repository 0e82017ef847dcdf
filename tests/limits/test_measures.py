"""Measures of bias on vectors whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddln.limits import effective_sparsity, excess_l1, richness

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
