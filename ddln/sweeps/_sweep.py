"""Flows from many initializations."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._results import is_okay
from ddln._types import Array, Float, Loss
from ddln._validation import is_known, require_option
from ddln.flows._arguments import check_times, check_tolerances
from ddln.flows._segments import SegmentedFlow
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps._batches import in_batches
from ddln.sweeps._initializations import Initializations, as_initializations
from ddln.sweeps._limits import chunk_of_limits
from ddln.sweeps._progress import ProgressLine
from ddln.sweeps._queue import WIDTH, drain
from ddln.sweeps._result import SweepResult

# A chunk holds this many lanes, if its saved rows take no more memory than CHUNK_BYTES.
CHUNK = 1024
CHUNK_BYTES = 2**28


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
    observe: Callable[[Any], Any] | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
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
        t1: the end of the integration; inf asks for limits (`ddln.limit`, with its own tolerances and
            numbers of steps) in place of flows, and needs a `ddln.LeastSquares`.
        ts: the times to save at, shape [T]; None saves the end only (T = 1).
        coordinates: as in `ddln.gradient_flow`.
        solver: as in `ddln.gradient_flow`.
        rtol: as in `ddln.gradient_flow`.
        atol: as in `ddln.gradient_flow`.
        max_steps: as in `ddln.gradient_flow`.
        observe: a function of one `Trajectory` (for t1 = inf: of one `Limit`) to a pytree of arrays;
            its values are kept instead of theta, so that memory holds only what is wanted.
        chunk_size: how many lanes are computed at once; None chooses. A chunk that does not fit in
            memory is halved, with a warning.
        devices: devices to share each chunk, as `jax.devices()`; None takes JAX's default device.
        progress: True shows a line on a terminal; a function is called with the numbers of lanes
            done, in all, and failed after each chunk.
        throw: True raises if any lane fails.

    Returns:
        The results of all lanes; lanes that failed have a code and a reason in `result`.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and a lane fails, with the reasons and their lanes.
    """
    plan = _plan(
        initializations,
        loss,
        t1,
        ts,
        coordinates,
        solver,
        rtol,
        atol,
        max_steps,
        observe,
        chunk_size,
        devices,
    )
    size = plan.lanes.size
    report = progress if callable(progress) else ProgressLine() if progress else None
    chunks, done, failed = [], 0, 0
    while done < size:
        program, arguments = plan.chunk(done)
        try:
            chunk = jax.device_get(program(*arguments))
        except jax.errors.JaxRuntimeError as error:
            plan = plan.halved(error)
            continue
        kept = min(plan.chunk_size, size - done)
        chunks.append(jax.tree.map(lambda leaf, kept=kept: leaf[:kept], chunk))
        done += kept
        failed += int(np.sum(~np.asarray(is_okay(chunks[-1].result))))
        if report is not None:
            report(done, size, failed)
    merged = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks)
    result = SweepResult(**{field.name: getattr(merged, field.name) for field in fields(merged)})
    if throw and failed:
        reasons = [f"Lanes {where.tolist()}: {why}" for why, where in result.failures().items()]
        raise RuntimeError(f"{failed} of {size} lanes failed. " + " ".join(reasons))
    return result


def compile_sweep(
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
    observe: Callable[[Any], Any] | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> None:
    """Compiles what `sweep` runs with the same arguments, which are explained there.

    To be called in a thread while another sweep runs, or to see arguments refused early.

    Raises:
        ValueError: for arguments that do not fit.
    """
    plan = _plan(
        initializations,
        loss,
        t1,
        ts,
        coordinates,
        solver,
        rtol,
        atol,
        max_steps,
        observe,
        chunk_size,
        devices,
    )
    program, arguments = plan.chunk(0)
    program.lower(*arguments).compile()


class _Plan(NamedTuple):
    """A sweep whose arguments have been checked."""

    lanes: Initializations
    flow: SegmentedFlow
    observe: Callable[[Any], Any] | None
    chunk_size: int
    devices: tuple[Any, ...] | None
    limits: bool

    def chunk(self, start: int) -> tuple[Any, tuple]:
        """The compiled function for the chunk that begins at this lane, and its arguments."""
        # The last chunk repeats its last lane, so that all chunks have one shape: one compilation.
        indices = jnp.minimum(jnp.arange(start, start + self.chunk_size), self.lanes.size - 1)
        program = _chunk_of_limits if self.limits else _chunk
        return _on_devices, (program, self.lanes, indices, self.flow, self.observe, self.devices)

    def halved(self, error: RuntimeError) -> "_Plan":
        """The plan for chunks of half the size, if this error is one of memory."""
        smallest = 1 if self.devices is None else len(self.devices)
        if "RESOURCE_EXHAUSTED" not in str(error) or self.chunk_size <= smallest:
            raise error
        size = _multiple(self.chunk_size // 2, smallest)
        warnings.warn(
            f"Chunks of {self.chunk_size} lanes do not fit in memory; the sweep goes on with {size}. "
            f"Pass `chunk_size={size}` to begin with it.",
            stacklevel=3,
        )
        return self._replace(chunk_size=size)


def _plan(
    initializations,
    loss,
    t1,
    ts,
    coordinates,
    solver,
    rtol,
    atol,
    max_steps,
    observe,
    chunk_size,
    devices,
) -> _Plan:
    lanes = as_initializations(initializations)
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    if chunk_size is None:
        chunk_size = _chunk_size(lanes, ts)
    if chunk_size < 1:
        raise ValueError(f"Argument `chunk_size` must be at least 1, but it is {chunk_size}.")
    if devices is not None:
        devices = tuple(devices)
        if not devices:
            raise ValueError("Argument `devices` must name at least one device, but it is empty.")
        chunk_size = _multiple(chunk_size, len(devices))
    check_tolerances(rtol, atol, max_steps)
    limits = is_known(t1) and bool(np.isposinf(t1))
    if limits and ts is not None:
        raise ValueError(
            "Argument `ts` must be None for t1 = inf: limits have no times to save at."
        )
    if not limits:
        check_times(t1, ts)
    flow = SegmentedFlow(
        loss=loss,
        t1=jnp.asarray(t1, float),
        ts=None if ts is None else jnp.asarray(ts, float),
        rtol=jnp.asarray(rtol, float),
        atol=jnp.asarray(atol, float),
        solver=solver,
        coordinates=coordinates,
        dual=observe is not None,
        max_steps=max_steps,
    )
    return _Plan(lanes, flow, observe, chunk_size, devices, limits)


class _Lane(eqx.Module):
    """The fields of `SweepResult` for one lane, and stacked for one chunk, while still traced."""

    ts: Any
    theta: Any
    loss: Any
    result: Any
    stats: Any
    values: Any
    method: str = eqx.field(static=True)


def _chunk_size(lanes: Initializations, ts) -> int:
    """Few enough lanes that memory is bounded, and that some chunks show progress."""
    one = eqx.filter_eval_shape(lambda: lanes.function(jnp.zeros((), int)))
    weights = sum(leaf.size for leaf in jax.tree.leaves(one) if hasattr(leaf, "size"))
    numbers = 2 * weights * (1 if ts is None else len(ts))
    bound = max(1, min(CHUNK, CHUNK_BYTES // (8 * numbers)))
    return min(bound, lanes.size, max(2 * WIDTH, lanes.size // 16))


def _multiple(size: int, count: int) -> int:
    """The smallest multiple of `count` that is at least `size`."""
    return -(-size // count) * count


@eqx.filter_jit
def _on_devices(program, lanes, indices, flow, observe, devices) -> _Lane:
    """The lanes of a chunk, shared out among devices; each works through its own."""
    if devices is None:
        return program(lanes, indices, flow, observe)
    arrays, rest = eqx.partition((lanes, flow, observe), eqx.is_array)

    def share(indices, arrays):
        lanes, flow, observe = eqx.combine(arrays, rest)
        return program(lanes, indices, flow, observe)

    mesh = jax.sharding.Mesh(np.array(devices), ("lanes",))
    along, whole = jax.sharding.PartitionSpec("lanes"), jax.sharding.PartitionSpec()
    # Lanes are independent, so what the loops carry need not be proved to vary with the device.
    shared = jax.shard_map(
        share, mesh=mesh, in_specs=(along, whole), out_specs=along, check_vma=False
    )
    # Dealt out like cards: neighbours often cost the same.
    dealt = indices.reshape(-1, len(devices)).T.reshape(-1)
    return jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf.reshape(len(devices), -1, *leaf.shape[1:]), 0, 1).reshape(
            leaf.shape
        ),
        shared(dealt, arrays),
    )


def _chunk_of_limits(lanes: Initializations, indices, flow: SegmentedFlow, observe) -> _Lane:
    return _Lane(**chunk_of_limits(lanes, indices, flow.loss, observe), method="limit")


def _chunk(lanes: Initializations, indices, flow: SegmentedFlow, observe) -> _Lane:
    stack = lanes.take(indices)
    starts, progress = eqx.filter_vmap(flow.begin)(stack)
    finished = drain(flow, starts, progress)

    def lane(start, progress):
        trajectory = flow.finish(start, progress)
        return _Lane(
            ts=trajectory.ts,
            theta=trajectory.theta if observe is None else None,
            loss=trajectory.loss,
            result=trajectory.result,
            stats=trajectory.stats,
            values=None if observe is None else observe(trajectory),
            method=trajectory.method,
        )

    arrays, static = eqx.partition(starts, eqx.is_array)
    return in_batches(
        lambda lane_of: lane(eqx.combine(lane_of[0], static), lane_of[1]),
        (arrays, finished),
        WIDTH,
    )
