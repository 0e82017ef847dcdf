"""The average of theta over time."""

from typing import Any

import jax
import jax.numpy as jnp

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float
from ddln.flows import Trajectory
from ddln.limits._vanishing_limit import VanishingLimit

# Nodes between two saved times.
NODES = 8


def averaged(
    path: Trajectory | VanishingLimit, ts: Float[Array, " T"] | None = None
) -> Float[Array, "T *theta"]:
    """The average (1/t) integral_0^t theta(s) ds.

    For two layers from a small start it follows the path of the Lasso: in the limit of vanishing
    initialization the average up to the time tau of `ddln.vanishing_limit` is the minimizer of
    L(theta) + |theta|_1 / tau if tau times that minimizer is monotone in every coordinate, and near it
    otherwise [@berthier2025]. In finite time tau = 2 t / log(1/eps) for two layers of product eps.

    Example (beside the Lasso):
        >>> flow = ddln.gradient_flow(network, loss, 100.0, ts=jnp.geomspace(0.1, 100.0, 100), dense=True)
        >>> ddln.averaged(flow)
        >>> path = ddln.lasso_path(X, y)
        >>> path.at(1 / tau)

    Args:
        path: a flow with dense output and saved times, between which theta is integrated by eight Gauss
            nodes: the error is that of the flow where these resolve it. Or a limit of vanishing
            initialization, whose average is exact.
        ts: the times tau > 0 at which a limit is averaged, shape [T]; None for a flow, which has its own.

    Returns:
        The averages up to each time; theta(0) at time 0, NaN at times that the flow did not reach.

    Raises:
        ValueError: if a flow has no dense output, or times do not go with the path.
    """
    if isinstance(path, VanishingLimit):
        if ts is None:
            raise ValueError(
                "Argument `ts` must give the times up to which a limit is averaged, but it is None."
            )
        return _of_limit(path, jnp.asarray(ts, path.ts.dtype))
    if ts is not None:
        raise ValueError(
            "Argument `ts` must be None for a flow: it is averaged at its saved times."
        )
    if path.interpolation is None:
        raise ValueError("Argument `path` must have dense output. Pass `dense=True` to the flow.")
    return _of_flow(path)


def _of_limit(path: VanishingLimit, ts: Float[Array, " T"]) -> Float[Array, "T *theta"]:
    """A weighted mean of the plateaus."""
    ends = jnp.append(path.ts[1:], jnp.inf)
    spent = jnp.clip(ts[:, None] - path.ts[None], 0, (ends - path.ts)[None])
    spent = jnp.where(jnp.isfinite(path.ts)[None], spent, 0)
    return product(spent / ts[:, None], path.theta)


def _of_flow(path: Trajectory) -> Float[Array, "T *theta"]:
    reached = jnp.isfinite(path.ts)
    ends = jnp.where(reached, path.ts, 0)
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    lengths = jnp.maximum(ends - starts, 0)
    nodes, weights = gauss_legendre(NODES, ends.dtype)
    times = starts[:, None] + lengths[:, None] * nodes[None]

    def theta(t: Any) -> Array:
        return path.evaluate(t).effective()

    rows = jax.vmap(jax.vmap(theta))(times)
    shape = (-1,) + (1,) * (path.theta.ndim - 1)
    panels = lengths.reshape(shape) * jnp.tensordot(
        rows, jnp.asarray(weights), axes=((1,), (0,)), precision="highest"
    )
    total, divisor = jnp.cumsum(panels, axis=0), ends.reshape(shape)
    mean = jnp.where(divisor > 0, total / jnp.where(divisor > 0, divisor, 1), rows[:1, 0])
    return jnp.where(reached.reshape(shape), mean, jnp.nan)
