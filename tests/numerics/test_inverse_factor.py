import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from ddln._numerics import inverse_factor, tracing_for


def definite(m, lanes=5):
    factor = np.random.default_rng(m).normal(size=(lanes, m, 2 * m))
    return np.eye(m) + factor @ factor.transpose(0, 2, 1)


@pytest.mark.parametrize(
    ("m", "platform"),
    [*((m, "cpu") for m in (1, 2, 8, 21, 70, 300)), (1, "gpu"), (7, "gpu"), (21, "gpu")],
)
def test_against_scipy(m, platform):
    matrices = definite(m)
    with tracing_for(platform):
        inverses = jax.vmap(inverse_factor)(jnp.asarray(matrices))
    for matrix, inverse in zip(matrices, inverses, strict=True):
        factor = scipy.linalg.cholesky(matrix, lower=True)
        expected = scipy.linalg.solve_triangular(factor, np.eye(m), lower=True)
        np.testing.assert_allclose(inverse, expected, rtol=1e-9, atol=1e-13)


def test_rows_of_different_size_keep_their_accuracy():
    size = 10.0 ** np.linspace(-6, 6, 40)
    matrix = definite(40, lanes=1)[0] * np.outer(size, size)
    inverse = np.asarray(inverse_factor(jnp.asarray(matrix)))
    np.testing.assert_allclose(inverse @ matrix @ inverse.T, np.eye(40), atol=1e-10)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_an_indefinite_matrix_has_no_finite_factor(platform):
    indefinite = definite(40)
    indefinite[1, 30, 30] = -1e3
    indefinite[2, 0, 0] = 0.0
    indefinite[3, 5, 4] = indefinite[3, 4, 5] = np.nan
    with tracing_for(platform):
        inverses = jax.vmap(inverse_factor)(jnp.asarray(indefinite))
    finite = np.isfinite(inverses).all((1, 2))
    np.testing.assert_array_equal(finite, [True, False, False, False, True])
