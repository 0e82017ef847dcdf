"""Where the store of a run is."""

from pathlib import Path

from ddln.sweeps import SweepStore


def store_at(place: str) -> SweepStore:
    """The store at a path or URL, or in the folder of a run."""
    below = Path(place) / "results.zarr"
    return SweepStore(below if "://" not in place and below.is_dir() else place)
