import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)


def problem(n, d, rank=None):
    X = RNG.normal(size=(n, d))
    if rank is not None:
        X = X[:, :rank] @ RNG.normal(size=(rank, d))
    return X, RNG.normal(size=n)


@pytest.mark.parametrize(("n", "d", "rank"), [(4, 7, None), (5, 5, None), (9, 4, None), (9, 6, 3)])
def test_minimum_minimizer_and_pl_constant(n, d, rank):
    X, y = problem(n, d, rank)
    loss = ddln.LeastSquares(X, y, scale=0.7)
    expected = np.linalg.pinv(X, rcond=1e-10) @ y
    np.testing.assert_allclose(loss.minimizer, expected, atol=1e-10)
    np.testing.assert_allclose(loss.minimum, 0.7 * np.sum((X @ expected - y) ** 2), atol=1e-12)
    singular = np.linalg.svd(X, compute_uv=False)
    smallest = singular[singular > 1e-10].min()
    np.testing.assert_allclose(loss.pl_constant, 2 * 0.7 * smallest**2, rtol=1e-10)
    # The Polyak-Lojasiewicz inequality at random points, and its sharpness.
    for theta in RNG.normal(size=(50, d)):
        gap = loss(jnp.asarray(theta)) - loss.minimum
        slope = jnp.sum(loss.gradient(jnp.asarray(theta)) ** 2)
        assert 2 * loss.pl_constant * gap <= slope * (1 + 1e-9)


def test_derivatives_against_closed_form():
    X, y = problem(4, 3)
    loss, theta = ddln.LeastSquares(X, y, scale=0.25), jnp.arange(3.0)
    residual = X @ np.arange(3.0) - y
    np.testing.assert_allclose(loss(theta), 0.25 * residual @ residual)
    np.testing.assert_allclose(loss.gradient(theta), 0.5 * X.T @ residual)
    np.testing.assert_allclose(jax.grad(loss)(theta), 0.5 * X.T @ residual)
    hessian = loss.design.T @ np.diag(loss.curvature(theta)) @ loss.design
    np.testing.assert_allclose(hessian, 0.5 * X.T @ X)


def test_matrix_theta():
    X, y = RNG.normal(size=(5, 2, 3)), RNG.normal(size=5)
    loss, theta = ddln.LeastSquares(X, y), jnp.asarray(RNG.normal(size=(2, 3)))
    residual = np.einsum("nij,ij->n", X, theta) - y
    np.testing.assert_allclose(loss(theta), 0.5 * residual @ residual)
    np.testing.assert_allclose(loss.gradient(theta), np.einsum("nij,n->ij", X, residual))
    assert loss.minimizer.shape == (2, 3)


def test_several_outputs():
    X, y = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 3))
    loss, theta = ddln.LeastSquares(X, y), jnp.asarray(RNG.normal(size=(5, 3)))
    np.testing.assert_allclose(loss(theta), 0.5 * np.sum((X @ theta - y) ** 2))
    np.testing.assert_allclose(loss.gradient(theta), X.T @ (X @ theta - y))
    np.testing.assert_allclose(loss.minimizer, np.linalg.pinv(X) @ y, atol=1e-12)


def test_minimizer_is_differentiable():
    X, y = problem(3, 5)
    gradient = jax.grad(lambda y: jnp.sum(ddln.LeastSquares(X, y).minimizer))(jnp.asarray(y))
    np.testing.assert_allclose(gradient, np.linalg.pinv(X).sum(axis=0), rtol=1e-10)


def test_integers_become_floats():
    assert ddln.LeastSquares([[1, 2]], [3]).X.dtype == jnp.float64


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((3, 2)), np.ones(4), r"same number of samples \(axis 0\), but `X` has 3"),
        (np.ones((0, 2)), np.ones(0), "`X` must not be empty"),
        (np.ones((2, 0)), np.ones(2), "`X` must not be empty"),
        (np.ones(3), np.ones(3), r"One sample is a row"),
        (np.ones((2, 2)), np.ones((2, 1)), r"`y` must have the axes \[n\]"),
        (np.ones((2, 2)), np.ones((3, 2)), r"`X` has 2 and `y` has 3"),
        (np.full((2, 2), np.nan), np.ones(2), r"`X` must be finite, but entry \[0, 0\] is nan"),
        (np.ones((2, 2)), np.array([1.0, np.inf]), r"`y` must be finite, but entry \[1\] is inf"),
    ],
)
def test_bad_data(X, y, message):
    with pytest.raises(ValueError, match=message):
        ddln.LeastSquares(X, y)


def test_bad_scale_and_theta():
    with pytest.raises(ValueError, match="`scale` must be finite and positive"):
        ddln.LeastSquares(np.ones((2, 2)), np.ones(2), scale=0.0)
    loss = ddln.LeastSquares(np.ones((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"must have the shape \(2,\) of one row of `X`"):
        loss(jnp.ones(3))
