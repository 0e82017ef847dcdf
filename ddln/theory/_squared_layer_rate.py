"""Proposition 1.1: the rate at which the squared layers change."""

import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check
from ddln.theory._conservation import squared_layer_change, squared_layer_error
from ddln.theory._deep_diagonal import deep_diagonal
from ddln.theory._errors import effective_error, integration_error
from ddln.theory._path import path

# The quadrature must determine the integral at least this well for an entry to be compared.
LARGEST_RELATIVE_BRACKET = 0.25


def squared_layer_rate(trajectory: Trajectory, loss: Loss, constant: float = 2.0) -> Check:
    """d/dt (u^j)^2 = -2 theta g, g = grad L(theta), in integrated form.

    With the dual xi' = -g it reads u^j(t)^2 - u^j(0)^2 = 2 int theta d xi. Along the flow theta is
    an increasing function of xi at each coordinate (the inverse mirror map), so between two saved
    times the integral lies between theta_k (xi_{k+1} - xi_k) and theta_{k+1} (xi_{k+1} - xi_k),
    whatever the flow did in between: the trapezoidal sum has the error sum |d theta| |d xi| / 2 at
    most, which is rigorous. Entries that it does not determine to a quarter are not compared: save
    more often.

    Equation 4 of the source prints the rate -theta g, `constant=1`; multiplying the flow by u^j
    gives half the derivative of the square, hence 2.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; it enters through the dual.
        constant: the factor of theta g; other values than 2 are for refutation.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, Proposition 1.1, equation 4, with the factor corrected.
    """
    theta0 = deep_diagonal(trajectory.initial).effective()[None]
    rows = path(trajectory)
    theta = jnp.concatenate([theta0, rows.theta])
    dual = jnp.concatenate([jnp.zeros_like(theta0), rows.dual])
    steps = jnp.where(rows.reached[:, None], jnp.diff(dual, axis=0), 0)
    work = constant * jnp.cumsum((theta[1:] + theta[:-1]) / 2 * steps, axis=0)
    bracket = constant * jnp.cumsum(jnp.abs(jnp.diff(theta, axis=0) * steps) / 2, axis=0)
    # The integral moves by theta e_xi at its ends, and by e_theta all along.
    theta_error = jnp.max(effective_error(trajectory, rows), axis=0)
    largest = jnp.max(jnp.abs(rows.theta), axis=0)
    length = jnp.cumsum(jnp.abs(steps), axis=0)
    dual_error = integration_error(trajectory, rows.dual)
    propagated = theta_error[None] * length + 2 * largest[None] * dual_error
    determined = bracket <= LARGEST_RELATIVE_BRACKET * jnp.abs(work)
    return Check(
        name="squared_layer_rate",
        source="Labarrière et al. 2024, Proposition 1.1, equation 4, factor corrected",
        statement=(
            f"d/dt (u^j)^2 = -{constant:g} theta grad L(theta), integrated: "
            f"u^j(t)^2 - u^j(0)^2 = -{constant:g} int theta grad L(theta) ds"
        ),
        relation="==",
        axes=("time", "layer", "coordinate"),
        lhs=squared_layer_change(trajectory),
        rhs=work[:, None, :],
        tolerance=squared_layer_error(trajectory) + (bracket + constant * propagated)[:, None, :],
        compared=(rows.reached[:, None] & determined)[:, None, :],
    )
