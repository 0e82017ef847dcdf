"""`ddln sweep`: the main job, from data to tables, results and figures."""

import dataclasses
import json
import platform
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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

from ddln.cli._data import Split, read
from ddln.cli._figures import draw
from ddln.cli._flows import (
    Outcome,
    compile_depth,
    described_checks,
    examples,
    one_depth,
    settings,
)
from ddln.cli._options import SweepOptions
from ddln.cli._output import prepare
from ddln.cli._tables import check_rows, check_table, depth_row, depth_table


def run(options: SweepOptions) -> None:
    """Runs the sweep; Ctrl-C keeps what is finished."""
    console = Console()
    _check(options)
    jax.config.update("jax_enable_x64", options.precision == "float64")
    if options.compilation_cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(options.compilation_cache))
    split = read(options)
    out = prepare(options.out, options.overwrite)
    started = time.monotonic()
    console.print(_headline(split, options))
    outcomes: list[Outcome] = []
    try:
        for outcome in _all_depths(split, options, console):
            _append(outcome, out / "results.zarr", first=not outcomes, options=options)
            outcomes.append(outcome)
    except KeyboardInterrupt:
        console.print(_interrupted(outcomes, options, out))
        raise SystemExit(130) from None
    rows = [depth_row(outcome, split, settings(options).scales) for outcome in outcomes]
    verdicts = check_rows(outcomes, described_checks(split, options))
    console.print(depth_table(rows))
    console.print(check_table(verdicts))
    written = ["results.zarr", "summary.json"]
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


def _all_depths(split: Split, options: SweepOptions, console: Console) -> Iterator[Outcome]:
    flows = options.initializations * options.scale_count
    with _progress(console) as progress, _compiling(split, options) as compiled:
        task = progress.add_task("flows", total=len(options.depths) * flows)
        for index, depth in enumerate(options.depths):
            progress.update(task, description=f"compiling depth {depth}")
            compiled[index].result()
            progress.update(task, description=f"depth {depth}")

            def report(done: int, total: int, failed: int, before: int = index * flows) -> None:
                progress.update(task, completed=before + done)

            yield one_depth(split, depth, options, report)


@contextmanager
def _compiling(split: Split, options: SweepOptions) -> Iterator[list[Future]]:
    """Compiles all programs in their order, in a thread, while the first ones run.

    One thread, because XLA uses several cores for one program. Programs are run by the main thread
    alone: two at once can wait for each other for ever in jaxlib's CPU backend.
    """
    pool = ThreadPoolExecutor(1)
    try:
        depths = [pool.submit(compile_depth, split, depth, options) for depth in options.depths]
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
        TextColumn("flows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _append(outcome: Outcome, store: Path, options: SweepOptions, first: bool) -> None:
    dataset = outcome.dataset(options)
    how: dict[str, Any] = {"mode": "w"} if first else {"append_dim": "depth"}
    # Format 2 has consolidated metadata, so that `xarray.open_zarr` reads it without a warning.
    dataset.to_zarr(store, zarr_format=2, **how)


def _interrupted(outcomes: list[Outcome], options: SweepOptions, out: Path) -> str:
    left = [str(depth) for depth in options.depths[len(outcomes) :]]
    if not outcomes:
        return "Interrupted. No depth was finished, so nothing was saved."
    done = ", ".join(str(outcome.depth) for outcome in outcomes)
    return (
        f"Interrupted. Saved in {out / 'results.zarr'}: depth {done}. "
        f"Not saved: depth {', '.join(left)}. Run these again with --depths {' '.join(left)}."
    )


def _plain(value):
    return str(value) if isinstance(value, Path) else value
