"""Sums (`_sum`, `_constant`, `_pairs`, `_four_vector`): their structure and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 2, 4))
FOUR = RNG.normal(size=(4, 4))


def test_four_vectors_are_the_two_layers_of_the_fixture():
    network = ddln.FourVector([1.2], [0.4], [0.3], [-0.7]).two_layers()
    u, v = np.asarray(network.layers)[:, 0]
    # By mpmath, from the formulas of the docstring.
    np.testing.assert_allclose([u, v], [1.390611708705618, 0.496184517705703], rtol=1e-14)
    np.testing.assert_allclose([u * v, u**2 + v**2], [0.69, 2.18], rtol=1e-14)
    np.testing.assert_allclose(network.canonical().gaps[0, 0], 1.687601848778319, rtol=1e-14)


def test_start_at_zero_has_the_gap_of_its_shape():
    shapes = jnp.asarray([0.0, 0.5, 0.99])
    start = ddln.FourVector.zero(3, 0.1, shapes)
    np.testing.assert_array_equal(start.effective(), 0)
    np.testing.assert_allclose(start.w_plus * start.v_plus, 0.01, rtol=1e-14)
    w, v = np.asarray(start.w_minus), np.asarray(start.v_minus)
    np.testing.assert_allclose((w - v) / (w + v), shapes, atol=1e-14)
    # The formula of Azulay et al.: 4 alpha (1 + s^2) / (1 - s^2), alpha = w v.
    gap = start.two_layers().canonical().gaps[0]
    np.testing.assert_allclose(gap, 0.04 * (1 + shapes**2) / (1 - shapes**2), rtol=1e-13)


def test_the_width_of_a_sum_of_pairs_is_invisible():
    wide = ddln.Sum(ddln.DeepDiagonal(A, -0.7), ddln.DeepDiagonal(B, 0.7))
    network = wide.two_layers()
    assert network.layers.shape == (2, 4)
    np.testing.assert_allclose(network.effective(), wide.effective(), rtol=1e-13)
    np.testing.assert_allclose(network.metric_diagonal(), wide.metric_diagonal(), rtol=1e-13)
    # One unknown for each coordinate, and at the start the weights themselves.
    coordinates = wide.reduced()
    assert coordinates is not None
    assert coordinates.start.shape == (4,)
    for leaf, expected in zip(coordinates.weights(coordinates.start), (A, B), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12)


def test_pairs_that_vanish_or_tie_stay_where_they_are():
    # w_+ = -v_+ and w_- = v_-: p = 0, so that theta keeps its sign; and all four at zero.
    start = ddln.FourVector([1.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [0.5, 0.0])
    form = start.two_layers().canonical()
    np.testing.assert_array_equal(form.gaps[0], 0)
    coordinates = start.reduced()
    moved = coordinates.weights(2 * coordinates.start)
    expected = [[2.0, 0.0], [-2.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    np.testing.assert_allclose(moved, expected, atol=1e-15)
    slope = jax.grad(lambda w: ddln.FourVector(w, w, w, w).two_layers().layers.sum())(jnp.zeros(2))
    assert jnp.isfinite(slope).all()


def test_terms_that_are_no_pairs_lie_side_by_side():
    inner = ddln.Sum(ddln.Constant(np.ones(4)), ddln.DeepDiagonal(FOUR))
    outer = ddln.Sum(inner, ddln.Identity(A[0]), ddln.FourVector(*FOUR))
    assert outer.separable
    assert outer.homogeneity is None
    coordinates = outer.reduced()
    assert coordinates is not None
    for leaf, expected in zip(
        coordinates.weights(coordinates.start), (FOUR, A[0], *FOUR), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, rtol=1e-12)
    np.testing.assert_allclose(outer.offset(), 1)
    assert ddln.Sum(ddln.MatrixFactorization(A, B), ddln.Identity(A @ B.T)).reduced() is None


def test_a_constant_is_no_weight_under_any_transformation():
    network = jax.jit(
        jax.vmap(lambda u: ddln.Sum(ddln.Constant(np.ones(4)), ddln.DeepDiagonal(u)))
    )(jnp.asarray(FOUR[None, :2]))
    assert [leaf.shape for leaf in jax.tree.leaves(network)] == [(1, 2, 4)]
    constant = ddln.Constant(np.asarray([1, 2], np.float32))
    assert constant.effective().dtype == jnp.float32
    assert constant == ddln.Constant(np.asarray([1, 2], np.float32))
    assert constant != ddln.Constant([1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddln.Sum(), "`terms` must have at least one"),
        (lambda: ddln.Sum(ddln.Square(A[0]), A[0]), "one is a ndarray. A constant is"),
        (lambda: ddln.Sum(ddln.Square(A[0]), ddln.Square(A[0, :3])), r"float64\[4\] and term 1 "),
        (
            lambda: ddln.Sum(ddln.Square(A[0]), ddln.Square(np.float32(A[0]))),
            r"term 1 float32\[4\]. Convert",
        ),
        (lambda: ddln.Sum(ddln.Constant(A[0])), "all terms are constants"),
        (
            lambda: ddln.gradient_flow(ddln.Constant(A[0]), ddln.LeastSquares(A, A[:, 0]), 1.0),
            "`parameterization` must have weights",
        ),
        (lambda: jax.jit(ddln.Constant)(A[0]), "`theta` must be known, but it is being traced"),
        (
            lambda: ddln.Sum(ddln.DeepDiagonal(A), ddln.DeepDiagonal(B, 2.0)).two_layers(),
            "all with factors of one size",
        ),
        (
            lambda: ddln.FourVector(FOUR[0], FOUR[1], FOUR[2], FOUR[3, :2]),
            r"`v_minus` must have the shape \(4,\)",
        ),
        (lambda: ddln.FourVector.zero(4, shape=1.0), "`shape` must be between -1 and 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
