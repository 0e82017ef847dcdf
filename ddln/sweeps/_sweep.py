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
from ddln._validation import is_known, require_positive
from ddln.engine import AbstractDynamics, AbstractFixedSteps, PerLane, Solve
from ddln.engine.internal import in_dtype, known
from ddln.flows import GradientDynamics, MirrorTrajectory, Trajectory
from ddln.sweeps._engine import Job, computed
from ddln.sweeps._flow_lanes import FixedStepRun, FlowLanes
from ddln.sweeps._initializations import Initializations, Start, as_initializations
from ddln.sweeps._lanes import AbstractLanes
from ddln.sweeps._limits import LimitLanes
from ddln.sweeps._plan import Plan
from ddln.sweeps._progress import ProgressLine
from ddln.sweeps._result import SweepResult
from ddln.sweeps._run_lanes import RunLanes
from ddln.sweeps._sinks import opened
from ddln.sweeps._traced import is_traced, traced
from ddln.sweeps._widths import Widths, widths_for
from ddln.sweeps.store import SweepStore, layout


def sweep(
    initializations: Start | Initializations,
    loss: Loss | PerLane,
    t1: float | int | Float[Array, ""] | PerLane,
    *,
    dynamics: AbstractDynamics | AbstractFixedSteps | None = None,
    ts: Any = None,
    coordinates: str = "auto",
    weight_decay: float | Float[Array, ""] | Callable | PerLane | None = None,
    event: Callable | None = None,
    dual: bool | None = None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] | PerLane = 1e-6,
    atol: float | Float[Array, ""] | PerLane = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    observe: Callable[[Any], Any] | None = None,
    lanes: int | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
    store: str | os.PathLike[str] | SweepStore | None = None,
    executor: Executor | None = None,
    progress: bool | Callable[[int, int, int], None] = True,
    throw: bool = False,
) -> SweepResult:
    """Integrates a dynamics, gradient flow by default, from many initializations.

    A lane is an experiment: a start, and whatever of the data and of the settings is a `ddln.PerLane`.
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

    Example (momentum flows, each with a data set and an inertia of its own):
        >>> data = lambda i: ddln.LeastSquares(jax.random.normal(jax.random.fold_in(key, i), (20, 50)), y)
        >>> momentum = ddln.MomentumDynamics(inertia=ddln.PerLane(jnp.geomspace(0.1, 10.0, 1000)))
        >>> ddln.sweep(networks, ddln.PerLane(data), t1=100.0, dynamics=momentum)

    Args:
        initializations: a parameterization whose leaves have a leading axis B, or
            `ddln.Initializations(function, size)`; for mirror flows of potentials, too.
        loss: as in `ddln.gradient_flow`, shared by all lanes; or a `ddln.PerLane`.
        t1: the end of the integration; inf asks for limits (`ddln.limit`, with its own tolerances and
            numbers of steps) in place of flows, and needs a loss that this takes. For
            `ddln.DescentDynamics` the number of steps. May be a `ddln.PerLane`, as the following numbers.
        dynamics: `ddln.GradientDynamics` (the default), `ddln.MomentumDynamics`, `ddln.MirrorDynamics`, any
            other `ddln.AbstractDynamics`; or `ddln.StochasticDynamics` or `ddln.DescentDynamics`.
        ts: the times to save at, shape [T]; None saves the end only (T = 1).
        coordinates: as in `ddln.gradient_flow`; without `dynamics`.
        weight_decay: as in `ddln.gradient_flow`; without `dynamics`.
        event: as in `ddln.gradient_flow`; numbers in it may be `ddln.PerLane`.
        dual: whether the dual is integrated along, for `observe`; None: if there is an `observe`. Without
            `dynamics`.
        solver: as in `ddln.gradient_flow`.
        rtol: as in `ddln.gradient_flow`.
        atol: as in `ddln.gradient_flow`.
        max_steps: as in `ddln.gradient_flow`.
        adjoint: as in `ddln.gradient_flow`: None for reverse mode, `diffrax.ForwardMode()` for `jax.jvp`.
            Counts only where the sweep is differentiated; limits have both modes.
        observe: a function of one `Trajectory` (for t1 = inf: of one `Limit`) to a pytree of arrays;
            its values are kept instead of theta, so that memory holds only what is wanted.
        lanes: how many flows advance together, or limits are found together; one that ends makes room for
            the next. None takes what suits the platform: 32 flows on a CPU, 8192 on a GPU or TPU. The
            results do not depend on it.
        chunk_size: how many lanes are computed and stored at once; None chooses. A chunk that does not
            fit in memory is computed in halves, with a warning.
        devices: devices to share each chunk, as `jax.devices()`; None takes JAX's default device. On a CPU,
            every core that the process may use computes a chunk of its own.
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
        MemoryError: if not even one lane fits on a device.
        OSError: if the store cannot be written. Like every interruption, as Ctrl-C, it leaves the finished
            chunks in the store, and its message says how to go on.
    """
    work = lanes_of(
        initializations,
        loss,
        t1,
        widths=(widths := widths_for(devices).with_lanes(lanes)),
        dynamics=dynamics,
        coordinates=coordinates,
        weight_decay=weight_decay,
        dual=dual,
        observe=observe,
        ts=ts,
        rtol=rtol,
        atol=atol,
        solver=solver,
        event=event,
        max_steps=max_steps,
    )
    plan = Plan.of(work, widths, chunk_size, devices)
    if is_traced(work):
        _require_plain(devices=devices, store=store, executor=executor)
        return traced(work, plan.width, adjoint, throw)
    return _run(plan, chunk_size, store, executor, progress, throw)


def compile_sweep(
    initializations: Start | Initializations,
    loss: Loss | PerLane,
    t1: float | int | Float[Array, ""] | PerLane,
    *,
    lanes: int | None = None,
    chunk_size: int | None = None,
    devices: Sequence[Any] | None = None,
    store: SweepStore | None = None,
    **settings: Any,
) -> None:
    """Compiles what `sweep` runs with the same arguments, which are explained there.

    To be called in a thread while another sweep runs, or to see arguments refused early. Nothing is read
    or written: of `store` only the dimensions count, which decide about the chunks.

    Raises:
        ValueError: for arguments that do not fit.
    """
    widths = widths_for(devices).with_lanes(lanes)
    work = lanes_of(initializations, loss, t1, widths=widths, **settings)
    plan = Plan.of(work, widths, chunk_size, devices)
    if store is not None:
        grid, _ = layout(store, plan.lanes.size, plan.width)
        plan = plan.with_width(grid.chunk_lanes)
    plan.compile()


def sweep_runs(
    run: Callable[[Int[Array, ""]], Trajectory | MirrorTrajectory],
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
        run: from an index (a traced integer) to a `ddln.Trajectory` or a
            `ddln.MirrorTrajectory`; with `throw=False`, so that a run that fails has a code.
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
    plan = Plan.of(RunLanes(run, size, observe), widths_for(devices), chunk_size, devices)
    if is_traced(run, observe):
        _require_plain(devices=devices, store=store, executor=executor)
        return traced(plan.lanes, plan.width, None, throw)
    return _run(plan, chunk_size, store, executor, progress, throw)


def _dynamics(
    dynamics: AbstractDynamics | AbstractFixedSteps | None,
    coordinates: str,
    weight_decay: Any,
    dual: bool | None,
    observe: Callable | None,
) -> AbstractDynamics | AbstractFixedSteps:
    """The dynamics of a sweep; gradient flow if there is none."""
    if dynamics is None:
        dual = observe is not None if dual is None else dual
        return GradientDynamics(weight_decay, coordinates=coordinates, dual=dual)
    if not isinstance(dynamics, AbstractDynamics | AbstractFixedSteps):
        raise ValueError(
            "Argument `dynamics` must be a dynamics such as `ddln.MomentumDynamics(inertia=1.0)`, but it is "
            f"{dynamics!r}."
        )
    if coordinates != "auto" or weight_decay is not None or dual is not None:
        raise ValueError(
            "Arguments `coordinates`, `weight_decay` and `dual` must be left out with `dynamics`. "
            "Pass them to the dynamics, such as `ddln.GradientDynamics(weight_decay=0.1)`."
        )
    return dynamics


def lanes_of(
    initializations: Any,
    loss: Any,
    t1: Any,
    *,
    widths: Widths,
    dynamics: AbstractDynamics | AbstractFixedSteps | None = None,
    coordinates: str = "auto",
    weight_decay: Any = None,
    dual: bool | None = None,
    observe: Callable | None = None,
    **settings: Any,
) -> AbstractLanes:
    """The lanes of a sweep; limits for t1 = inf.

    Args:
        initializations: as in `sweep`, like all others.
        loss: as in `sweep`.
        t1: as in `sweep`.
        widths: how many lanes at once.
        dynamics: as in `sweep`.
        coordinates: as in `sweep`.
        weight_decay: as in `sweep`.
        dual: as in `sweep`.
        observe: as in `sweep`.
        **settings: of `Solve`.
    """
    if observe is not None and not callable(observe):
        raise ValueError(
            f"Argument `observe` must be None or a function of a trajectory, but it is {observe!r}."
        )
    solve = Solve(t1, **settings)
    dynamics = _dynamics(dynamics, coordinates, weight_decay, dual, observe)
    starts = as_initializations(initializations)
    if not isinstance(t1, PerLane) and is_known(t1) and np.isposinf(t1):
        return _limit_lanes(starts, loss, dynamics, solve, observe, widths)
    solve = solve.checked()
    if isinstance(dynamics, AbstractFixedSteps):
        return RunLanes(FixedStepRun.of(starts, dynamics, loss, solve), starts.size, observe)
    # As arrays: other numbers do not make another program.
    dtype = jnp.result_type(float)
    dynamics, solve = in_dtype(dynamics, dtype), solve.in_dtype(dtype)
    return FlowLanes.of(starts, dynamics, loss, solve, observe, widths)


def _limit_lanes(
    starts: Initializations,
    loss: Any,
    dynamics: Any,
    solve: Solve,
    observe: Callable | None,
    widths: Widths,
) -> LimitLanes:
    if solve.ts is not None:
        raise ValueError(
            "Argument `ts` must be None for t1 = inf: limits have no times to save at."
        )
    if solve.event is not None:
        raise ValueError("Argument `event` must be None for t1 = inf: limits have no steps.")
    if not isinstance(dynamics, GradientDynamics):
        raise ValueError(
            "Argument `dynamics` must be gradient flow for t1 = inf: the limits of others are not known "
            "without integrating. Pass a finite `t1`."
        )
    decay = in_dtype(dynamics.weight_decay, jnp.result_type(float))
    if callable(decay):
        raise ValueError(
            "Argument `weight_decay` must be a number, or a `ddln.PerLane` of numbers, for t1 = inf, but it "
            f"is {decay!r}. Pass a finite `t1`."
        )
    if (number := known(decay)) is not None:
        require_positive("weight_decay", number, " Pass None for none.")
    Solve(1.0, None, solve.rtol, solve.atol, max_steps=solve.max_steps).checked()
    return LimitLanes.of(starts, loss, decay, observe, widths.limits)


def _require_plain(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(
                f"Argument `{name}` must be None inside of a JAX transformation (`jax.jit`, `jax.grad`, "
                "...), where a sweep is a part of the program."
            )


def _check_executor(executor: Executor | None) -> None:
    """Refuse processes that are copies of this one, whose threads hold locks that nobody releases there."""
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise ValueError(
            "Argument `executor` must be None or a `concurrent.futures.Executor`, but it is "
            f"{executor!r}."
        )
    context = getattr(executor, "_mp_context", None)
    if context is not None and context.get_start_method() == "fork":
        raise ValueError(
            "Argument `executor` must start new processes, but it forks this one, which may hang for ever: "
            "JAX has threads. Pass `mp_context=multiprocessing.get_context('spawn')` to the "
            "ProcessPoolExecutor."
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
    _check_executor(executor)
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
