import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_triangular

from ddln.solvers._triangular import lower_inverse


@pytest.mark.parametrize("m", [1, 2, 3, 8, 21])
def test_against_scipy(m):
    rng = np.random.default_rng(m)
    factors = np.tril(rng.normal(size=(5, m, m))) + 3 * np.eye(m)
    inverses = jax.vmap(lower_inverse)(jnp.asarray(factors))
    for factor, inverse in zip(factors, inverses, strict=True):
        expected = solve_triangular(factor, np.eye(m), lower=True)
        np.testing.assert_allclose(inverse, expected, rtol=1e-10, atol=1e-13)


def test_rows_of_different_size_keep_their_accuracy():
    factor = np.tril(np.random.default_rng(0).normal(size=(6, 6))) + 3 * np.eye(6)
    scaled = np.diag(10.0 ** np.arange(-6, 6, 2)) @ factor
    product = np.asarray(lower_inverse(jnp.asarray(scaled))) @ scaled
    np.testing.assert_allclose(product, np.eye(6), atol=1e-10)
