import jax.numpy as jnp
import numpy as np
import pytest

from ddln._numerics import RowSpace, above_rounding

RNG = np.random.default_rng(0)
SHAPES = [(3, 5, 3), (5, 3, 3), (6, 7, 2), (4, 4, 1)]


@pytest.mark.parametrize(("n", "d", "rank"), SHAPES)
def test_projection_is_that_of_the_pseudo_inverse(n, d, rank):
    matrix = RNG.normal(size=(n, rank)) @ RNG.normal(size=(rank, d))
    vectors = RNG.normal(size=(2, d))
    space = RowSpace.of(jnp.asarray(matrix))
    assert np.sum(space.singular > 0) == rank
    np.testing.assert_allclose(
        space.left * space.singular[None] @ space.right, matrix, atol=1e-14 * n * d
    )
    projection = np.linalg.pinv(matrix, rcond=1e-10) @ matrix
    for found in (
        space.project(jnp.asarray(vectors)),
        space.project(jnp.asarray(vectors[0]))[None],
    ):
        expected = vectors[: len(found)] @ projection
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_nothing_of_a_zero_matrix_counts():
    space = RowSpace.of(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(space.singular, 0)
    np.testing.assert_array_equal(space.project(jnp.ones(3)), 0)


def test_the_cutoff_follows_dtype_and_shape():
    singular = jnp.array([1.0, 1e-15], jnp.float64)
    np.testing.assert_array_equal(above_rounding(singular, (2, 2)), [True, True])
    np.testing.assert_array_equal(above_rounding(singular, (100, 2)), [True, False])
    np.testing.assert_array_equal(
        above_rounding(singular.astype(jnp.float32), (2, 2)), [True, False]
    )
