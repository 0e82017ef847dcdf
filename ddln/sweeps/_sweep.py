"""Flows from many initializations."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._results import is_okay
from ddln._types import Array, Float, Loss
from ddln._validation import require_option
from ddln.flows import Trajectory, gradient_flow
from ddln.flows._arguments import check_times, check_tolerances
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps._initializations import Initializations, as_initializations
from ddln.sweeps._progress import ProgressLine
from ddln.sweeps._result import SweepResult

# Lanes of one chunk wait for its slowest lane, but share the cost of a step: some balance that.
LARGEST_CHUNK = 16


def sweep(
    initializations: AbstractParameterization | Initializations,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    ts: Any = None,
    coordinates: str = "auto",
    solver: diffrax.AbstractSolver | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    max_steps: int = 16384,
    observe: Callable[[Trajectory], Any] | None = None,
    chunk_size: int | None = None,
    progress: bool | Callable[[int, int, int], None] = True,
    throw: bool = False,
) -> SweepResult:
    """Integrates the gradient flow from many initializations.

    Lanes are computed in chunks by one compiled function; a lane that fails has a code and does not
    touch its neighbours. The order of the results is that of the initializations.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> networks = jax.vmap(lambda key: ddln.DeepDiagonal.random(key, 3, 50))(keys)
        >>> result = ddln.sweep(networks, ddln.LeastSquares(X, y), t1=100.0)
        >>> result.theta[:, -1]

    Args:
        initializations: a parameterization whose leaves have a leading axis B, or
            `ddln.Initializations(function, size)`.
        loss: as in `ddln.gradient_flow`, shared by all lanes.
        t1: the end of the integration.
        ts: the times to save at, shape [T]; None saves the end only (T = 1).
        coordinates: as in `ddln.gradient_flow`.
        solver: as in `ddln.gradient_flow`.
        rtol: as in `ddln.gradient_flow`.
        atol: as in `ddln.gradient_flow`.
        max_steps: as in `ddln.gradient_flow`.
        observe: a function of one `Trajectory` to a pytree of arrays; its values are kept instead of
            theta, so that memory holds only what is wanted.
        chunk_size: how many lanes are computed at once; None chooses.
        progress: True shows a line on a terminal; a function is called with the numbers of lanes
            done, in all, and failed after each chunk.
        throw: True raises if any lane fails.

    Returns:
        The results of all lanes; lanes that failed have a code and a reason in `result`.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and a lane fails, with the reasons and their lanes.
    """
    lanes = as_initializations(initializations)
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    if chunk_size is None:
        chunk_size = min(LARGEST_CHUNK, lanes.size)
    if chunk_size < 1:
        raise ValueError(f"Argument `chunk_size` must be at least 1, but it is {chunk_size}.")
    check_times(t1, ts)
    check_tolerances(rtol, atol, max_steps)
    report = progress if callable(progress) else ProgressLine() if progress else None
    numbers = {"t1": t1, "ts": ts, "rtol": rtol, "atol": atol}
    numbers = {k: None if v is None else jnp.asarray(v, float) for k, v in numbers.items()}
    chunks, failed = [], 0
    for start in range(0, lanes.size, chunk_size):
        stop = min(start + chunk_size, lanes.size)
        # The last chunk repeats its last lane, so that all chunks have one shape: one compilation.
        indices = jnp.minimum(jnp.arange(start, start + chunk_size), stop - 1)
        chunk = jax.device_get(
            _chunk(
                lanes,
                loss,
                indices,
                observe,
                numbers,
                coordinates=coordinates,
                solver=solver,
                max_steps=max_steps,
            )
        )
        chunks.append(jax.tree.map(lambda leaf, kept=stop - start: leaf[:kept], chunk))
        failed += int(np.sum(~np.asarray(is_okay(chunks[-1].result))))
        if report is not None:
            report(stop, lanes.size, failed)
    merged = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)
    result = SweepResult(**{field.name: getattr(merged, field.name) for field in fields(merged)})
    if throw and failed:
        reasons = [f"Lanes {where.tolist()}: {why}" for why, where in result.failures().items()]
        raise RuntimeError(f"{failed} of {lanes.size} lanes failed. " + " ".join(reasons))
    return result


class _Lane(eqx.Module):
    """The fields of `SweepResult` for one lane, and stacked for one chunk, while still traced."""

    ts: Any
    theta: Any
    loss: Any
    result: Any
    stats: Any
    values: Any
    method: str = eqx.field(static=True)


@eqx.filter_jit
def _chunk(lanes: Initializations, loss: Loss, indices, observe, numbers, **settings) -> _Lane:
    def lane(parameterization):
        flow = gradient_flow(parameterization, loss, throw=False, **numbers, **settings)
        return _Lane(
            ts=flow.ts,
            theta=flow.theta if observe is None else None,
            loss=flow.loss,
            result=flow.result,
            stats=flow.stats,
            values=None if observe is None else observe(flow),
            method=flow.method,
        )

    return eqx.filter_vmap(lane)(lanes.take(indices))
