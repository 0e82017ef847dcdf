"""Counts of Hessian eigenvalues (`_inertia`, `_hessian`, `_separable_hessian`) against NumPy."""

import jax
import numpy as np
import pytest

import ddln
from ddln import theory

TOLERANCE = 1e-8


def dense(layers, X, y):
    """The Hessian of |X theta - y|^2 / 2 in the layers, theta their product."""
    depth, dim = layers.shape
    g = X.T @ (X @ np.prod(layers, axis=0) - y)
    others = [np.prod(np.delete(layers, j, axis=0), axis=0) for j in range(depth)]
    jacobian = np.concatenate([np.diag(row) for row in others], axis=1)
    found = jacobian.T @ X.T @ X @ jacobian
    for j in range(depth):
        for k in range(depth):
            if j != k:
                rest = np.prod(np.delete(layers, (j, k), axis=0), axis=0)
                rows = slice(j * dim, (j + 1) * dim), slice(k * dim, (k + 1) * dim)
                found[rows] += np.diag(g * rest)
    return found


def networks(depth, dim, samples, size):
    """Networks and data: a fifth each generic, with ties, with zeros, at a minimum, and with both."""
    rng = np.random.default_rng(depth)
    layers = rng.normal(size=(size, depth, dim))
    X, y = rng.normal(size=(size, samples, dim)), rng.normal(size=(size, samples))
    layers[1::5, 1] = layers[1::5, 0]
    layers[2::5, :2, 0] = 0
    layers[2::10, 0, 1] = 0
    layers[4::5, 0] = 0
    layers[9::10, 1] = 0
    for lane in (*range(3, size, 5), *range(4, size, 10)):
        y[lane] = X[lane] @ np.prod(layers[lane], axis=0)
    return layers, X, y


def shifts_of(eigenvalues, layers, X, y):
    """Random shifts, 0, eigenvalues of blocks, eigenvalues, and shifts next to them."""
    rng = np.random.default_rng(0)
    g = X[0].T @ (X[0] @ np.prod(layers[0], axis=0) - y[0])
    blocks = np.broadcast_to([0.0, g[0], -g[1]], (len(layers), 3))
    near = eigenvalues[:, [0, 1, -1]]
    random = rng.uniform(-1, 1, (len(layers), 4)) * np.abs(eigenvalues).max(axis=1)[:, None]
    return np.concatenate([random, blocks, near, near + 1e-9, near - 3e-8], axis=1)


@pytest.mark.parametrize("shape", [(3, 6, 3, 250), (2, 4, 7, 250), (4, 40, 5, 20)])
def test_counts_and_ends_of_the_spectrum_are_those_of_dense_matrices(shape):
    layers, X, y = networks(*shape)
    eigenvalues = np.linalg.eigvalsh([dense(*one) for one in zip(layers, X, y, strict=True)])
    shifts = shifts_of(eigenvalues, layers, X, y)

    @jax.jit
    @jax.vmap
    def run(layers, X, y, shifts):
        network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y)
        counts = theory.hessian_inertia(network, loss, shifts, tolerance=TOLERANCE)
        return counts.below, counts.undecided, theory.hessian_spectrum(network, loss, 2)

    below, undecided, spectrum = run(layers, X, y, shifts)
    distance = eigenvalues[:, None, :] - shifts[:, :, None]
    # Rounding is a small multiple of 1e-16 times the largest eigenvalue, about 100 here.
    assert (below >= np.sum(distance < -1.01 * TOLERANCE, axis=-1)).all()
    assert (below <= np.sum(distance < 0, axis=-1)).all()
    assert (below + undecided <= np.sum(distance < 1.01 * TOLERANCE, axis=-1)).all()
    assert (undecided >= np.sum(np.abs(distance) < 2e-9, axis=-1)).all()
    assert (undecided[:, :4] == 0).all()

    largest = np.abs(eigenvalues).max(axis=1)[:, None]
    ends = np.concatenate([eigenvalues[:, :2], eigenvalues[:, -2:]], axis=1)
    np.testing.assert_allclose(spectrum.values / largest, ends / largest, atol=2e-14)
    # The default tolerance is the square root of eps times a bound of a few times the largest.
    negative, zero = np.asarray(spectrum.negative), np.asarray(spectrum.undecided)
    assert (negative >= np.sum(eigenvalues < -1e-7 * largest, axis=1)).all()
    assert (negative <= np.sum(eigenvalues < -1e-9 * largest, axis=1)).all()
    assert (zero >= np.sum(np.abs(eigenvalues) < 1e-9 * largest, axis=1)).all()
    assert (negative + zero <= np.sum(eigenvalues < 1e-7 * largest, axis=1)).all()
    vectors = np.asarray(spectrum.vectors.layers).reshape(len(layers), 4, -1)
    hessians = np.stack([dense(*one) for one in zip(layers, X, y, strict=True)])
    images = np.einsum("bij,bkj->bki", hessians, vectors)
    rest = np.linalg.norm(images - np.asarray(spectrum.values)[..., None] * vectors, axis=-1)
    # Inverse iteration beside a multiple eigenvalue is as good as its shift, sqrt(eps).
    assert (rest < 1e-8 * largest).all()
    assert (rest[::5] < 1e-12 * largest[::5]).all()
    np.testing.assert_allclose(rest, spectrum.residuals, atol=1e-12 * largest.max())
    pairs = np.einsum("bij,bij->bi", vectors, vectors)
    np.testing.assert_allclose(pairs, 1, rtol=1e-12)
    np.testing.assert_allclose(np.einsum("bi,bi->b", *vectors[:, :2].swapaxes(0, 1)), 0, atol=1e-12)
    # A gradient of zero with a negative eigenvalue, at a network of zeros.
    still = spectrum.strict_saddle(1e-8)
    np.testing.assert_array_equal(still, (spectrum.gradient_norm <= 1e-8) & (negative > 0))
    assert int(still.sum()) == shape[3] // 10
