"""The folder that a run writes to."""

import shutil
from pathlib import Path

DEFAULT = Path("ddln-results")
STORE, SUMMARY = "results.zarr", "summary.json"
CONFIG, PAGE = "run.toml", "explore.html"
FIGURES = ("layers", "coefficients", "loss", "phase", "held_out")
ENDINGS = ("png", "pdf")
# Names of what a sweep leaves in its folder; the first two make the folder that of a sweep.
OURS = (
    STORE,
    SUMMARY,
    CONFIG,
    PAGE,
    f"{STORE}.lock",
    *(f"{name}.{ending}" for name in FIGURES for ending in ENDINGS),
)


def prepare(out: Path | None, overwrite: bool) -> Path:
    """Make the folder of a run, without losing results.

    Raises:
        ValueError: if the folder holds results (or anything else) and `overwrite` is not given.
    """
    if out is None:
        return _new_run()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise ValueError(
                f"{out} is not empty. Choose another folder with --out, pass --resume to go on with the "
                "run in it, or --overwrite to replace its results."
            )
        if not holds_sweep(out):
            raise ValueError(
                f"{out} does not hold results of ddln, so --overwrite leaves it alone."
            )
        for name in OURS:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _new_run() -> Path:
    """Make the folder of the next run, which another process may be about to make."""
    DEFAULT.mkdir(exist_ok=True)
    while True:
        out = DEFAULT / f"run-{max(_runs(), default=0) + 1:03d}"
        try:
            out.mkdir()
        except FileExistsError:
            continue
        return out


def resume(out: Path | None, store: str | None) -> Path:
    """The folder of a run to go on with: a new one where there is none yet.

    A job script that is started again and again names `out` or `store`; without either the newest
    sweep below the default folder is meant, and there must be one.

    Raises:
        ValueError: if there is no such sweep, or the folder holds something else.
    """
    if out is None and store is None:
        sweeps = [number for number, folder in _runs().items() if holds_sweep(folder)]
        if not sweeps:
            raise ValueError(
                f"There is no run to resume in {DEFAULT}. Name its folder with --out, or its store with "
                "--store."
            )
        return _runs()[max(sweeps)]
    if out is None:
        return prepare(None, overwrite=False)
    strangers = [] if not out.is_dir() else [p.name for p in out.iterdir() if p.name not in OURS]
    if (strangers and not holds_sweep(out)) or (out.exists() and not out.is_dir()):
        raise ValueError(
            f"There is no run to resume at {out}, which holds something else"
            f"{': ' * bool(strangers)}{', '.join(sorted(strangers)[:3])}. Name another folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    return out


def holds_sweep(folder: Path) -> bool:
    """True if the folder holds the results of a sweep, finished or not."""
    return any((folder / name).exists() for name in (STORE, SUMMARY))


def _runs() -> dict[int, Path]:
    """The folders of runs below the default one, by number."""
    return {int(p.name[4:]): p for p in DEFAULT.glob("run-*") if p.name[4:].isdigit()}
