import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln._numerics import product

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((3, 4), (4,)), ((3,), (3, 4)), ((2, 3), (3, 4))])
def test_a_product_is_the_matrix_product_at_full_precision(shapes):
    left, right = (jnp.asarray(RNG.normal(size=shape)) for shape in shapes)
    np.testing.assert_allclose(product(left, right), np.asarray(left) @ np.asarray(right))
    (equation,) = jax.make_jaxpr(product)(left, right).eqns
    assert equation.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2


def test_more_axes_are_kept():
    left, right = jnp.asarray(RNG.normal(size=(2, 3, 4))), jnp.asarray(RNG.normal(size=(4, 5, 6)))
    np.testing.assert_allclose(product(left, right), np.tensordot(left, right, 1))


def test_dtypes_promote_where_jax_lets_them():
    left, right = jnp.ones(3, jnp.float32), jnp.ones(3, jnp.float64)
    with jax.numpy_dtype_promotion("standard"):
        assert product(left, right).dtype == jnp.float64
    with pytest.raises(Exception, match="promotion"):
        product(left, right)
