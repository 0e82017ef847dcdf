"""The folder that a run writes to."""

import shutil
from pathlib import Path

DEFAULT = Path("ddln-results")
OURS = ("results.zarr", "summary.json")


def prepare(out: Path | None, overwrite: bool) -> Path:
    """Makes the folder of a run, without losing earlier results.

    Raises:
        ValueError: if the folder holds results (or anything else) and `overwrite` is not given.
    """
    if out is None:
        numbers = [int(path.name[4:]) for path in DEFAULT.glob("run-*") if path.name[4:].isdigit()]
        out = DEFAULT / f"run-{max(numbers, default=0) + 1:03d}"
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise ValueError(
                f"{out} is not empty. Choose another folder with --out, or pass --overwrite to "
                "replace the results in it."
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
