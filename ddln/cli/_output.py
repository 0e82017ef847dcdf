"""The folder that a run writes to."""

import shutil
from pathlib import Path

DEFAULT = Path("ddln-results")
OURS = ("results.zarr", "summary.json")


def prepare(out: Path | None, overwrite: bool, resume: bool = False) -> Path:
    """Makes the folder of a run, or finds that of a run to go on with, without losing results.

    Raises:
        ValueError: if the folder holds results (or anything else) and neither `overwrite` nor `resume`
            is given; if there is nothing to resume.
    """
    numbers = [int(path.name[4:]) for path in DEFAULT.glob("run-*") if path.name[4:].isdigit()]
    newest = max(numbers, default=0)
    if resume:
        if out is None:
            out = DEFAULT / f"run-{newest:03d}"
        if overwrite:
            raise ValueError("Options --resume and --overwrite exclude each other.")
        if not out.is_dir():
            raise ValueError(f"There is no run to resume at {out}. Name its folder with --out.")
        return out
    if out is None:
        out = DEFAULT / f"run-{newest + 1:03d}"
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise ValueError(
                f"{out} is not empty. Choose another folder with --out, pass --resume to go on with the "
                "run in it, or --overwrite to replace its results."
            )
        if not out.is_dir() or not any((out / name).exists() for name in OURS):
            raise ValueError(
                f"{out} does not hold results of ddln, so --overwrite leaves it alone."
            )
        for name in OURS:
            path = out / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return out
