"""The mirror flow of a moving potential, which weight decay makes of a gradient flow."""

from typing import Any

import jax
import jax.numpy as jnp

from ddln._numerics import gauss_legendre
from ddln._types import Array, Float, Loss
from ddln.flows import PiecewiseConstant, Trajectory, integrated_decay
from ddln.losses import loss_gradient
from ddln.potentials import potential
from ddln.theory._errors import effective_error, integration_error
from ddln.theory._law import Sides, law
from ddln.theory._metric import smallest_metric_eigenvalue
from ddln.theory._rows import Rows, fill_unreached

# Nodes between two saved times or jumps of the weight decay.
NODES = 16


@law(
    source="Jacobs et al. 2025, for two layers; here for every degree",
    relation="==",
    axes=("time", "coordinate"),
)
def decayed_mirror_identity(trajectory: Trajectory, loss: Loss, weight_decay: Any) -> Sides:
    """Under weight decay the potential moves: grad Q_t(theta(t)) = xi_t, where
    xi_t' = (L - 2) lambda xi_t - grad L(theta) and Q_t is the potential of the weights exp(-Lambda(t)) w_0.

    Lambda is the integral of the weight decay, L the degree of the map. So xi_t = exp((L - 2) Lambda) zeta
    with zeta = -int_0^t exp(-(L - 2) Lambda) grad L ds: for two layers the dual that was integrated along
    with the flow. For another degree zeta is a Gauss quadrature of the dense output; what the same
    quadrature misses of the dual counts as numerical error.

    Args:
        trajectory: a gradient flow with weight decay, of a homogeneous map that has a potential; with
            dense output unless the degree is 2.
        loss: the loss it was integrated with.
        weight_decay: that of the flow: a number, a function of time or a `ddln.PiecewiseConstant`.

    Returns:
        a check with axes (time, coordinate), shape [T, D]. Its hypothesis is that the metric is regular
        at the start.

    Raises:
        ValueError: if the map has no degree, the flow is known to have no potential, or dense output or
            the dual is missing.
    """
    start, degree = trajectory.initial, trajectory.initial.homogeneity
    if degree is None:
        raise ValueError(
            "Argument `trajectory` must start from a map with a degree of homogeneity, but it starts from a "
            f"{type(start).__name__}: with weight decay its flow is not known to be a mirror flow."
        )
    rows = fill_unreached(trajectory)
    total = integrated_decay(weight_decay, rows.ts)

    def at_time(total, theta):
        moved = potential(start, integrated_decay=total)
        return moved.mirror_map(theta), moved.hessian_diagonal(theta)

    gradient, hessian = jax.vmap(at_time)(total, rows.theta)
    # Infinite at coordinates that do not move; these have no error either.
    finite = jnp.isfinite(hessian)
    off = jnp.where(finite, jnp.where(finite, hessian, 0) * effective_error(trajectory, rows), 0)
    if degree == 2:
        zeta, missed = rows.dual, jnp.zeros_like(rows.dual)
    else:
        zeta, missed = _rescaled_dual(trajectory, rows, loss, weight_decay, degree)
    growth = jnp.exp((degree - 2) * total).reshape(-1, *(1,) * (rows.theta.ndim - 1))
    # An error of xi_t grows with it.
    error = jnp.max(off / growth, axis=0, keepdims=True) + missed
    error = error + integration_error(trajectory, zeta)
    regular = smallest_metric_eigenvalue(start) > 0
    lhs, rhs, error = (a.reshape(len(a), -1) for a in (gradient, growth * zeta, growth * error))
    return Sides(
        lhs=lhs,
        rhs=rhs,
        tolerance=error,
        compared=rows.reached[:, None],
        hypotheses={"the metric is regular at the start": regular},
    )


def _rescaled_dual(
    trajectory: Trajectory, rows: Rows, loss: Loss, weight_decay: Any, degree: int | float
) -> tuple[Float[Array, "T *theta"], Float[Array, "T *theta"]]:
    """zeta at the saved times, and the error of its quadrature.

    The error is that of the same nodes for the dual, the integral of -grad L, which is known.
    """
    if trajectory.interpolation is None:
        raise ValueError(
            f"Argument `trajectory` must have dense output for a map of degree {degree}. Pass `dense=True` "
            "to the flow."
        )
    # Panels end at the saved times and at the jumps, across which the integrand is not smooth.
    edges = jnp.concatenate([jnp.zeros_like(rows.ts[:1]), rows.ts])
    if isinstance(weight_decay, PiecewiseConstant):
        jumps = jnp.clip(weight_decay.times.astype(edges.dtype), 0, edges[-1])
        edges = jnp.sort(jnp.concatenate([edges, jumps]))
    lengths = jnp.diff(edges)
    nodes, weights = gauss_legendre(NODES, edges.dtype)
    times = (edges[:-1, None] + lengths[:, None] * nodes[None]).reshape(-1)
    descent = jax.vmap(lambda t: -loss_gradient(loss, trajectory.evaluate(t).effective()))(times)
    shrunk = jnp.exp((2 - degree) * integrated_decay(weight_decay, times))
    areas = lengths[:, None] * jnp.asarray(weights)[None]
    index = jnp.searchsorted(edges, rows.ts, side="right") - 1

    def integral(factor):
        shape = (len(lengths), NODES) + (1,) * (descent.ndim - 1)
        summands = (areas * factor.reshape(areas.shape)).reshape(shape) * descent.reshape(
            len(lengths), NODES, *descent.shape[1:]
        )
        panels = jnp.cumsum(jnp.sum(summands, axis=1), axis=0)
        return jnp.concatenate([jnp.zeros_like(panels[:1]), panels])[index]

    missed = integral(jnp.ones_like(times)) - rows.dual
    missed = jnp.diff(missed, axis=0, prepend=jnp.zeros_like(missed[:1]))
    return integral(shrunk), jnp.cumsum(jnp.abs(missed), axis=0)
