import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

X = np.random.default_rng(0).normal(size=(6, 3))
Y = np.arange(6.0)


def poisson(prediction, target):
    return jnp.exp(prediction) - target * prediction


def test_derivatives_come_from_the_pointwise_function():
    loss, theta = ddln.GeneralizedLinear(X, Y, poisson, scale=0.5), jnp.array([0.5, -1.0, 0.2])
    rate = np.exp(X @ np.asarray(theta))
    np.testing.assert_allclose(loss(theta), 0.5 * np.sum(rate - Y * np.log(rate)), rtol=1e-13)
    np.testing.assert_allclose(loss.gradient(theta), 0.5 * X.T @ (rate - Y), rtol=1e-12)
    np.testing.assert_allclose(loss.curvature(theta), 0.5 * rate, rtol=1e-13)
    np.testing.assert_allclose(jax.grad(loss)(theta), loss.gradient(theta), rtol=1e-12)


def test_pointwise_must_return_a_scalar():
    with pytest.raises(ValueError, match="`pointwise` must map two scalars to a scalar"):
        ddln.GeneralizedLinear(X, Y, lambda z, y: jnp.stack([z, y]))
