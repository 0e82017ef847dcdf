"""The sharpness against dense Hessians, the edge of stability, and losses that rise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
SAMPLES, DIM = 5, 7
X = RNG.normal(size=(SAMPLES, DIM))
Y = X[:, 0] - X[:, 1]
LAYERS = RNG.normal(size=(3, DIM))


def hessian(layers, scale):
    """J^T (2 scale X^T X) J + sum_i g_i hess h_i, for theta = the product of the layers."""
    depth, dim = layers.shape
    g = 2 * scale * X.T @ (X @ np.prod(layers, axis=0) - Y)
    others = [np.prod(np.delete(layers, j, axis=0), axis=0) for j in range(depth)]
    jacobian = np.concatenate([np.diag(row) for row in others], axis=1)
    dense = 2 * scale * jacobian.T @ X.T @ X @ jacobian
    for j in range(depth):
        for k in range(depth):
            if j != k:
                rest = np.prod(np.delete(layers, (j, k), axis=0), axis=0)
                rows = slice(j * dim, (j + 1) * dim), slice(k * dim, (k + 1) * dim)
                dense[rows] += np.diag(g * rest)
    return dense


def test_largest_eigenvalue_and_its_derivative():
    loss = ddln.LeastSquares(X, Y, 0.7)

    def largest(layers):
        return theory.sharpness(ddln.DeepDiagonal(layers), loss)

    starts = jnp.asarray(np.stack([LAYERS, 0.1 * LAYERS, 3 * LAYERS]))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(largest)))(starts)
    for start, value, gradient in zip(np.asarray(starts), values, gradients, strict=True):
        np.testing.assert_allclose(value, np.linalg.eigvalsh(hessian(start, 0.7))[-1], rtol=1e-11)
        step = 1e-6 * np.random.default_rng(1).normal(size=start.shape)
        ahead, behind = (
            np.linalg.eigvalsh(hessian(start + sign * step, 0.7))[-1] for sign in (1, -1)
        )
        np.testing.assert_allclose(np.sum(gradient * step), (ahead - behind) / 2, rtol=1e-5)


def test_few_iterations_and_negative_curvature():
    """The Krylov space of a quadratic with three eigenvalues is complete after three products."""
    diagonal = np.repeat([-3.0, -2.0, -1.0], 4)

    def loss(theta):
        return 0.5 * jnp.sum(diagonal * theta**2)

    few, many = (theory.sharpness(ddln.Identity(jnp.ones(12)), loss, iterations=m) for m in (1, 9))
    assert -3 < few < -1
    np.testing.assert_allclose(many, -1, rtol=1e-10)
    # One eigenvalue: the space is complete at once, and what is left of it must not be taken.
    isotropic = theory.sharpness(ddln.Identity(jnp.ones(12)), lambda t: -1.5 * jnp.sum(t**2))
    np.testing.assert_allclose(isotropic, -3, rtol=1e-12)
    with pytest.raises(ValueError, match="`iterations` must be at least 1"):
        theory.sharpness(ddln.Identity(jnp.ones(2)), loss, iterations=0)


def test_the_edge_of_stability():
    """theta = u v with one target: the minima u v = 1 have sharpness u^2 + v^2.

    From the unbalanced start (3, 0.2), of sharpness 9, small steps end at a sharp minimum. Large
    ones, to which it is out of reach, end at one that is stable to them, after a rise of the loss.
    """
    rates = np.array([0.05, 0.2, 0.3, 0.4])
    loss = ddln.LeastSquares(np.ones((1, 1)), np.ones(1))

    @jax.jit
    @jax.vmap
    def end(rate):
        network = ddln.DeepDiagonal([[3.0], [0.2]])
        run = ddln.descend(network, loss, optax.sgd(rate), 3000, ts=range(3001), throw=False)
        still = theory.catapult(dataclasses.replace(run, loss=jnp.zeros_like(run.loss)))
        return run.loss[-1], theory.sharpness(run.final, loss), theory.catapult(run), still

    last, sharpnesses, catapults, still = end(jnp.asarray(rates))
    for lane, rate in enumerate(rates):
        sharpness = sharpnesses[lane]
        catapult = jax.tree.map(lambda leaf, lane=lane: leaf[lane], catapults)
        u, v = 3.0, 0.2
        losses = [0.5 * (u * v - 1) ** 2]
        for _ in range(3000):
            u, v = u - rate * (u * v - 1) * v, v - rate * (u * v - 1) * u
            losses.append(0.5 * (u * v - 1) ** 2)
        np.testing.assert_allclose(last[lane], 0, atol=1e-9)
        np.testing.assert_allclose(sharpness, u**2 + v**2, rtol=1e-4)
        assert sharpness * rate <= 2 * (1 + 1e-4)
        above = np.array(losses) - np.minimum.accumulate(losses)
        climb = np.max(above) / losses[0]
        np.testing.assert_allclose(catapult.climb, climb, rtol=1e-10, atol=1e-15)
        if climb > 1e-10:
            assert int(catapult.step) == int(np.argmax(above))
        rises = int(np.sum(np.diff(losses) > 1e-15))
        assert int(catapult.rises) == rises
    assert (still.climb == 0).all()
    assert (catapults.climb > 1e-3).tolist() == [False, False, True, True]
