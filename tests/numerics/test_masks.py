import jax.numpy as jnp
import numpy as np

from ddln._numerics import all_finite, expand_mask, where_rows

MASK = jnp.array([True, False, True])
ROWS = {"a": jnp.arange(3.0), "b": jnp.arange(12.0).reshape(3, 2, 2)}


def test_expanded_masks():
    assert expand_mask(MASK, 1).shape == (3,)
    assert expand_mask(MASK, 3).shape == (3, 1, 1)
    assert expand_mask(jnp.ones((2, 3), bool), 4).shape == (2, 3, 1, 1)


def test_rows_of_a_tree_with_those_of_another():
    old = {"a": -jnp.ones(3), "b": -jnp.ones((1, 2, 2))}
    found = where_rows(MASK, ROWS, old)
    np.testing.assert_array_equal(found["a"], [0, -1, 2])
    np.testing.assert_array_equal(found["b"][1], -np.ones((2, 2)))
    np.testing.assert_array_equal(found["b"][::2], ROWS["b"][::2])


def test_rows_of_a_tree_with_a_number():
    found = where_rows(MASK, ROWS, np.nan)
    np.testing.assert_array_equal(found["a"], [0, np.nan, 2])
    assert np.isnan(found["b"][1]).all()
    assert np.isfinite(found["b"][::2]).all()


def test_two_leading_axes():
    found = where_rows(jnp.array([[True], [False]]), jnp.ones((2, 1, 3)), 0)
    np.testing.assert_array_equal(found, [[[1, 1, 1]], [[0, 0, 0]]])


def test_one_entry_that_is_not_finite_is_found():
    assert all_finite(ROWS)
    for bad in (np.nan, np.inf):
        assert not all_finite({**ROWS, "b": ROWS["b"].at[2, 1, 0].set(bad)})
