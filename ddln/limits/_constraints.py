"""The optimality conditions of a limit, with orthonormal rows, and the derivatives of their solution."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, max_over_vmap, product
from ddln._types import Array, Bool, Float, PyTree
from ddln.potentials import AbstractCurve

# From this many rows of A on, half of A M A^T is computed and mirrored, and A is found by Cholesky
# factorizations, in an eighth of the time of a singular value decomposition.
LARGE = 128
# Steps of the power method for |X|, within a few percent.
POWERS = 32


class Constraints(eqx.Module):
    """A theta = b with orthonormal rows A, where X = F A: F = U S, A = V^T of the decomposition X = U S V^T.

    Equivalent to X^T (X theta - y) = 0 for any X: fewer or more samples than coordinates, dependent
    rows, targets that no theta meets. Rows of singular values below rounding are zero. For many rows that
    are far from dependent F is a triangular matrix.

    Attributes:
        rows: A, shape [m, d], m = min(n, d).
        target: b, shape [m].
        factor: F, shape [n, m].
        multiplier: F (F^T F)^-1, 0 in the columns of empty rows, which maps multipliers of A to those of X,
            shape [n, m].
        norm: |X|, the largest singular value.
    """

    rows: Float[Array, "m d"]
    target: Float[Array, " m"]
    factor: Float[Array, "n m"]
    multiplier: Float[Array, "n m"]
    norm: Float[Array, ""]

    @classmethod
    def of(cls, design: Float[Array, "n d"], target: Float[Array, " n"]) -> "Constraints":
        n, d = design.shape
        if not LARGE <= n <= d:
            return cls._by_singular_values(design, target)
        found, precise = cls._by_triangles(design, target)
        return jax.lax.cond(
            max_over_vmap(~precise),
            lambda: cls._by_singular_values(design, target),
            lambda: found,
        )

    @classmethod
    def _by_singular_values(cls, design: Array, target: Array) -> "Constraints":
        left, singular, right = jnp.linalg.svd(design, full_matrices=False)
        kept = singular > max(design.shape) * jnp.finfo(design.dtype).eps * singular[0]
        multiplier = jnp.where(kept[None], left / jnp.where(kept, singular, 1)[None], 0)
        singular = jnp.where(kept, singular, 0)
        return cls(
            jnp.where(kept[:, None], right, 0),
            product(multiplier.T, target),
            left * singular[None],
            multiplier,
            singular[0],
        )

    @classmethod
    def _by_triangles(cls, design: Array, target: Array) -> "tuple[Constraints, Bool[Array, '']]":
        """X = C_1 C_2 A with the Cholesky factors C_1 C_1^T = X X^T and C_2 C_2^T = (C_1^-1 X)(C_1^-1 X)^T.

        The second one takes the squared condition of X X^T back, if that leaves C_1^-1 X close to
        orthonormal (Yamamoto et al. 2015). Then the result is True, unless a pivot of X X^T is rounding,
        which makes a row of noise.
        """
        n, d = design.shape
        identity = jnp.eye(n, dtype=design.dtype)
        # A and F^-1 side by side: batched calls of LAPACK shall not run at once.
        both, factor = jnp.concatenate([design, identity], axis=1), identity
        grams, sines = [], []
        for _ in range(2):
            grams.append(product(both[:, :d], both[:, :d].T))
            triangle = jnp.linalg.cholesky(grams[-1])
            both = jax.scipy.linalg.solve_triangular(triangle, both, lower=True)
            factor = product(factor, triangle)
            sines.append(jnp.square(jnp.diagonal(triangle)) / jnp.diagonal(grams[-1]))

        def power(_, vector):
            vector = product(grams[0], vector)
            return vector / jnp.linalg.norm(vector)

        start = jnp.cos(jnp.arange(n, dtype=design.dtype))
        vector = jax.lax.fori_loop(0, POWERS, power, start)
        norm = jnp.sqrt(jnp.linalg.norm(product(grams[0], vector)))
        rows, inverse = both[:, :d], both[:, d:]
        precise = jnp.max(jnp.abs(grams[1] - identity)) < 0.1
        precise = precise & (jnp.min(sines[0]) > float(jnp.finfo(design.dtype).eps) ** 0.5)
        return cls(rows, product(inverse, target), factor, inverse.T, norm), precise

    @property
    def empty(self) -> Bool[Array, " m"]:
        """The rows that are zero."""
        return jnp.all(self.rows == 0, axis=1)

    def residual(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """|X theta - y'|, y' the part of y that can be met."""
        return jnp.linalg.norm(product(self.factor, product(self.rows, theta) - self.target))

    @property
    def rounding(self) -> float:
        """Generous bound of the relative rounding in a Cholesky factorization of A M A^T."""
        return float(jnp.finfo(self.rows.dtype).eps) * (4 + len(self.rows) / 8)

    def normal_matrix(
        self, metric: Float[Array, " d"], regularization: Float[Array, ""]
    ) -> Float[Array, "m m"]:
        """A M A^T with its diagonal raised by a share of each entry, and ones where it is zero.

        The rounding of a Cholesky factorization is relative to each entry of the diagonal, too.
        """
        matrix = _weighted_gram(self.rows, metric)
        diagonal = jnp.diagonal(matrix)
        return matrix + jnp.diag(jnp.where(diagonal > 0, regularization * diagonal, 1))


def _weighted_gram(
    rows: Float[Array, "m d"], metric: Float[Array, " d"], halvings: int = 2
) -> Float[Array, "m m"]:
    """A M A^T. Of many rows the halves are multiplied once, and so on."""
    if len(rows) < LARGE or halvings == 0:
        return product(rows * metric[None], rows.T)
    upper, lower = jnp.split(rows, [len(rows) // 2])
    first, second = (_weighted_gram(half, metric, halvings - 1) for half in (upper, lower))
    corner = product(lower * metric[None], upper.T)
    return jnp.block([[first, corner.T], [corner, second]])


@jax.custom_jvp
def with_derivatives(
    v: PyTree[Float[Array, " d"]],
    multipliers: Float[Array, " n"],
    curve: AbstractCurve,
    design: Float[Array, "n d"],
    target: Float[Array, " n"],
    data: Constraints,
) -> tuple[PyTree[Float[Array, " d"]], Float[Array, " n"]]:
    """v and nu, unchanged, with derivatives in the curve, X and y by the implicit function theorem.

    They solve xi(v) = X^T nu and (F^T F)^-1 A X^T (X theta(v) - y) = 0, nu in the range of F. A and F
    may be held fixed: the equations keep their solution for X nearby of the same
    rank, which in general needs full rank.
    """
    return v, multipliers


@with_derivatives.defjvp
def _with_derivatives_jvp(primals, tangents):
    v, multipliers = with_derivatives(*primals)
    _, _, curve, design, target, data = primals
    _, _, curve_dot, design_dot, target_dot, _ = tangents
    rows, metric = data.rows, curve.metric(v)
    theta = curve.at(v)
    xi_dot = jax.jvp(lambda c: c.dual(v), (curve,), (curve_dot,))[1]
    theta_dot = jax.jvp(lambda c: c.at(v), (curve,), (curve_dot,))[1]
    dual_error = xi_dot - product(design_dot.T, multipliers)
    misfit = product(design, theta) - target
    turned = product(data.multiplier, product(rows, product(design_dot.T, misfit)))
    primal_error = product(
        data.multiplier.T, turned + product(design_dot, theta) - target_dot
    ) + product(rows, theta_dot)
    regularization = jnp.asarray(data.rounding, metric.dtype)
    inverse = inverse_factor(data.normal_matrix(metric, regularization))

    def solve(side):
        return product(inverse.T, product(inverse, side))

    change = solve(product(rows, metric * dual_error) - primal_error)
    moved = metric * (product(rows.T, change) - dual_error)
    # Iterative refinement: large coordinates have lost digits in the difference.
    for _ in range(2):
        again = solve(-primal_error - product(rows, moved))
        change = change + again
        moved = moved + metric * product(rows.T, again)
    out_dot = (curve.tangent(v, curve_dot, moved), product(data.multiplier, change))
    return (v, multipliers), out_dot
