"""A semidefinite complementarity problem of a few rows, by a smoothing Newton method."""

import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import product
from ddln._types import Array, Float

# Sigma Z = SMOOTHING, relative to the size of the data: the solution is smooth in them.
SMOOTHING = 1e-14
# About twenty steps are made; each halves at most this often.
MOST_STEPS, HALVINGS = 80, 6


def symmetric_basis(k: int) -> Float[np.ndarray, "q k k"]:
    """An orthonormal basis of the symmetric matrices of k rows, q = k (k + 1) / 2."""
    rows, columns = np.triu_indices(k)
    basis = np.zeros((len(rows), k, k))
    number = np.arange(len(rows))
    basis[number, rows, columns] = np.where(rows == columns, 1, np.sqrt(0.5))
    basis[number, columns, rows] = basis[number, rows, columns]
    return basis


def complementary(
    gram: Float[Array, "q q"], force: Float[Array, " q"], k: int
) -> Float[Array, " q"]:
    """Sigma >= 0 with Z = gram Sigma - force >= 0 and Sigma Z = 0, matrices by their entries in the basis.

    Both are functions of one symmetric matrix W,

        Sigma = (W + (W^2 + 4 mu)^(1/2)) / 2,   Z = Sigma - W,   Sigma Z = mu,

    so that F(W) = gram Sigma(W) - force - Z(W) = 0 is an equation without constraints, whose derivative
    gram D + 1 - D, with 0 < D < 1 that of Sigma, is regular for a positive definite gram. Newton's method
    follows mu to `SMOOTHING`. The derivative is that of a last step from the solution (first order).

    Args:
        gram: positive semidefinite.
        force: any.
        k: the number of rows of Sigma.
    """
    dtype = force.dtype
    tiny = float(jnp.finfo(dtype).tiny)
    if k == 1:
        return jnp.maximum(force, 0) / jnp.maximum(gram[0], tiny)
    fixed = jax.lax.stop_gradient((gram, force))
    height = jnp.maximum(jnp.trace(fixed[0]) / len(force), tiny)
    width = jnp.maximum(jnp.linalg.norm(fixed[1]), tiny)
    problem = _Problem(jnp.asarray(symmetric_basis(k), dtype), fixed[0] / height, fixed[1] / width)
    w, mu = problem.solve()
    residual, sigma, slope = problem.at(w, mu)
    moved = gram / height - problem.gram, force / width - problem.force
    residual = residual + product(moved[0], sigma) - moved[1]
    change = -jnp.linalg.solve(problem.derivative(slope), residual)
    return (sigma + product(slope, change)) * width / height


class _Problem:
    """The problem in units in which gram and force are of size one."""

    def __init__(self, basis: Array, gram: Array, force: Array):
        self.basis, self.gram, self.force = basis, gram, force

    def at(self, w: Array, mu: Array) -> tuple[Array, Array, Array]:
        """F(W), Sigma, and the derivative D of Sigma with respect to W."""
        k = self.basis.shape[-1]
        values, vectors = jnp.linalg.eigh(product(w, self.basis.reshape(-1, k * k)).reshape(k, k))
        root = jnp.sqrt(jnp.square(values) + 4 * mu)
        # Without cancellation for values below zero.
        positive = jnp.where(values > 0, (values + root) / 2, 2 * mu / (root - values))
        outer = product(vectors * positive[None, :], vectors.T)
        sigma = product(self.basis.reshape(-1, k * k), outer.reshape(-1))
        divided = (1 + (values[:, None] + values[None, :]) / (root[:, None] + root[None, :])) / 2
        turned = product(product(self.basis, vectors).swapaxes(1, 2), vectors)
        turned = turned.reshape(-1, k * k)
        slope = product(turned * divided.reshape(1, -1), turned.T)
        return product(self.gram, sigma) - self.force - (sigma - w), sigma, slope

    def derivative(self, slope: Array) -> Array:
        """F'(W) = (gram - 1) D + 1."""
        one = jnp.eye(len(slope), dtype=slope.dtype)
        return product(self.gram - one, slope) + one

    def solve(self) -> tuple[Array, Array]:
        """W at the smallest mu, and this mu."""
        least = jnp.asarray(
            max(SMOOTHING, float(jnp.finfo(self.force.dtype).eps)), self.force.dtype
        )
        # Beyond it rounding is all that is left; the step that gives the derivative is one more.
        precise = 1e3 * float(jnp.finfo(self.force.dtype).eps)

        def going(state):
            _, mu, size, number = state
            return ((mu > least) | (size > precise)) & (number < MOST_STEPS)

        def advance(state):
            w, mu, _, number = state
            residual, _, slope = self.at(w, mu)
            step = -jnp.linalg.solve(self.derivative(slope), residual)
            lengths = jnp.asarray(0.5 ** np.arange(HALVINGS), w.dtype)
            tries = w[None, :] + lengths[:, None] * step[None, :]
            sizes = jnp.linalg.norm(jax.vmap(lambda one: self.at(one, mu)[0])(tries), axis=1)
            best = jnp.argmin(sizes)
            close = sizes[best] <= mu
            smaller = jnp.maximum(least, jnp.minimum(0.1 * mu, mu**1.5))
            return tries[best], jnp.where(close, smaller, mu), sizes[best], number + 1

        one = jnp.ones((), self.force.dtype)
        w, mu, _, _ = jax.lax.while_loop(going, advance, (self.force, one, one, 0))
        return w, mu
