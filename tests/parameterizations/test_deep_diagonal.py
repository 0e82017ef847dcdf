import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.parameterizations import AbstractParameterization


def test_effective_is_the_product_of_the_layers():
    layers = np.random.default_rng(0).normal(size=(5, 7))
    network = ddln.DeepDiagonal(layers, factor=-0.5)
    np.testing.assert_allclose(network(), -0.5 * np.prod(layers, axis=0), rtol=1e-15)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_closed_forms_agree_with_the_generic_ones(depth):
    layers = np.random.default_rng(depth).normal(size=(depth, 4))
    # A zero layer, and two of them: products of the others must not divide.
    layers[0, 1] = 0.0
    layers[:2, 2] = 0.0
    network = ddln.DeepDiagonal(layers, factor=1.5)
    jacobian = AbstractParameterization.jacobian(network)
    np.testing.assert_allclose(network.jacobian(), jacobian, atol=1e-14)
    np.testing.assert_allclose(network.metric(), np.asarray(jacobian) @ jacobian.T, atol=1e-14)
    np.testing.assert_allclose(network.metric_diagonal(), np.diag(network.metric()), atol=1e-14)
    np.testing.assert_allclose(
        AbstractParameterization.metric_diagonal(network), network.metric_diagonal(), atol=1e-14
    )
    off_diagonal = network.metric() - np.diag(np.diag(network.metric()))
    assert np.abs(off_diagonal).max() == 0


def test_jacobian_is_that_of_finite_differences():
    rng = np.random.default_rng(3)
    layers, step = rng.normal(size=(3, 4)), 1e-6
    columns = []
    for index in np.ndindex(3, 4):
        shift = np.zeros((3, 4))
        shift[index] = step
        difference = np.prod(layers + shift, axis=0) - np.prod(layers - shift, axis=0)
        columns.append(difference / (2 * step))
    expected = np.stack(columns, axis=1)
    np.testing.assert_allclose(ddln.DeepDiagonal(layers).jacobian(), expected, atol=1e-9)


def test_random_has_the_scale_and_is_almost_surely_untied():
    network = ddln.DeepDiagonal.random(jax.random.key(0), depth=4, dim=2000, scale=0.3)
    assert network.layers.shape == (4, 2000)
    assert abs(float(jnp.std(network.layers)) - 0.3) < 0.01
    assert float(jnp.min(network.canonical().gaps)) > 0


def test_zero_last():
    ubar = jnp.array([1.0, -2.0])
    network = ddln.DeepDiagonal.zero_last(ubar, depth=3, scale=0.1)
    np.testing.assert_allclose(network.layers, [[0.1, -0.2], [0.1, -0.2], [0.0, 0.0]])


def test_balanced():
    theta = jnp.array([8.0, -1.0, 0.0])
    network = ddln.DeepDiagonal.balanced(theta, depth=3)
    np.testing.assert_allclose(network(), theta, rtol=1e-14)
    np.testing.assert_allclose(jnp.abs(network.layers), [[2.0, 1.0, 0.0]] * 3, rtol=1e-14)


def test_scale_may_be_traced():
    scales = jnp.array([0.1, 2.0])
    ubar = jnp.ones(3)
    stack = jax.vmap(lambda s: ddln.DeepDiagonal.zero_last(ubar, 2, s))(scales)
    np.testing.assert_allclose(stack.layers[:, 0], scales[:, None] * np.ones((1, 3)))


def test_frozen_names_coordinates_with_two_zero_layers():
    network = ddln.DeepDiagonal([[0.0, 1.0, 0.0], [0.0, 2.0, 3.0], [1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(network.frozen(), [0, 2])


def test_integer_layers_become_floats():
    assert ddln.DeepDiagonal([[1, 2], [3, 4]]).layers.dtype == jnp.float64


def test_float32_stays_float32():
    network = ddln.DeepDiagonal(jnp.ones((2, 3), jnp.float32))
    assert network().dtype == jnp.float32
    assert network.metric_diagonal().dtype == jnp.float32


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (np.ones((1, 3)), "`ddln.Identity"),
        (np.ones(3), r"axes \[L, d\]"),
        (np.ones((2, 0)), "must not be empty"),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), r"entry \[0, 1\] is nan"),
        (np.array([[1.0, 2.0], [np.inf, 2.0]]), r"entry \[1, 0\] is inf"),
        (np.ones((2, 2)) * 1j, "must be real"),
        ("layers", "`layers` must be a numeric array"),
    ],
)
def test_bad_layers(layers, message):
    with pytest.raises(ValueError, match=message):
        ddln.DeepDiagonal(layers)


@pytest.mark.parametrize("factor", [0.0, np.nan, np.inf])
def test_bad_factor(factor):
    with pytest.raises(ValueError, match="`factor` must be finite and not zero"):
        ddln.DeepDiagonal(np.ones((2, 2)), factor=factor)
