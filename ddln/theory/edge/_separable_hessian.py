"""The Hessian of a separable map under a loss of linear predictions: blocks plus a matrix of low rank."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, product
from ddln._types import Array, Float, Int
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization
from ddln.theory.edge._hessian import AbstractHessian

# So many coordinates with the largest resolvents are kept as rows of their own: at a shift near an
# eigenvalue of a few blocks the matrix of n rows alone would lose all digits.
BORDER = 32
# Newton's method takes about ten steps; bisection of a multiple eigenvalue takes fifty.
MOST_STEPS = 200


class Pencil(NamedTuple):
    """The bordered matrix G of H - s, and what leads from it back to H - s.

    Attributes:
        matrix: G, shape [e + r, e + r].
        difference: eigenvalues of the blocks minus s, shape [D, m].
        resolvent: q_i = sum_k j_ik^2 / (beta_ik - s), shape [D].
        slope: dq / ds, shape [D].
        border: the coordinates that are rows of G, shape [e].
        scale: the factors of the rows of G, those of the border first, shape [e + r].
        offset: #{eig(H) < s} minus the number of negative eigenvalues of G.
        rounding: a bound of the rounding of the eigenvalues of G, whose entries do not exceed 1.
    """

    matrix: Float[Array, "G G"]
    difference: Float[Array, "D m"]
    resolvent: Float[Array, " D"]
    slope: Float[Array, " D"]
    border: Int[Array, " e"]
    scale: Float[Array, " G"]
    offset: Int[Array, ""]
    rounding: float


class SeparableHessian(AbstractHessian):
    """H = B + A^T S A with B block diagonal, A = F diag(J) of r rows, and S a diagonal of signs.

    Coordinate i of theta has m weights, with the block B_i = g_i hess h_i and the Jacobian J_i. In the
    eigenvectors of its block, B_i is diagonal.

    Attributes:
        eigenvalues: beta_ik of the blocks, shape [D, m].
        vectors: their eigenvectors as columns, shape [D, m, m].
        couplings: j_ik, the entries of J_i along them, shape [D, m].
        factor: F, with F^T S F the Hessian of the loss in theta, shape [r, D], r = min(n, D).
        signs: the diagonal of S, 1 for a convex loss, shape [r].
    """

    eigenvalues: Float[Array, "D m"]
    vectors: Float[Array, "D m m"]
    couplings: Float[Array, "D m"]
    factor: Float[Array, "r D"]
    signs: Float[Array, " r"]

    @classmethod
    def of(
        cls, parameterization: AbstractParameterization, loss: AbstractPredictionLoss
    ) -> "SeparableHessian":
        """The Hessian at the weights of a parameterization for which `fits` is true."""
        effective, weights = as_function(parameterization)
        flat, unravel = ravel_pytree(weights)
        theta = parameterization.effective()
        rows = flat.reshape(-1, theta.size)
        gradient = loss.gradient(theta).reshape(-1)

        def h(rows):
            return effective(unravel(rows.reshape(-1))).reshape(-1)

        def weighted(rows):
            return jnp.sum(gradient * h(rows))

        # One row at a time moves one weight of every coordinate, and no coordinate sees another.
        moves = jnp.broadcast_to(
            jnp.eye(len(rows), dtype=flat.dtype)[:, :, None], (len(rows), *rows.shape)
        )
        jacobian = jax.vmap(lambda move: jax.jvp(h, (rows,), (move,))[1])(moves)
        blocks = jax.vmap(lambda move: jax.jvp(jax.grad(weighted), (rows,), (move,))[1])(moves)
        blocks = jnp.moveaxis(blocks, -1, 0)
        eigenvalues, vectors = jnp.linalg.eigh((blocks + jnp.swapaxes(blocks, 1, 2)) / 2)
        couplings = jnp.sum(vectors * jacobian.T[:, :, None], axis=1)
        factor, signs = _signed_factor(loss.design, loss.curvature(theta))
        return cls(eigenvalues, vectors, couplings, factor, signs)

    @property
    def size(self):
        return self.couplings.size

    @property
    def bound(self) -> Float[Array, ""]:
        """A bound of |H|: max |B| + |A A^T|, the latter in the Frobenius norm."""
        metric = jnp.sum(jnp.square(self.couplings), axis=1)
        gram = product(self.factor * metric[None, :], self.factor.T)
        # A zero Hessian has a bound too, for tolerances.
        return (
            float(jnp.finfo(metric.dtype).tiny)
            + jnp.max(jnp.abs(self.eigenvalues))
            + jnp.linalg.norm(gram)
        )

    def pencil(self, shift: Float[Array, ""]) -> Pencil:
        """The bordered matrix at a shift s.

        With T = [[B - s, A^T], [A, -S]] and K = F diag(q) F^T, the Schur complements of T give
        (Haynsworth)

            n_-(H - s) = n_-(B - s) + n_-(-S - K) - #{S > 0}.

        A coordinate e that stays in the border has the row (1 / q_e, F_e) in place of its part of K,
        and n_- less by [q_e < 0]. All rows and columns are scaled so that no entry exceeds 1.
        """
        eps = float(jnp.finfo(shift.dtype).eps)
        # An eigenvalue of a block that is the shift is moved by eps^2: to the side that is not counted.
        floor = eps**2 * jnp.maximum(jnp.max(jnp.abs(self.eigenvalues)), 1)
        difference = self.eigenvalues - shift
        difference = jnp.where(jnp.abs(difference) < floor, floor, difference)
        ratio = self.couplings / difference
        q, slope = jnp.sum(self.couplings * ratio, axis=1), jnp.sum(jnp.square(ratio), axis=1)
        length = jnp.linalg.norm(self.factor, axis=0)
        size = jnp.abs(q) * jnp.square(length)
        border = jnp.arange(q.size) if q.size <= BORDER else jax.lax.top_k(size, BORDER)[1]
        strong = size[border] > 1
        scale = jnp.where(
            strong, 1 / jnp.where(strong, length[border], 1), jnp.sqrt(jnp.abs(q[border]))
        )
        corner = jnp.where(
            strong,
            jnp.square(scale) / jnp.where(strong, q[border], 1),
            jnp.where(q[border] < 0, -1, 1),
        )
        rest = q.at[border].set(0)
        inner = jnp.diag(self.signs) + product(self.factor * rest[None, :], self.factor.T)
        below = jax.lax.rsqrt(1 + product(jnp.square(self.factor), jnp.abs(rest)))
        side = self.factor[:, border] * scale[None, :] * below[:, None]
        inner = -below[:, None] * inner * below[None, :]
        matrix = jnp.block([[jnp.diag(corner), side.T], [side, inner]])
        offset = jnp.sum(difference < 0) - jnp.sum(q[border] < 0) - jnp.sum(self.signs > 0)
        scale = jnp.concatenate([scale, below])
        return Pencil(
            matrix, difference, q, slope, border, scale, offset, 8 * eps * len(matrix) ** 0.5
        )

    def counts(self, shift):
        pencil = self.pencil(shift)
        values = jnp.linalg.eigvalsh(pencil.matrix)
        least = pencil.offset + jnp.sum(values < -pencil.rounding)
        return least, pencil.offset + jnp.sum(values < pencil.rounding)

    def extremes(self, k):
        wanted = jnp.concatenate([jnp.arange(k), jnp.arange(self.size - k, self.size)])
        values = jax.lax.map(self.eigenvalue, wanted)
        # A shift beside the eigenvalue, outward: at it the products would lose all digits.
        outward = jnp.where(wanted < k, -1, 1) * float(jnp.finfo(values.dtype).eps) ** 0.5
        shifts = values + outward.astype(values.dtype) * self.bound
        # Starts that differ, so that equal eigenvalues have independent vectors.
        spread = jnp.arange(2 * k * self.size).astype(values.dtype)
        starts = jnp.cos(spread**2).reshape(2 * k, *self.couplings.T.shape)
        vectors = jax.lax.map(lambda pair: self._inverse_iteration(*pair), (shifts, starts))
        return values, vectors

    def eigenvalue(self, index: Int[Array, ""]) -> Float[Array, ""]:
        """The eigenvalue of a given index, ascending from 0.

        The eigenvalues of G fall with s between those of the blocks, and the index gives which of
        them is zero at the eigenvalue of H. A Newton step for it is taken a unit of rounding too far, so
        that the bracket closes from both sides; where it leaves the bracket, which counting keeps, and each
        fourth time, the bracket is halved: next to an eigenvalue of a block a step is short without need.
        """
        bound = 1.01 * self.bound
        precision = 2 * float(jnp.finfo(bound.dtype).eps) * bound

        def going(state):
            low, high, _, number = state
            return (high - low > 4 * precision) & (number < MOST_STEPS)

        def advance(state):
            low, high, shift, number = state
            pencil = self.pencil(shift)
            values, vectors = jnp.linalg.eigh(pencil.matrix)
            place = index - pencil.offset
            below = jnp.sum(values < 0) > place
            low, high = jnp.where(below, low, shift), jnp.where(below, shift, high)
            found = jnp.clip(place, 0, len(values) - 1)
            step = values[found] / self._fall(pencil, vectors[:, found])
            newton = shift + step + jnp.where(step < 0, -precision, precision)
            fast = (place == found) & (newton > low) & (newton < high) & (number % 4 < 3)
            return low, high, jnp.where(fast, newton, (low + high) / 2), number + 1

        low, high, _, _ = jax.lax.while_loop(
            going, advance, (-bound, bound, jnp.zeros_like(bound), 0)
        )
        return (low + high) / 2

    def _fall(self, pencil: Pencil, vector: Float[Array, " G"]) -> Float[Array, ""]:
        """Minus the derivative of an eigenvalue of G with respect to the shift."""
        border, q = pencil.border, pencil.resolvent[pencil.border]
        y, z = jnp.split(pencil.scale * vector, [border.size])
        part = jnp.where(q != 0, 1 / jnp.where(q != 0, q, 1), 0)
        inner = pencil.slope.at[border].set(0)
        return jnp.sum(pencil.slope[border] * jnp.square(part * y)) + jnp.sum(
            inner * jnp.square(product(self.factor.T, z))
        )

    def _inverse_iteration(
        self, shift: Float[Array, ""], start: Float[Array, "m D"]
    ) -> Float[Array, " P"]:
        pencil = self.pencil(shift)
        spectrum = jnp.linalg.eigh(pencil.matrix)

        def improve(_, x):
            x = self._solve(pencil, spectrum, x)
            return x / jnp.linalg.norm(x)

        return jax.lax.fori_loop(0, 4, improve, start).reshape(-1)

    def _solve(
        self, pencil: Pencil, spectrum: tuple[Array, Array], right: Float[Array, "m D"]
    ) -> Float[Array, "m D"]:
        """(H - s)^-1 times a vector of weights.

        Args:
            pencil: that of the shift.
            spectrum: eigenvalues and eigenvectors of its matrix.
            right: the vector, one weight of every coordinate a row.
        """
        border, q = pencil.border, pencil.resolvent[pencil.border]
        local = jnp.sum(self.vectors * right.T[:, :, None], axis=1)
        f = jnp.sum(self.couplings * local / pencil.difference, axis=1)
        top = jnp.where(q != 0, f[border] / jnp.where(q != 0, q, 1), 0)
        known = jnp.concatenate([top, -product(self.factor, f.at[border].set(0))])
        values, vectors = spectrum
        z = product(vectors, product(vectors.T, pencil.scale * known) / values)
        z = (pencil.scale * z)[border.size :]
        force = product(self.factor.T, z)
        x = (local - self.couplings * force[:, None]) / pencil.difference
        return jnp.sum(self.vectors * x[:, None, :], axis=2).T


def fits(parameterization: AbstractParameterization, loss: Any) -> bool:
    """Test whether the Hessian has the structure, and the weights the axes of theta as their last ones."""
    if not (parameterization.separable and isinstance(loss, AbstractPredictionLoss)):
        return False
    shape = eqx.filter_eval_shape(lambda p: p.effective(), parameterization).shape
    leaves = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
    return all(leaf.shape[leaf.ndim - len(shape) :] == shape for leaf in leaves)


def _signed_factor(
    design: Float[Array, "n D"], curvature: Float[Array, " n"]
) -> tuple[Float[Array, "r D"], Float[Array, " r"]]:
    """F and the signs S with F^T S F = X^T diag(curvature) X, of min(n, D) rows."""
    if design.shape[0] > design.shape[1]:
        curvature, vectors = jnp.linalg.eigh(product(design.T * curvature[None, :], design))
        design = vectors.T
    signs = jnp.where(curvature < 0, -1, 1).astype(design.dtype)
    return jnp.sqrt(jnp.abs(curvature))[:, None] * design, signs
