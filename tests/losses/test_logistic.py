import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])


def test_value_and_derivatives():
    loss, theta = ddln.Logistic(X, Y, scale=2.0), jnp.array([0.5, -1.0, 2.0])
    margins = Y * (X @ np.asarray(theta))
    np.testing.assert_allclose(loss(theta), 2 * np.sum(np.log1p(np.exp(-margins))), rtol=1e-13)
    np.testing.assert_allclose(loss.gradient(theta), jax.grad(loss)(theta), rtol=1e-12)
    hessian = loss.design.T @ np.diag(loss.curvature(theta)) @ loss.design
    np.testing.assert_allclose(hessian, jax.hessian(loss)(theta), rtol=1e-11)


def test_large_margins_neither_overflow_nor_vanish_silently():
    loss = ddln.Logistic(np.array([[1.0]]), np.array([1.0]))
    np.testing.assert_allclose(loss(jnp.array([-1e4])), 1e4)
    np.testing.assert_allclose(loss(jnp.array([700.0])), np.exp(-700.0), rtol=1e-10)


def test_labels_zero_and_one_are_refused():
    with pytest.raises(ValueError, match=r"entry 1 is 0.0. For labels 0 and 1 pass `2 \* y - 1`"):
        ddln.Logistic(X[:2], [1, 0])
