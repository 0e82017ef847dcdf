"""The optimality conditions of a limit, with orthonormal rows, and the derivatives of their solution."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, product
from ddln._types import Array, Bool, Float, PyTree
from ddln.potentials import AbstractCurve


class Constraints(eqx.Module):
    """A theta = b with A = V^T, b = S^-1 U^T y, from the singular value decomposition X = U S V^T.

    Equivalent to X^T (X theta - y) = 0 for any X: fewer or more samples than coordinates, dependent
    rows, targets that no theta meets. Rows of singular values below rounding are zero.

    Attributes:
        rows: A, shape [m, d], m = min(n, d).
        target: b, shape [m].
        singular: S, 0 for the values below rounding, shape [m].
        multiplier: U S^-1, which maps multipliers of A to those of X, shape [n, m].
    """

    rows: Float[Array, "m d"]
    target: Float[Array, " m"]
    singular: Float[Array, " m"]
    multiplier: Float[Array, "n m"]

    @classmethod
    def of(cls, design: Float[Array, "n d"], target: Float[Array, " n"]) -> "Constraints":
        left, singular, right = jnp.linalg.svd(design, full_matrices=False)
        kept = singular > max(design.shape) * jnp.finfo(design.dtype).eps * singular[0]
        multiplier = jnp.where(kept[None], left / jnp.where(kept, singular, 1)[None], 0)
        return cls(
            jnp.where(kept[:, None], right, 0),
            product(multiplier.T, target),
            jnp.where(kept, singular, 0),
            multiplier,
        )

    @property
    def empty(self) -> Bool[Array, " m"]:
        """The rows that are zero."""
        return self.singular == 0

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
        matrix = product(self.rows * metric[None], self.rows.T)
        diagonal = jnp.diagonal(matrix)
        return matrix + jnp.diag(jnp.where(diagonal > 0, regularization * diagonal, 1))


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

    They solve xi(v) = X^T nu and S^-2 V^T X^T (X theta(v) - y) = 0, nu in the range of U S^-1. The
    singular vectors may be held fixed: the equations keep their solution for X nearby of the same
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
    inverse_squares = jnp.where(
        data.empty, 0, 1 / jnp.square(jnp.where(data.empty, 1, data.singular))
    )
    primal_error = (
        inverse_squares * product(rows, product(design_dot.T, misfit))
        + product(data.multiplier.T, product(design_dot, theta) - target_dot)
        + product(rows, theta_dot)
    )
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
