"""The random problems and flows that claims share: each is computed once per settings.

Functions of one problem are at the top level of a module, so that `each` compiles them once.
"""

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._results import is_okay
from ddln._types import Array, Float, PRNGKeyArray
from ddln.claims._claim import Settings
from ddln.flows import Trajectory, gradient_flow
from ddln.losses import AbstractLoss, LeastSquares
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.problems import diabetes

# Fewer samples than coordinates, so that solutions are many and X theta = y is solvable.
SAMPLES, DIM = 6, 10
# Times of all flows that share a program: saved densely up to T1 and then at a late time, when they have
# come to rest.
TIMES, T1, LATE = 129, 10.0, 1e4
RTOL, ATOL = 1e-9, 1e-12
# Nothing is differentiated, and without checkpoints there is less to compile.
FORWARD = diffrax.ForwardMode()


def keys(settings: Settings, name: str) -> Array:
    """A random key for each problem, independent of those of every other name."""
    root = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(name.encode()))
    return jax.random.split(root, settings.problems)


def each(function: Callable, *batches: Any) -> Any:
    """A function of one problem, for all of them: trees whose arrays have a leading axis."""
    return eqx.filter_jit(eqx.filter_vmap(function))(*batches)


@cache
def losses(settings: Settings) -> LeastSquares:
    """|X theta - y|^2 / 2 with X [6, 10] standard normal / sqrt(6) and y standard normal."""
    return each(_least_squares, keys(settings, "losses"))


def _least_squares(key: PRNGKeyArray) -> LeastSquares:
    key_x, key_y = jax.random.split(key)
    X = jax.random.normal(key_x, (SAMPLES, DIM)) / SAMPLES**0.5
    return LeastSquares(X, jax.random.normal(key_y, (SAMPLES,)))


@cache
def networks(settings: Settings, depth: int) -> DeepDiagonal:
    """Standard normal layers: Assumption A holds almost surely."""
    return each(
        lambda key: DeepDiagonal.random(key, depth, DIM), keys(settings, f"networks {depth}")
    )


@cache
def flows(settings: Settings, depth: int) -> Trajectory:
    """Flows from `networks` with `losses`, of the layers themselves, at `times()`."""
    return finished(each(flow_of_layers, networks(settings, depth), losses(settings)))


def finished(flow: Trajectory) -> Trajectory:
    """The flow, or flows, if all were integrated to their end.

    Raises:
        RuntimeError: if one was not.
    """
    failed = ~np.asarray(is_okay(flow.result))
    if failed.any():
        raise RuntimeError(f"{failed.sum()} of {failed.size} flows did not reach their end.")
    return flow


def times() -> np.ndarray:
    """The saved times of flows, by default."""
    return np.append(np.linspace(0, T1, TIMES - 1), LATE)


def log_times() -> np.ndarray:
    """As many times on a log axis, for statements over many decades."""
    return np.append(0, np.geomspace(1e-3, 1e6, TIMES - 1))


def flow_of_layers(
    network: AbstractParameterization, loss: AbstractLoss, ts: Float[Array, " T"] | None = None
) -> Trajectory:
    """The flow of the layers: not of the reduced coordinates, in which the laws hold by construction."""
    ts = jnp.asarray(times()) if ts is None else ts
    return gradient_flow(
        network,
        loss,
        ts[-1],
        ts=ts,
        coordinates="full",
        rtol=RTOL,
        atol=ATOL,
        adjoint=FORWARD,
        throw=False,
    )


def reduced_flows(
    networks: DeepDiagonal, losses: LeastSquares, ts: np.ndarray, rtol: float = RTOL
) -> Trajectory:
    """Flows in reduced coordinates, all saved at the same times."""
    count = len(losses.y)
    rows = jnp.broadcast_to(jnp.asarray(ts)[None], (count, len(ts)))
    return finished(each(reduced_flow, networks, losses, rows, jnp.full(count, rtol)))


def reduced_flow(
    network: AbstractParameterization,
    loss: AbstractLoss,
    ts: Float[Array, " T"],
    rtol: float | Float[Array, ""] = RTOL,
) -> Trajectory:
    """One flow in reduced coordinates."""
    return gradient_flow(
        network, loss, ts[-1], ts=ts, rtol=rtol, atol=1e-3 * rtol, adjoint=FORWARD, throw=False
    )


@cache
def diabetes_flow(settings: Settings) -> tuple[Trajectory, LeastSquares]:
    """Three random layers on the diabetes data, 442 patients and 10 features, targets of norm 1."""
    data = diabetes()
    loss = LeastSquares(data.X, data.y / jnp.linalg.norm(data.y))
    network = DeepDiagonal.random(keys(settings, "diabetes")[0], 3, DIM)
    return finished(eqx.filter_jit(flow_of_layers)(network, loss)), loss
