import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import ddln

LAYERS = st.integers(2, 8).flatmap(
    lambda depth: arrays(
        np.float64, (depth, 3), elements=st.floats(-4, 4).map(lambda x: round(x, 2))
    )
)


@given(LAYERS)
@settings(max_examples=200, deadline=None)
def test_the_start_rebuilds_the_layers(layers):
    # Rounded to 0.01, so that ties and zeros are frequent.
    canonical = ddln.DeepDiagonal(layers).canonical()
    np.testing.assert_allclose(canonical.layers(canonical.start), layers, rtol=1e-14, atol=1e-15)
    expected = np.prod(layers, axis=0)
    np.testing.assert_allclose(
        canonical.effective(canonical.start), expected, rtol=1e-13, atol=1e-300
    )


@given(LAYERS, arrays(np.float64, 3, elements=st.floats(-3, 3)))
@settings(max_examples=100, deadline=None)
def test_gaps_are_conserved_wherever_v_goes(layers, v):
    canonical = ddln.DeepDiagonal(layers).canonical()
    moved = np.asarray(canonical.layers(jnp.asarray(v)))
    stuck = np.sum(layers == 0, axis=0) >= 2
    squares, start = moved**2, layers**2
    for j in range(len(layers)):
        difference = (squares[j] - squares[0]) - (start[j] - start[0])
        scale = squares.max(axis=0) + start.max(axis=0) + 1e-300
        assert np.all(np.abs(difference / scale)[~stuck] < 1e-14)


@given(LAYERS)
@settings(max_examples=50, deadline=None)
def test_permuting_the_layers_permutes_them_back(layers):
    order = np.random.default_rng(0).permutation(len(layers))
    first = ddln.DeepDiagonal(layers).canonical()
    second = ddln.DeepDiagonal(layers[order]).canonical()
    v = np.asarray(first.start) + 0.5
    np.testing.assert_allclose(np.abs(first.gaps), np.abs(second.gaps), atol=1e-13)
    np.testing.assert_allclose(
        np.abs(first.layers(jnp.asarray(v)))[order],
        np.abs(second.layers(jnp.asarray(np.sign(second.start) * np.sign(first.start) * v))),
        rtol=1e-13,
        atol=1e-13,
    ) if np.all(np.abs(first.start) == np.abs(second.start)) and _untied(layers) else None


def _untied(layers):
    sizes = np.sort(np.abs(layers), axis=0)
    return np.all(np.diff(sizes, axis=0) > 0) and np.all(sizes > 0)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_slopes_are_derivatives(depth):
    layers = np.random.default_rng(depth).normal(size=(depth, 5))
    layers[1, 0] = layers[0, 0]  # a tie
    layers[:2, 1] = 0.0  # never moves
    layers[0, 2] = 0.0  # v_0 = 0
    canonical = ddln.DeepDiagonal(layers, factor=-2.0).canonical()
    v, step = np.asarray(canonical.start), 1e-6

    def slope(f):
        return (f(jnp.asarray(v + step)) - f(jnp.asarray(v - step))) / (2 * step)

    np.testing.assert_allclose(canonical.speed_slope(v), slope(canonical.speed), atol=1e-7)
    np.testing.assert_allclose(canonical.effective_slope(v), slope(canonical.effective), atol=1e-7)


def test_metric_is_speed_times_effective_slope():
    network = ddln.DeepDiagonal.random(jax.random.key(1), 4, 50)
    canonical = network.canonical()
    v = canonical.start
    np.testing.assert_allclose(
        canonical.speed(v) * canonical.effective_slope(v), network.metric_diagonal(), rtol=1e-12
    )


def test_small_gaps_keep_their_relative_accuracy():
    small = 1.0 + 2.0**-50
    canonical = ddln.DeepDiagonal([[1.0], [small]]).canonical()
    exact = 2.0**-50 * (2 + 2.0**-50)
    np.testing.assert_allclose(canonical.gaps[0, 0], exact, rtol=1e-15)


def test_tied_layers_stay_equal_up_to_sign_through_zero():
    canonical = ddln.DeepDiagonal([[-2.0], [2.0], [3.0]]).canonical()
    layers = np.asarray(canonical.layers(jnp.array([0.5])))
    assert layers[0] == -layers[1]
    crossing = jax.vmap(canonical.effective)(jnp.array([[-1.0], [0.0], [1.0]]))
    # theta = c u^1 u^2 u^3 keeps its sign: u^1 u^2 = -v^2.
    assert np.all(np.asarray(crossing) <= 0)


def test_gradients_are_finite_at_ties_and_zeros():
    layers = jnp.array([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0], [1.0, 3.0, 5.0]])

    def total(layers):
        canonical = ddln.DeepDiagonal(layers).canonical()
        v = canonical.start + 0.1
        return jnp.sum(canonical.effective(v) + canonical.speed_slope(v) + canonical.layers(v)[0])

    assert np.all(np.isfinite(jax.grad(total)(layers)))
