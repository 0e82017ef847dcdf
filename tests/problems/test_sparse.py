"""Random sparse problems: their distribution in bulk, and mapping over keys."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from ddln import Logistic
from ddln.problems import sparse_classification, sparse_regression

KEYS = jax.random.split(jax.random.key(0), 4000)
RHO, N, D, SPARSITY, NOISE = 0.7, 5, 6, 2, 0.3


def regression(key, noise, rho, normalize=False):
    return sparse_regression(
        key, N, D, sparsity=SPARSITY, noise=noise, correlation=rho, normalize=normalize
    )


# One compilation for all lanes; noise and correlation are traced and mapped with the key.
regressions = jax.jit(jax.vmap(regression))
# One problem, with and without normalization.
single = jax.jit(lambda *args: (regression(*args), regression(*args, normalize=True)))


@jax.jit
@partial(jax.vmap, in_axes=(0, None))
def classifications(key, flip):
    return sparse_classification(key, N, D, sparsity=SPARSITY, flip=flip, correlation=RHO)


@pytest.fixture(scope="module")
def bulk():
    return regressions(KEYS, np.full(len(KEYS), NOISE), np.full(len(KEYS), RHO))


def normal_p_value(sample) -> float:
    return scipy.stats.kstest(np.ravel(sample), "norm").pvalue


def test_columns_have_toeplitz_correlation(bulk):
    rows = np.asarray(bulk.X).reshape(-1, D)
    expected = scipy.linalg.toeplitz(RHO ** np.arange(D))
    # The standard error of an entry of the covariance is at most sqrt(2 / rows).
    assert np.abs(rows.T @ rows / len(rows) - expected).max() < 5 * np.sqrt(2 / len(rows))
    # White noise after the Cholesky factor of the covariance: the joint law is normal too.
    white = scipy.linalg.solve_triangular(np.linalg.cholesky(expected), rows.T, lower=True)
    assert normal_p_value(white) > 1e-3
    assert normal_p_value(1.05 * white) < 1e-3


def test_rows_are_independent(bulk):
    X = np.asarray(bulk.X)
    covariance = np.einsum("bi,bj->ij", X[:, 0], X[:, 1]) / len(X)
    assert np.abs(covariance).max() < 5 / np.sqrt(len(X))


def test_support_signs_and_sizes(bulk):
    theta = np.asarray(bulk.theta_true)
    support = theta != 0
    np.testing.assert_array_equal(support.sum(axis=1), SPARSITY)
    probability = SPARSITY / D
    error = np.sqrt(probability * (1 - probability) / len(theta))
    np.testing.assert_allclose(support.mean(axis=0), probability, atol=5 * error)
    entries = theta[support]
    assert abs((entries > 0).mean() - 0.5) < 5 * 0.5 / np.sqrt(entries.size)
    assert scipy.stats.kstest(np.abs(entries), "uniform", args=(0.5, 1)).pvalue > 1e-3


def test_noise(bulk):
    noise = np.asarray(bulk.y) - np.einsum("bij,bj->bi", bulk.X, bulk.theta_true)
    assert normal_p_value(noise / NOISE) > 1e-3


def test_mapped_problem_is_the_problem_of_each_key(bulk):
    assert bulk.feature_names == ("x0", "x1", "x2", "x3", "x4", "x5")
    for index in range(3):
        one, _ = single(KEYS[index], NOISE, RHO)
        for mapped, alone in zip(jax.tree.leaves(bulk), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(mapped[index], alone, rtol=1e-12, atol=1e-14)


def test_noise_and_correlation_may_be_mapped():
    noise, rho = np.zeros((2, len(KEYS)))
    noise[1:3] = 1, 2
    rho[2] = -0.9
    problems = regressions(jnp.broadcast_to(KEYS[0], KEYS.shape), noise, rho)
    added = np.asarray(problems.y) - np.einsum("bij,bj->bi", problems.X, problems.theta_true)
    np.testing.assert_allclose(added, noise[:, None] * added[1], atol=1e-14)
    np.testing.assert_array_equal(problems.X[0], problems.X[1])
    np.testing.assert_array_equal(problems.X[2][:, 0], problems.X[0][:, 0])
    assert abs(problems.X[2] - problems.X[0])[:, 1].min() > 1e-3


def test_normalize_divides_by_the_root_of_n():
    plain, scaled = single(KEYS[0], 0.0, -0.4)
    np.testing.assert_allclose(scaled.X * N**0.5, plain.X, rtol=1e-14)
    np.testing.assert_array_equal(scaled.theta_true, plain.theta_true)
    np.testing.assert_allclose(scaled.y * N**0.5, plain.y, rtol=1e-12)


def test_key_decides_everything():
    one, again, other = (single(KEYS[index], NOISE, RHO)[0] for index in (1, 1, 2))
    assert jax.tree.all(jax.tree.map(np.array_equal, one, again))
    assert not np.array_equal(one.X, other.X)


@pytest.mark.parametrize("dtype", [jnp.float32, "float64", None])
def test_dtype_and_shapes(dtype):
    def both(key):
        return (
            sparse_regression(key, 4, 1, sparsity=1, noise=0.1, correlation=0.5, dtype=dtype),
            sparse_classification(key, 4, 1, sparsity=1, flip=0.1, dtype=dtype),
        )

    problems = jax.eval_shape(jax.vmap(both), KEYS)
    for problem in problems:
        for leaf, shape in zip(jax.tree.leaves(problem), [(4, 1), (4,), (1,)], strict=True):
            assert leaf.dtype == jnp.dtype("float64" if dtype is None else dtype)
            assert leaf.shape == (len(KEYS), *shape)


def test_classes_are_separated_until_labels_are_flipped():
    clean, noisy = classifications(KEYS, 0.0), classifications(KEYS, 0.2)
    margin = np.asarray(clean.y) * np.einsum("bij,bj->bi", clean.X, clean.theta_true)
    assert (margin > 0).all()
    assert jnp.all(jnp.abs(clean.y) == 1)
    # X theta_true is symmetric, and rows are independent given theta_true.
    assert abs(clean.y.mean()) < 5 / np.sqrt(clean.y.size)
    np.testing.assert_array_equal(noisy.X, clean.X)
    rate = float(jnp.mean(noisy.y == -clean.y))
    assert abs(rate - 0.2) < 5 * np.sqrt(0.2 * 0.8 / margin.size)
    np.testing.assert_array_equal(classifications(KEYS, 1.0).y, -clean.y)
    assert Logistic(clean.X[0], clean.y[0]).y.shape == (N,)


@pytest.mark.parametrize(
    ("generate", "arguments", "message"),
    [
        (sparse_regression, {"n": 0}, "`n` and `d` must be at least 1, but they are 0 and 3"),
        (sparse_regression, {"sparsity": 4}, "`sparsity` must be from 0 to d = 3, but it is 4"),
        (sparse_regression, {"sparsity": -1}, "`sparsity` must be from 0 to d = 3, but it is -1"),
        (sparse_regression, {"noise": -0.1}, "`noise` must be finite and at least 0"),
        (sparse_regression, {"noise": float("inf")}, "`noise` must be finite and at least 0"),
        (sparse_regression, {"correlation": 1.0}, "`correlation` must be above -1 and below 1"),
        (sparse_regression, {"correlation": float("nan")}, "`correlation` must be above -1"),
        (sparse_regression, {"dtype": int}, "`dtype` must be a floating dtype, but it is int64"),
        (sparse_classification, {"sparsity": 0}, "`sparsity` must be at least 1"),
        (sparse_classification, {"flip": 1.5}, "`flip` must be a probability, but it is 1.5"),
        (sparse_classification, {"d": 0}, "`n` and `d` must be at least 1"),
    ],
)
def test_errors(generate, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(KEYS[0], **{"n": 2, "d": 3, "sparsity": 1} | arguments)


@pytest.fixture
def without_float64():
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.usefixtures("without_float64")
def test_float64_must_be_switched_on():
    with pytest.raises(ValueError, match=r"switched on, but it is float64.*jax_enable_x64"):
        sparse_regression(jax.random.PRNGKey(0), 2, 3, sparsity=1, dtype="float64")
