"""`ddln sweep`: the main job, from data to tables, results and figures."""

import dataclasses
import json
import multiprocessing
import os
import platform
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from ddln.cli._data import Split, read
from ddln.cli._figures import draw
from ddln.cli._flows import (
    Outcome,
    compile_depth,
    described_checks,
    examples,
    one_depth,
    settings,
    store_of,
)
from ddln.cli._options import SweepOptions
from ddln.cli._output import prepare
from ddln.cli._tables import check_rows, check_table, depth_row, depth_table
from ddln.sweeps import SweepStore


def run(options: SweepOptions) -> None:
    """Runs the sweep; Ctrl-C keeps what is finished."""
    console = Console()
    _check(options)
    jax.config.update("jax_enable_x64", options.precision == "float64")
    if options.compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(options.compilation_cache))
        # For the workers.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(options.compilation_cache)
    split = read(options)
    out = prepare(options.out, options.overwrite, options.resume)
    url = options.store or str(out / "results.zarr")
    store = store_of(url, split, options)
    kept = _kept(store, options)
    started = time.monotonic()
    console.print(_headline(split, options))
    outcomes: list[Outcome] = []
    try:
        with _executor(options) as executor:
            outcomes += _all_depths(split, options, store, executor, kept, console)
    except KeyboardInterrupt:
        console.print(_interrupted(store, out))
        raise SystemExit(130) from None
    rows = [depth_row(outcome, split, settings(options).scales) for outcome in outcomes]
    verdicts = check_rows(outcomes, described_checks(split, options))
    console.print(depth_table(rows))
    console.print(check_table(verdicts))
    written = ["summary.json"] if options.store else ["results.zarr", "summary.json"]
    summary = {
        "options": {key: _plain(value) for key, value in dataclasses.asdict(options).items()},
        "data": {"name": split.name, "samples": len(split.y), "features": len(split.feature_names)},
        "versions": {
            name: version(name) for name in ("ddln", "jax", "diffrax", "equinox", "numpy")
        },
        "python": platform.python_version(),
        "depths": rows,
        "checks": verdicts,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    if options.figures:
        with console.status("drawing"):
            written += draw(outcomes, split, options, out)
    elapsed = time.monotonic() - started
    console.print(f"Wrote {', '.join(written)} to [bold]{out}[/] in {elapsed:.0f} s.")


def _all_depths(
    split: Split,
    options: SweepOptions,
    store: SweepStore,
    executor: Executor | None,
    kept: int,
    console: Console,
) -> Iterator[Outcome]:
    flows = options.initializations * options.scale_count
    started, failures = time.monotonic(), [0] * len(options.depths)
    with _progress(console) as progress, _compiling(split, options, store, executor) as compiled:
        task = progress.add_task(
            "flows", total=len(options.depths) * flows, completed=kept, failed=0, rate=0.0
        )
        for index, depth in enumerate(options.depths):
            progress.update(task, description=f"compiling depth {depth}")
            if compiled:
                compiled[index].result()
            progress.update(task, description=f"depth {depth}")

            def report(done: int, total: int, failed: int, index: int = index) -> None:
                failures[index] = failed
                done += index * flows
                rate = (done - kept) / (time.monotonic() - started)
                progress.update(task, completed=done, failed=sum(failures), rate=rate)

            yield one_depth(split, depth, options, store, executor, report)


@contextmanager
def _executor(options: SweepOptions) -> Iterator[Executor | None]:
    """The workers that were asked for."""
    if options.address is not None:
        try:
            import distributed
        except ImportError as error:
            raise ImportError(
                f'Option --address needs Dask: pip install "ddln[distributed]" ({error})'
            ) from error
        with distributed.Client(options.address) as client:
            yield client.get_executor()
    elif options.workers is not None:
        # XLA takes so many threads in each of them.
        os.environ.setdefault("NPROC", str(max(1, (os.cpu_count() or 1) // options.workers)))
        # Ctrl-C is for this process: the workers finish the chunks they are at.
        ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, context, **ignore) as pool:
            yield pool
    else:
        yield None


def _kept(store: SweepStore, options: SweepOptions) -> int:
    """How many flows the store has already.

    Raises:
        ValueError: if there is a store and nobody asked to go on with it.
    """
    if not store.exists():
        return 0
    if not options.resume:
        raise ValueError(
            f"There is a store at {store.url}. Choose another place with --store, or pass --resume to go "
            "on with it."
        )
    return store.status().done


@contextmanager
def _compiling(
    split: Split, options: SweepOptions, store: SweepStore, executor: Executor | None
) -> Iterator[list[Future]]:
    """Compiles all programs in their order, in a thread, while the first ones run; workers do so.

    One thread, because XLA uses several cores for one program. Programs are run by the main thread
    alone: two at once can wait for each other for ever in jaxlib's CPU backend.
    """
    pool = ThreadPoolExecutor(1)
    try:
        here = options.depths if executor is None else ()
        depths = [pool.submit(compile_depth, split, depth, options, store) for depth in here]
        if options.figures:
            pool.submit(examples(split, options).compile)
        yield depths
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _check(options: SweepOptions) -> None:
    low, high = options.scales
    wrong = {
        "--depths must be one or more different numbers, each at least 2": not options.depths
        or min(options.depths) < 2
        or len(set(options.depths)) < len(options.depths),
        "--scales must be two positive numbers, the smaller one first": not 0 < low < high < np.inf,
        "--scale-count must be at least 2": options.scale_count < 2,
        "--initializations must be at least 1": options.initializations < 1,
        "--saves must be at least 8": options.saves < 8,
        "--t1 must be positive and finite": not 0 < options.t1 < np.inf,
        "--workers must be at least 1": options.workers is not None and options.workers < 1,
        "--workers and --address exclude each other": options.workers is not None
        and options.address is not None,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"Option {message}.")


def _headline(split: Split, options: SweepOptions) -> str:
    n, d = split.X.shape
    held_out = len(split.held_out_targets)
    lanes = len(options.depths) * options.scale_count * options.initializations
    relation = "<" if n < d else "=" if n == d else ">"
    return (
        f"[bold]{split.name}[/]: {n} samples {relation} {d} features"
        + (f", {held_out} samples held out" if held_out else "")
        + f"; {lanes} flows: depths {', '.join(map(str, options.depths))}, {options.scale_count} scales"
        f" from {options.scales[0]:g} to {options.scales[1]:g}, "
        f"{options.initializations} initialization{'s' * (options.initializations > 1)}."
    )


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("flows, {task.fields[failed]} failed, {task.fields[rate]:.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _interrupted(store: SweepStore, out: Path) -> str:
    if not store.exists():
        return "Interrupted. No flow was finished, so nothing was saved."
    status = store.status()
    return (
        f"Interrupted. {status.done} of {status.lanes} flows are kept in {store.url}. "
        f"Go on with the same options, --out {out} and --resume."
    )


def _plain(value):
    return str(value) if isinstance(value, Path) else value
