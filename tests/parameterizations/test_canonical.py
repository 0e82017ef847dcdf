import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ddln


@st.composite
def layers_with_ties(draw):
    """Layers [L, 60] on a coarse grid, so that ties, zeros and both at once are frequent."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.sampled_from([2, 3, 4, 8])), 60)
    return draw(st.sampled_from([1e-6, 0.5, 1e3])) * rng.integers(-4, 5, shape).astype(float)


@given(layers_with_ties())
@settings(max_examples=25, deadline=None)
def test_the_start_rebuilds_the_layers(layers):
    canonical = ddln.DeepDiagonal(layers).canonical()
    np.testing.assert_allclose(canonical.layers(canonical.start), layers, rtol=1e-14)
    expected = np.prod(layers, axis=0)
    np.testing.assert_allclose(canonical.effective(canonical.start), expected, rtol=1e-13)


@given(layers_with_ties(), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_gaps_are_conserved_wherever_v_goes(layers, size):
    canonical = ddln.DeepDiagonal(layers).canonical()
    v = size * np.linspace(-1, 1, 60) * np.abs(layers).max()
    moved = np.asarray(canonical.layers(jnp.asarray(v)))
    stuck = np.sum(layers == 0, axis=0) >= 2
    squares, start = moved**2, layers**2
    for j in range(len(layers)):
        difference = (squares[j] - squares[0]) - (start[j] - start[0])
        scale = squares.max(axis=0) + start.max(axis=0) + 1e-300
        assert np.all(np.abs(difference / scale)[~stuck] < 1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_permuting_the_layers_permutes_them_back(seed):
    rng = np.random.default_rng(seed)
    layers, order = rng.normal(size=(5, 20)), rng.permutation(5)
    first = ddln.DeepDiagonal(layers).canonical()
    second = ddln.DeepDiagonal(layers[order]).canonical()
    v = jnp.asarray(rng.normal(size=20))
    np.testing.assert_array_equal(first.start, second.start)
    np.testing.assert_allclose(first.speed(v), second.speed(v), rtol=1e-14)
    np.testing.assert_allclose(first.layers(v)[order], second.layers(v), rtol=1e-14)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_slopes_are_derivatives(depth):
    layers = np.random.default_rng(depth).normal(size=(depth, 5))
    layers[1, 0] = layers[0, 0]  # a tie
    layers[:2, 1] = 0.0  # never moves
    layers[0, 2] = 0.0  # v_0 = 0
    canonical = ddln.DeepDiagonal(layers, factor=-2.0).canonical()
    v, step = canonical.start, 1e-6

    def slope(f):
        return (f(v + step) - f(v - step)) / (2 * step)

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


def test_layers_at_zero_have_no_derivative_in_their_gaps():
    canonical = ddln.DeepDiagonal(jnp.array([[0.0, 0.0], [0.0, 0.5], [1.0, -2.0]])).canonical()

    def speed(gaps):
        return eqx.tree_at(lambda c: c.gaps, canonical, gaps).speed(canonical.start)

    slopes = jax.jacfwd(speed)(canonical.gaps)
    # Two layers at zero: neither ever moves. One: p = u w, and d u / d gap = 1 / (2 u).
    np.testing.assert_array_equal(slopes[0, :, 0], 0)
    np.testing.assert_allclose(slopes[1, :, 1], [-2 / (2 * 0.5), 0.5 / (2 * -2)], rtol=1e-15)
