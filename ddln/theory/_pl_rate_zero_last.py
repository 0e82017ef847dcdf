"""Corollary 1: the linear rate from layers of equal size and one layer at zero."""

import jax.numpy as jnp

from ddln._types import Loss, Scalar
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._integrals import Integral
from ddln.theory._linear_rate import exponential_bound, loss_gap, pl_constant, pl_hypotheses


def pl_rate_zero_last(
    trajectory: Trajectory,
    loss: Loss,
    *,
    mu: float | Scalar | None = None,
    minimum: float | Scalar | None = None,
) -> Check:
    """The bound of `pl_rate` with sigma = c^2 (alpha^2 lambda)^(L-1), lambda = min_i ubar_i^2.

    For the start u^L = 0, u^j = alpha ubar. By symmetry the zero may be in another layer at each
    coordinate, and the signs may differ.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`, such as from `DeepDiagonal.zero_last`.
        loss: the loss it was integrated with.
        mu: the PL constant; None takes that of `ddln.LeastSquares`.
        minimum: L*; None takes that of `ddln.LeastSquares`.

    Returns:
        a check with axes (time,), shape [T]. Its hypotheses are the form of the start and the PL
        inequality, the latter evaluated at the saved times.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`, or `mu` or `minimum` is neither
            given nor known.

    Source: Labarrière et al. 2024, Corollary 1 (there c = 1).
    """
    initial = deep_diagonal(trajectory.initial)
    gap = loss_gap(trajectory, loss, minimum)
    mu = pl_constant(trajectory, loss, mu)
    sizes = jnp.sort(jnp.abs(initial.layers), axis=0)
    form = (sizes[0] == 0) & (sizes[1] > 0) & (sizes[1] == sizes[-1])
    smallest = jnp.min(jnp.square(sizes[1]))
    sigma = initial.factor**2 * smallest ** (initial.depth - 1)
    exponent = 2 * sigma * mu * gap.rows.ts
    return exponential_bound(
        "pl_rate_zero_last",
        "Labarrière et al. 2024, Corollary 1",
        "L(theta(t)) - L* <= exp(-2 (alpha^2 lambda)^(L-1) mu t) (L(theta_0) - L*)",
        gap,
        Integral.exactly(exponent),
        {"one layer is zero and the others have one common size": jnp.all(form)}
        | pl_hypotheses(gap, loss, mu),
    )
