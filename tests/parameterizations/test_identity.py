import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln


def test_metric_is_the_identity():
    identity = ddln.Identity(jnp.arange(3.0))
    np.testing.assert_array_equal(identity(), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(identity.metric(), np.eye(3))
    np.testing.assert_array_equal(identity.metric_diagonal(), np.ones(3))


def test_matrix_theta():
    identity = ddln.Identity(jnp.ones((2, 3)))
    assert identity.metric().shape == (6, 6)
    assert identity.reduced() is None
    assert identity.metric_product(2 * jnp.ones((2, 3))).shape == (2, 3)


def test_reduced_coordinates_are_theta():
    coordinates = ddln.Identity(jnp.array([1.0, 2.0])).reduced()
    v = jnp.array([3.0, 4.0])
    np.testing.assert_array_equal(coordinates.effective(v), v)
    np.testing.assert_array_equal(coordinates.speed(v) * coordinates.effective_slope(v), [1, 1])
    (weights,) = coordinates.weights(v)
    np.testing.assert_array_equal(weights, v)
    assert jnp.all(jax.jvp(coordinates.speed, (v,), (v,))[1] == coordinates.speed_slope(v))


def test_bad_theta():
    with pytest.raises(ValueError, match="`theta` must not be empty"):
        ddln.Identity(np.ones(0))
