"""Flows from many initializations."""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import diffrax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Int, Loss
from ddln._validation import is_known, require_option
from ddln.flows import Trajectory
from ddln.flows._arguments import check_times, check_tolerances
from ddln.flows._segments import SegmentedFlow
from ddln.parameterizations import AbstractParameterization
from ddln.sweeps._engine import Job, computed
from ddln.sweeps._flow_lanes import FlowLanes
from ddln.sweeps._initializations import Initializations, as_initializations
from ddln.sweeps._limits import LimitLanes
from ddln.sweeps._plan import Plan
from ddln.sweeps._progress import ProgressLine
from ddln.sweeps._result import SweepResult
from ddln.sweeps._run_lanes import RunLanes
from ddln.sweeps._sinks import opened
from ddln.sweeps._traced import is_traced, traced
from ddln.sweeps.store import SweepStore, layout


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
    adjoint: diffrax.AbstractAdjoint | None = None,
    observe: Callable[[Any], Any] | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
    store: str | os.PathLike[str] | SweepStore | None = None,
    executor: Executor | None = None,
    progress: bool | Callable[[int, int, int], None] = True,
    throw: bool = False,
) -> SweepResult:
    """Integrates the gradient flow from many initializations.

    Lanes are computed in chunks by one compiled function; a lane that fails has a code and does not
    touch its neighbours. The order of the results is that of the initializations.

    Inside of `jax.jit`, `jax.vmap`, `jax.grad` and the like a sweep is a part of the program: a scan over
    chunks, differentiable in the weights of the initializations, in what a rule for them or `observe`
    closes over, in the loss's arrays, in `t1` and in `ts`. Reverse mode holds the derivatives of one chunk
    at a time, and takes each chunk twice.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1000)
        >>> networks = jax.vmap(lambda key: ddln.DeepDiagonal.random(key, 3, 50))(keys)
        >>> result = ddln.sweep(networks, ddln.LeastSquares(X, y), t1=100.0)
        >>> result.theta[:, -1]

    Example (a million, kept on disk; after an interruption the same call goes on):
        >>> key = jax.random.key(0)
        >>> rule = lambda i: ddln.DeepDiagonal.random(jax.random.fold_in(key, i), 3, 50)
        >>> starts = ddln.Initializations(rule, 10**6)
        >>> ddln.sweep(starts, ddln.LeastSquares(X, y), t1=100.0, store="million.zarr")
        >>> xarray.open_zarr("million.zarr")["theta"]

    Example (the gradient of a mean over random starts in their scale):
        >>> def mean_loss(scale):
        ...     rule = lambda i: ddln.DeepDiagonal.random(jax.random.fold_in(key, i), 3, 50, scale)
        ...     result = ddln.sweep(ddln.Initializations(rule, 1000), loss, t1=10.0)
        ...     return result.loss.mean()
        >>> jax.jit(jax.value_and_grad(mean_loss))(0.1)

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
        adjoint: as in `ddln.gradient_flow`: None for reverse mode, `diffrax.ForwardMode()` for `jax.jvp`.
            Counts only where the sweep is differentiated; limits have both modes.
        observe: a function of one `Trajectory` (for t1 = inf: of one `Limit`) to a pytree of arrays;
            its values are kept instead of theta, so that memory holds only what is wanted.
        chunk_size: how many lanes are computed and stored at once; None chooses. A chunk that does not
            fit in memory is computed in halves, with a warning.
        devices: devices to share each chunk, as `jax.devices()`; None takes JAX's default device.
        store: a path, a URL or a `ddln.SweepStore` to keep the results in. Each chunk is written when it
            is done; with a store that has some, only the others are computed. The arrays of the result
            are then read from it when they are indexed, and the memory of this process does not grow
            with B, but for 8 bytes a chunk and what is read.
        executor: any `concurrent.futures.Executor` to compute chunks as tasks, as `get_executor()` of a
            Dask client; None computes them here. A task that fails is tried three times. With a
            store the workers write to it, so all must reach it. Functions travel to other processes if
            cloudpickle is installed; arrays once to each.
        progress: True shows a line on a terminal; a function is called with the numbers of lanes
            done, in all, and failed (in this call) after each chunk.
        throw: True raises if any lane fails.

    Returns:
        The results of all lanes; lanes that failed have a code and a reason in `result`.

    Raises:
        ValueError: for arguments that do not fit, before the integration; for a store of another sweep,
            with what differs, or one that is being written.
        RuntimeError: if `throw=True` and a lane fails, with the reasons and their lanes.
        OSError: if the store cannot be written. Like every interruption, as Ctrl-C, it leaves the finished
            chunks in the store, and its message says how to go on.
    """
    flow, lanes = _checked(
        initializations, loss, t1, ts, coordinates, solver, rtol, atol, max_steps, observe
    )
    plan = Plan.of(lanes, chunk_size, devices)
    if is_traced(initializations, flow, observe):
        _require_plain(devices=devices, store=store, executor=executor)
        return traced(lanes, plan.width, adjoint, throw)
    return _run(plan, chunk_size, store, executor, progress, throw)


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
    store: SweepStore | None = None,
) -> None:
    """Compiles what `sweep` runs with the same arguments, which are explained there.

    To be called in a thread while another sweep runs, or to see arguments refused early. Nothing is read
    or written: of `store` only the dimensions count, which decide about the chunks.

    Raises:
        ValueError: for arguments that do not fit.
    """
    _, lanes = _checked(
        initializations, loss, t1, ts, coordinates, solver, rtol, atol, max_steps, observe
    )
    plan = Plan.of(lanes, chunk_size, devices)
    if store is not None:
        grid, _ = layout(store, plan.lanes.size, plan.width)
        plan = plan.with_width(grid.chunk_lanes)
    plan.compile()


def sweep_runs(
    run: Callable[[Int[Array, ""]], Trajectory],
    size: int,
    *,
    observe: Callable[[Any], Any] | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
    store: str | os.PathLike[str] | SweepStore | None = None,
    executor: Executor | None = None,
    progress: bool | Callable[[int, int, int], None] = True,
    throw: bool = False,
) -> SweepResult:
    """Runs anything that makes a trajectory, many times: `run(0)`, ..., `run(size - 1)`.

    Of gradient flows `ddln.sweep` makes many more a second: here the runs of a chunk are vmapped and wait
    for the longest. In return each may have its own settings, as far as they may be traced.

    Example (one start, followed to 64 different ends):
        >>> times = jnp.geomspace(1.0, 100.0, 64)
        >>> def run(index):
        ...     return ddln.gradient_flow(network, loss, times[index], throw=False)
        >>> result = ddln.sweep_runs(run, 64)

    Args:
        run: from an index (a traced integer) to a `ddln.Trajectory`; with `throw=False`, so that a run
            that fails has a code.
        size: how many runs there are.
        observe: as in `ddln.sweep`.
        chunk_size: as in `ddln.sweep`.
        devices: as in `ddln.sweep`.
        store: as in `ddln.sweep`. The fingerprint is that of the program of `run`.
        executor: as in `ddln.sweep`.
        progress: as in `ddln.sweep`.
        throw: as in `ddln.sweep`.

    Returns:
        As `ddln.sweep`.

    Raises:
        ValueError: if `run` does not return a trajectory; otherwise as `ddln.sweep`.
        RuntimeError: as `ddln.sweep`.
        OSError: as `ddln.sweep`.
    """
    if size < 1:
        raise ValueError(f"Argument `size` must be at least 1, but it is {size}.")
    plan = Plan.of(RunLanes(run, size, observe), chunk_size, devices)
    if is_traced(run, observe):
        _require_plain(devices=devices, store=store, executor=executor)
        return traced(plan.lanes, plan.width, None, throw)
    return _run(plan, chunk_size, store, executor, progress, throw)


def _checked(
    initializations, loss, t1, ts, coordinates, solver, rtol, atol, max_steps, observe
) -> tuple[SegmentedFlow, FlowLanes | LimitLanes]:
    """The flow of one lane, and all lanes; limits for t1 = inf."""
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    check_tolerances(rtol, atol, max_steps)
    limits = is_known(t1) and np.isposinf(t1)
    if limits:
        if ts is not None:
            raise ValueError(
                "Argument `ts` must be None for t1 = inf: limits have no times to save at."
            )
    else:
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
    lanes = as_initializations(initializations)
    if limits:
        return flow, LimitLanes(lanes, flow.loss, observe)
    return flow, FlowLanes(lanes, flow, observe)


def _require_plain(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"Argument `{name}` must be None inside of a JAX transformation (`jax.jit`, `jax.grad`, "
                "...), where a sweep is a part of the program."
            )


def _run(
    plan: Plan,
    chunk_size: int | None,
    store: str | os.PathLike[str] | SweepStore | None,
    executor: Executor | None,
    progress: bool | Callable[[int, int, int], None],
    throw: bool,
) -> SweepResult:
    if executor is not None and plan.devices is not None:
        raise ValueError(
            "Argument `devices` must be None with `executor`: each worker has devices of its own."
        )
    size = plan.lanes.size
    with opened(store, plan, chunk_size) as sink:
        job = Job(sink.plan, sink.grid, sink.first, sink.write)
        spans = (sink.grid.span(chunk) for chunk in sink.chunks)
        done, failed = size - sum(stop - start for start, stop in spans), 0
        report = progress if callable(progress) else ProgressLine(done) if progress else None
        try:
            # Closed, so that tasks are taken back whatever ends the loop.
            with contextlib.closing(computed(job, sink.chunks, executor)) as chunks:
                for finished in chunks:
                    sink.accept(finished)
                    done, failed = done + finished.lanes, failed + finished.failed
                    if report is not None:
                        report(done, size, failed)
        except BaseException as error:
            error.add_note(f"{done} of {size} lanes were done. {sink.how_to_go_on()}")
            raise
    result = sink.result()
    if throw and not result.okay.all():
        reasons = result.failures()
        told = [f"Lanes {where.tolist()}: {why}" for why, where in reasons.items()]
        failed = sum(map(len, reasons.values()))
        raise RuntimeError(f"{failed} of {size} lanes failed. " + " ".join(told))
    return result
