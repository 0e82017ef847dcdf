import jax
import jax.numpy as jnp
import numpy as np

import ddln
from ddln._numerics import as_function, pull_back

RNG = np.random.default_rng(0)
PRODUCT = ddln.MatrixFactorization(RNG.normal(size=(3, 2)), RNG.normal(size=(4, 2)))
DIRECTION = jnp.asarray(RNG.normal(size=(3, 4)))


def test_against_the_closed_form():
    # <G, U V^T> has the derivatives G V and G^T U.
    found = pull_back(PRODUCT, DIRECTION)
    np.testing.assert_allclose(found.left, np.asarray(DIRECTION) @ np.asarray(PRODUCT.right))
    np.testing.assert_allclose(found.right, np.asarray(DIRECTION).T @ np.asarray(PRODUCT.left))


def test_the_function_has_the_value_of_the_parameterization():
    effective, weights = as_function(PRODUCT)
    np.testing.assert_array_equal(effective(weights), PRODUCT.effective())
    doubled = jax.tree.map(lambda leaf: 2 * leaf, weights)
    np.testing.assert_allclose(effective(doubled), 4 * PRODUCT.effective())
