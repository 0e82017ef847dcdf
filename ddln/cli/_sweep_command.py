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
from typing import Any

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
from rich.text import Text

from ddln._numerics import usable_cores
from ddln.cli._console import console as new_console
from ddln.cli._data import read
from ddln.cli._end_time import chosen, end_time
from ddln.cli._experiment import Experiment, Outcome
from ddln.cli._explore_page import explore_page
from ddln.cli._figures import are_drawn, draw
from ddln.cli._lane_table import Source
from ddln.cli._options import SweepOptions
from ddln.cli._output import CONFIG, PAGE, STORE, SUMMARY, prepare, resume
from ddln.cli._run_config import write_config
from ddln.cli._tables import check_rows, check_table, depth_row, depth_table
from ddln.sweeps import SweepStore
from ddln.sweeps.store import decoded


def run(options: SweepOptions) -> None:
    """Run the sweep; Ctrl-C keeps what is finished."""
    console = new_console()
    _check(options)
    # A column of Unix times varies in its last digits.
    jax.config.update("jax_enable_x64", True)
    split = read(options)
    jax.config.update("jax_enable_x64", options.precision == "float64")
    if options.compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(options.compilation_cache))
        # For the workers.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(options.compilation_cache)
    if options.t1 == "auto":
        options = _with_end_time(Experiment(split, options), console)
    experiment = Experiment(split, options)
    out = _folder(options)
    store = experiment.store(options.store or str(out / STORE))
    kept = _kept(store, experiment)
    write_config(options, out)
    started = time.monotonic()
    console.print(_headline(experiment))
    if options.resume:
        console.print(_resumed(sum(kept), store), soft_wrap=True)
    outcomes: list[Outcome] = []
    try:
        with _executor(options) as executor:
            outcomes += _all_depths(experiment, store, executor, kept, console)
    except KeyboardInterrupt:
        console.print(_interrupted(store, out))
        raise SystemExit(130) from None
    # Everything is written before any of it is shown.
    rows = [depth_row(outcome, experiment) for outcome in outcomes]
    verdicts = []
    if "checks" in options.observe:
        verdicts = check_rows(outcomes, experiment.examples.described_checks())
    written = [SUMMARY, CONFIG] if options.store else [STORE, SUMMARY, CONFIG]
    summary = json.dumps(_summary(experiment, rows, verdicts), indent=2)
    (out / SUMMARY).write_text(summary, encoding="utf-8")
    if options.figures and not (_complete(kept, experiment) and are_drawn(experiment, out)):
        with console.status("drawing"):
            written += draw(outcomes, experiment, out)
            (out / PAGE).write_text(explore_page(Source(store, experiment)), encoding="utf-8")
            written.append(PAGE)
    console.print(depth_table(rows))
    if verdicts:
        console.print(check_table(verdicts))
    elapsed = time.monotonic() - started
    parts = f"Wrote {', '.join(written)} to ", (str(out), "bold"), f" in {elapsed:.0f} s."
    console.print(Text.assemble(*parts))


def _with_end_time(experiment: Experiment, console: Console) -> SweepOptions:
    """The options with the time that `auto` stands for: that of the store to go on with, or a new one."""
    options = experiment.options
    if options.resume:
        place = options.store or str(resume(options.out, None) / STORE)
        store = SweepStore(place)
        if store.exists():
            return dataclasses.replace(
                options, t1=decoded(store.to_xarray().attrs)["options"]["t1"]
            )
    with console.status("looking for a time by which the slowest flows have converged"):
        options = dataclasses.replace(options, t1=end_time(experiment))
    console.print(chosen(options, experiment))
    return options


def _folder(options: SweepOptions) -> Path:
    if options.resume:
        return resume(options.out, options.store)
    return prepare(options.out, options.overwrite)


def _summary(experiment: Experiment, rows: list, verdicts: list) -> dict[str, Any]:
    """The summary of a run, as plain data."""
    options, split = dataclasses.asdict(experiment.options), experiment.split
    packages = ("ddln", "jax", "diffrax", "equinox", "numpy")
    return {
        "options": {key: _plain(value) for key, value in options.items()},
        "data": {"name": split.name, "samples": len(split.y), "features": len(split.feature_names)},
        "feature_names": list(split.feature_names),
        "standardization": split.standardization,
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "depths": rows,
        "checks": verdicts,
    }


def _all_depths(
    experiment: Experiment,
    store: SweepStore,
    executor: Executor | None,
    kept: list[int],
    console: Console,
) -> Iterator[Outcome]:
    """Integrate the flows, depth after depth.

    Args:
        experiment: the experiment.
        store: its store.
        executor: the workers, if there are any.
        kept: numbers of flows by depth that the store has already.
        console: where the progress is shown.
    """
    depths, flows = experiment.options.depths, experiment.lanes
    failures, seconds = [0] * len(depths), 0.0
    with _progress(console) as progress, _compiling(experiment, store, executor, kept) as compiled:
        task = progress.add_task(
            "flows", total=len(depths) * flows, completed=sum(kept), failed=0, rate=0.0
        )
        for index, depth in enumerate(depths):
            progress.update(task, description=f"compiling depth {depth}")
            if depth in compiled:
                compiled[depth].result()
            progress.update(task, description=f"depth {depth}")
            # Compilation does not count for the rate, nor do flows that were kept.
            started = time.monotonic()
            since = started - seconds

            def report(
                done: int, total: int, failed: int, index: int = index, since: float = since
            ) -> None:
                failures[index] = failed
                computed = done - kept[index] + index * flows - sum(kept[:index])
                rate = computed / max(time.monotonic() - since, 1e-3)
                completed = computed + sum(kept)
                progress.update(task, completed=completed, failed=sum(failures), rate=rate)

            yield experiment.integrate(depth, store, executor, report)
            seconds += time.monotonic() - started


@contextmanager
def _executor(options: SweepOptions) -> Iterator[Executor | None]:
    """The workers that the options ask for."""
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
        # Number of XLA threads per worker.
        os.environ.setdefault("NPROC", str(max(1, usable_cores() // options.workers)))
        # Ctrl-C is for this process: the workers finish the chunks they are at.
        ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.workers, context, **ignore) as pool:
            yield pool
    else:
        yield None


def _kept(store: SweepStore, experiment: Experiment) -> list[int]:
    """Numbers of flows by depth that the store has already.

    Raises:
        ValueError: if there is a store and no `--resume`, or it is of other options.
    """
    if not store.exists():
        return [0] * len(experiment.options.depths)
    if not experiment.options.resume:
        raise ValueError(
            f"There is a store at {store.url}. Choose another place with --store, or pass --resume to go "
            "on with it."
        )
    data = store.to_xarray()
    begun, now = decoded(data.attrs).get("options", {}), experiment.identity
    differing = [name for name in begun if name in now and begun[name] != now[name]]
    if differing:
        lines = (
            f"--{n.replace('_', '-')}: {begun[n]} in the store, {now[n]} now" for n in differing
        )
        raise ValueError(
            f"The store at {store.url} is of another sweep, and was left as it is. Choose another place, "
            "or give the options that it was begun with. They differ in\n  " + "\n  ".join(lines)
        )
    try:
        return (data["result"] >= 0).sum(("initialization", "scale")).values.tolist()
    except ValueError:
        # A file is damaged. The sweep finds out how much there is.
        return [0] * len(experiment.options.depths)


def _complete(kept: list[int], experiment: Experiment) -> bool:
    return min(kept) == experiment.lanes


@contextmanager
def _compiling(
    experiment: Experiment, store: SweepStore, executor: Executor | None, kept: list[int]
) -> Iterator[dict[int, Future]]:
    """Compile all programs in their order, in a thread, while the first ones run; workers do so.

    Nothing is compiled for depths that the store has. One thread, because XLA uses several cores for
    one program.
    """
    pool = ThreadPoolExecutor(1)
    options = experiment.options
    try:
        depths = {
            depth: pool.submit(experiment.compile, depth, store)
            for depth, count in zip(options.depths, kept, strict=True)
            if executor is None and count < experiment.lanes
        }
        if options.figures and not _complete(kept, experiment):
            pool.submit(experiment.examples.compile)
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
        "--t1 must be positive and finite": options.t1 != "auto"
        and not 0 < float(options.t1) < np.inf,
        "--observe must name different things": len(set(options.observe)) < len(options.observe),
        "--workers must be at least 1": options.workers is not None and options.workers < 1,
        "--drop is for the columns of --data": bool(options.drop) and options.data is None,
        "--encode and --missing are for the columns of --data": options.data is None
        and (options.encode or options.missing != "error"),
        "--target is for the columns of --data": options.target is not None
        and options.data is None,
        "--resume and --overwrite exclude each other": options.resume and options.overwrite,
        "--workers and --address exclude each other": options.workers is not None
        and options.address is not None,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise ValueError(f"Option {message}.")


def _headline(experiment: Experiment) -> Text:
    split, options = experiment.split, experiment.options
    n, d = split.X.shape
    held_out = len(split.held_out_targets)
    lanes = len(options.depths) * experiment.lanes
    relation = "<" if n < d else "=" if n == d else ">"
    text = (
        f": {n} samples {relation} {d} features"
        + (f", {held_out} samples held out" if held_out else "")
        + f"; {lanes} flows: depths {', '.join(map(str, options.depths))}, {options.scale_count} scales"
        f" from {options.scales[0]:g} to {options.scales[1]:g}, "
        f"{options.initializations} initialization{'s' * (options.initializations > 1)}."
    )
    if len(np.unique(np.concatenate([split.y, split.held_out_targets]))) == 2:
        text += (
            f" The target {split.standardization['target']!r} has two values, and is fitted as numbers, by "
            "least squares."
        )
    return Text.assemble((split.name, "bold"), text)


def _resumed(kept: int, store: SweepStore) -> str:
    if kept:
        return f"Going on with {kept} flows that are in {store.url}."
    return f"There are no flows in {store.url} yet: beginning."


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
