"""Derivatives of a limit by the implicit function theorem."""

import jax
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.limits._constraints import Constraints
from ddln.potentials import AbstractCurve
from ddln.solvers._inverse_factor import inverse_factor
from ddln.solvers._product import product


@jax.custom_jvp
def with_derivatives(
    v: Float[Array, " d"],
    multipliers: Float[Array, " n"],
    curve: AbstractCurve,
    design: Float[Array, "n d"],
    target: Float[Array, " n"],
    data: Constraints,
) -> tuple[Float[Array, " d"], Float[Array, " n"]]:
    """v and nu as they are, as differentiable functions of the curve, X and y.

    They solve xi(v) = X^T nu and S^-2 V^T X^T (X theta(v) - y) = 0, nu in the range of U S^-1. The
    singular vectors may be held fixed: the equations then still have the same solution for X nearby,
    as long as its rank is the same, which in general needs it to be full.
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
    regularization = jnp.asarray(data.rounding, v.dtype)
    inverse = inverse_factor(data.normal_matrix(metric, regularization))

    def solve(side):
        return product(inverse.T, product(inverse, side))

    change = solve(product(rows, metric * dual_error) - primal_error)
    moved = metric * (product(rows.T, change) - dual_error)
    # Large coordinates have lost digits in the difference; the constraints determine them again.
    for _ in range(2):
        again = solve(-primal_error - product(rows, moved))
        change = change + again
        moved = moved + metric * product(rows.T, again)
    out_dot = (moved / curve.slope(v), product(data.multiplier, change))
    return (v, multipliers), out_dot
