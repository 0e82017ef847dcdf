"""Proposition 1: the squares of the layers, their differences and their signs."""

import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import Trajectory
from ddln.parameterizations import DeepDiagonal
from ddln.theory._errors import effective_error, integration_error, weight_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import Rows, fill_unreached
from ddln.theory.layers._network import deep_diagonal, squared_layer_change

# The quadrature must determine the integral at least this well for an entry to be compared.
LARGEST_RELATIVE_BRACKET = 0.25


@law(
    source="Labarrière et al. 2024, Proposition 1.1, equation 5",
    relation="==",
    axes=("time", "layer", "coordinate"),
    needs=(DeepDiagonal,),
)
def conservation(trajectory: Trajectory, loss: Loss) -> Sides:
    """The squares of all layers change by the same amount:
    u^j(t)^2 - u^j(0)^2 = u^k(t)^2 - u^k(0)^2, k the smallest layer at the start.

    Comparing each layer j with k covers all pairs. The numerical error is 2 |u^j| e_j + 2 |u^k| e_k, e
    the error of the layers. In reduced coordinates the law holds
    by construction; integrate with `coordinates="full"` to test the flow rather than the
    coordinates.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    network, rows = deep_diagonal(trajectory.initial), fill_unreached(trajectory)
    errors = _square_error(trajectory, rows)
    change = squared_layer_change(network, rows)
    smallest = jnp.argmin(jnp.abs(network.layers), axis=0)[None, None, :]
    return Sides(
        lhs=change,
        rhs=jnp.take_along_axis(change, smallest, axis=1),
        tolerance=errors + jnp.take_along_axis(errors, smallest, axis=1),
        compared=rows.reached[:, None, None],
    )


@law(
    source="Labarrière et al. 2024, Proposition 1.1, equation 4, factor corrected",
    relation="==",
    axes=("time", "layer", "coordinate"),
    needs=(DeepDiagonal,),
)
def squared_layer_rate(trajectory: Trajectory, loss: Loss, constant: float = 2.0) -> Sides:
    """d/dt (u^j)^2 = -2 theta grad L(theta), integrated:
    u^j(t)^2 - u^j(0)^2 = -2 int theta grad L(theta) ds.

    With the dual xi' = -grad L(theta) the right side is 2 int theta d xi. Along the flow theta is an
    increasing function of xi at each coordinate (the inverse mirror map), so between two saved
    times the integral lies between theta_k (xi_{k+1} - xi_k) and theta_{k+1} (xi_{k+1} - xi_k),
    for every course of the flow in between: the trapezoidal sum has the error
    sum |d theta| |d xi| / 2 at most, which is rigorous. Entries that the sum does not determine to a
    quarter are not compared: save more often.

    Equation 4 of the source prints the rate -theta g, `constant=1`; multiplying the flow by u^j
    gives half the derivative of the square, hence 2.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; it enters through the dual.
        constant: the factor of theta grad L; other values than 2 are for refutation.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    network, rows = deep_diagonal(trajectory.initial), fill_unreached(trajectory)
    theta0 = network.effective()[None]
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
    return Sides(
        lhs=squared_layer_change(network, rows),
        rhs=work[:, None, :],
        tolerance=_square_error(trajectory, rows) + (bracket + constant * propagated)[:, None, :],
        compared=(rows.reached[:, None] & determined)[:, None, :],
        remarks={f"The factor is {constant:g}, not 2": jnp.array(constant != 2)},
    )


@law(
    source="Labarrière et al. 2024, Proposition 1.2",
    relation="<",
    axes=("time", "layer", "coordinate"),
    needs=(DeepDiagonal,),
)
def sign_preservation(trajectory: Trajectory, loss: Loss) -> Sides:
    """A layer that is not smallest at its coordinate at the start never changes sign:
    0 < sign(u^j(0)) u^j(t).

    Compared for the layers with |u^j(0)| > min_k |u^k(0)|, which never vanish. In reduced
    coordinates the law holds by construction; integrate with `coordinates="full"` to test it.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal`.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d]. Its hypothesis is that some
        layer is not smallest; Assumption A is not needed.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    start = deep_diagonal(trajectory.initial).layers
    rows = fill_unreached(trajectory)
    larger = jnp.abs(start) > jnp.min(jnp.abs(start), axis=0, keepdims=True)
    signed = jnp.sign(start)[None] * deep_diagonal(rows.parameterization).layers
    return Sides(
        lhs=jnp.zeros_like(signed),
        rhs=signed,
        tolerance=weight_error(trajectory, rows).layers,
        compared=rows.reached[:, None, None] & larger[None],
        hypotheses={"some layer is larger than the smallest one": jnp.any(larger)},
    )


def _square_error(trajectory: Trajectory, rows: Rows) -> Float[Array, "T L d"]:
    """The numerical error of the squares of the layers."""
    error = weight_error(trajectory, rows).layers
    return 2 * jnp.abs(deep_diagonal(rows.parameterization).layers) * error + jnp.square(error)
