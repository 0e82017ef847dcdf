"""Covariances of stochastic gradients against an enumeration of all mini-batches."""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3))
Y = RNG.normal(size=4)
LABELS = np.array([1.0, -1.0, 1.0, 1.0])
THETA = jnp.asarray(RNG.normal(size=3))


def factor(noise, loss, theta):
    """The matrix S of C^(1/2) dB = S dB."""
    units = jnp.eye(noise.channels(loss))
    columns = jax.vmap(lambda e: noise.increment(loss, theta, e))(units)
    return np.asarray(columns).reshape(units.shape[0], -1).T


def sample_gradients(loss) -> np.ndarray:
    """scale l'(<x_k, theta>, y_k) x_k, written out."""
    prediction = X @ np.asarray(THETA)
    if isinstance(loss, ddln.LeastSquares):
        slopes = 2 * loss.scale * (prediction - Y)
    else:
        slopes = -loss.scale * LABELS / (1 + np.exp(LABELS * prediction))
    return slopes[:, None] * X


@pytest.mark.parametrize(
    ("size", "replacement"), [(1, True), (2, True), (1, False), (3, False), (4, False)]
)
@pytest.mark.parametrize(
    "loss",
    [ddln.LeastSquares(X, Y, scale=0.3), ddln.Logistic(X, LABELS)],
    ids=["squares", "logistic"],
)
def test_sample_noise_is_the_covariance_of_mini_batches(loss, size, replacement):
    gradients = sample_gradients(loss)
    batches = product(range(4), repeat=size) if replacement else combinations(range(4), size)
    drawn = np.array([4 / size * gradients[np.array(batch)].sum(axis=0) for batch in batches])
    np.testing.assert_allclose(drawn.mean(axis=0), loss.gradient(THETA), atol=1e-13)
    expected = np.cov(drawn.T, bias=True)
    noise = ddln.SampleNoise(size, replacement)
    root = factor(noise, loss, THETA)
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-13)
    np.testing.assert_allclose(noise.variance(loss, THETA), np.diag(expected), atol=1e-13)


def test_label_noise_is_the_covariance_under_noisy_labels():
    loss, noise = ddln.LeastSquares(X, Y, scale=0.3), ddln.LabelNoise(0.7)
    exact = loss.gradient(THETA)
    # The gradient is affine in the labels.
    moved = [
        ddln.LeastSquares(X, Y + 0.7 * e, scale=0.3).gradient(THETA) - exact for e in np.eye(4)
    ]
    expected = np.array(moved).T @ np.array(moved)
    root = factor(noise, loss, THETA)
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-13)
    np.testing.assert_allclose(noise.variance(loss, THETA), np.diag(expected), atol=1e-13)


def test_isotropic_noise_is_sample_noise_with_equal_residuals():
    # Residuals 1, -1, 1, -1 times orthogonal columns: the mean gradient vanishes.
    design = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, -1.0], [3.0, -1.0]])
    targets = design @ THETA[:2] - np.array([1.0, -1.0, 1.0, -1.0])
    loss = ddln.LeastSquares(design, targets, scale=0.3)
    model, exact = ddln.IsotropicNoise(), ddln.SampleNoise()
    root, expected = factor(model, loss, THETA[:2]), factor(exact, loss, THETA[:2])
    np.testing.assert_allclose(root @ root.T, expected @ expected.T, atol=1e-13)
    np.testing.assert_allclose(root @ root.T, 4 * 0.3**2 * 4 * design.T @ design, atol=1e-13)
    np.testing.assert_allclose(
        model.variance(loss, THETA[:2]), exact.variance(loss, THETA[:2]), atol=1e-13
    )


def test_noise_of_a_matrix_theta():
    measurements = RNG.normal(size=(4, 2, 3))
    theta = jnp.asarray(RNG.normal(size=(2, 3)))
    matrix = ddln.LeastSquares(measurements, Y)
    flat = ddln.LeastSquares(measurements.reshape(4, 6), Y)
    for noise in (ddln.SampleNoise(), ddln.IsotropicNoise(), ddln.LabelNoise(0.2)):
        np.testing.assert_allclose(
            factor(noise, matrix, theta), factor(noise, flat, theta.reshape(-1)), atol=1e-14
        )
        assert noise.variance(matrix, theta).shape == (2, 3)


def test_a_fitted_sample_makes_no_noise_and_no_nan():
    loss = ddln.LeastSquares(X, X @ THETA)
    model = ddln.IsotropicNoise()
    np.testing.assert_array_equal(factor(model, loss, THETA), 0)
    slope = jax.grad(lambda t: jnp.sum(model.increment(loss, t, jnp.ones(4))))(THETA)
    assert np.isfinite(slope).all()


def test_bad_arguments_are_named():
    squares, logistic = ddln.LeastSquares(X, Y), ddln.Logistic(X, LABELS)
    with pytest.raises(ValueError, match=r"`batch_size` must be at least 1, but it is 0"):
        ddln.SampleNoise(0)
    with pytest.raises(ValueError, match=r"at most the number of samples 4 .* but it is 5"):
        ddln.SampleNoise(5, replacement=False).check(squares)
    with pytest.raises(ValueError, match=r"`std`"):
        ddln.LabelNoise(-1.0)
    for noise in (ddln.IsotropicNoise(), ddln.LabelNoise(1.0)):
        with pytest.raises(ValueError, match=r"`loss` must be a `ddln.LeastSquares`"):
            noise.check(logistic)
