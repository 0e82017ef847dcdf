"""A parameterization of one's own gets everything from `effective`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln._types import Array


class Coupled(ddln.AbstractParameterization):
    """theta = (a^2 + b, a b): not separable, two leaves."""

    a: Array
    b: Array

    def effective(self):
        return jnp.stack([self.a**2 + self.b, self.a * self.b])


@pytest.fixture
def coupled():
    return Coupled(jnp.array(2.0), jnp.array(3.0))


def test_jacobian_and_metric(coupled):
    jacobian = np.array([[4.0, 1.0], [3.0, 2.0]])
    np.testing.assert_allclose(coupled.jacobian(), jacobian)
    np.testing.assert_allclose(coupled.metric(), jacobian @ jacobian.T)
    g = jnp.array([1.0, -1.0])
    np.testing.assert_allclose(coupled.metric_product(g), jacobian @ jacobian.T @ np.asarray(g))


def test_metric_diagonal_needs_separability(coupled):
    with pytest.raises(ValueError, match="needs a separable parameterization, but Coupled is not"):
        coupled.metric_diagonal()


def test_effective_is_differentiated_by_jax(coupled):
    gradient = jax.grad(lambda p: jnp.sum(p()))(coupled)
    np.testing.assert_allclose([gradient.a, gradient.b], [4 + 3, 1 + 2])
