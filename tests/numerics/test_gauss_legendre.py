"""Tests of `ddln._numerics._quadrature`."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddln._numerics import gauss_legendre


@pytest.mark.parametrize("count", [1, 6, 12])
def test_polynomials_of_degree_twice_the_count_less_one_are_exact(count):
    nodes, weights = gauss_legendre(count, jnp.float64)
    powers = np.arange(2 * count)
    np.testing.assert_allclose(weights @ nodes[:, None] ** powers, 1 / (powers + 1), rtol=1e-14)
    beyond = weights @ nodes ** (2 * count)
    assert abs(beyond * (2 * count + 1) - 1) > 1e-13


def test_symmetry_and_dtype():
    nodes, weights = gauss_legendre(10, jnp.float64)
    np.testing.assert_array_equal(weights, weights[::-1])
    on_symmetric_interval, _ = np.polynomial.legendre.leggauss(10)
    np.testing.assert_array_equal(nodes[::-1], 0.5 * (1 - on_symmetric_interval))
    assert all(array.dtype == jnp.float32 for array in gauss_legendre(4, jnp.float32))
