"""The store of a run, by its place."""

from pathlib import Path

from ddln.cli._output import STORE
from ddln.sweeps import SweepStore


def store_at(place: str) -> SweepStore:
    """The store at a path or URL, or in the folder of a run."""
    if "://" in place:
        return SweepStore(place)
    path = Path(place).expanduser()
    return SweepStore(path / STORE if (path / STORE).is_dir() else path)
