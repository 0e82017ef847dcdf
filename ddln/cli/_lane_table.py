"""The lanes of a store as a table: what became of each, and numbers of it along its time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ddln.cli._experiment import UNCONVERGED, Experiment
from ddln.limits import minimum_l1, minimum_l2
from ddln.sweeps import SweepStore
from ddln.sweeps.store import MISSING, OpenStore

# Saved times that a page shows, and numbers of one kind that are in memory at once.
MOST_TIMES, MOST_NUMBERS = 64, 10**7
CHECK, MARGIN = "check_", "margin_"
# Arrays of a store that are no numbers to be looked at.
APART = ("time", "theta", "end", "limit", "okay", "result")
LIMIT = "distance to the limit"
LABELS = {
    "loss": "training loss",
    "steps": "steps",
    "num_accepted_steps": "accepted steps",
    "num_rejected_steps": "rejected steps",
    "norms_l1": "l1 norm",
    "norms_l2": "l2 norm",
    "held_out": "held-out error",
}


@dataclass
class LaneTable:
    """One row for each lane, in the order of the store.

    Attributes:
        rows: the saved times that are kept, as indices.
        times: these times, where all lanes have the same ones; else None.
        codes: result codes, -1 where a lane is missing, shape [N].
        okay: whether a lane was computed and did not fail, shape [N].
        numbers: numbers by label, shape [N, times] or [N]; NaN where a lane did not get there.
        statuses: outcomes of checks by name, -1 where a lane is missing, shape [N].
        unconverged: lanes that are still on their way at each time, shape [N, times]; None if the
            least loss is not known.
    """

    rows: np.ndarray
    times: np.ndarray | None
    codes: np.ndarray
    okay: np.ndarray
    numbers: dict[str, np.ndarray]
    statuses: dict[str, np.ndarray]
    unconverged: np.ndarray | None

    @property
    def missing(self) -> np.ndarray:
        return self.codes == MISSING

    @property
    def failed(self) -> np.ndarray:
        return ~self.missing & ~self.okay

    @property
    def outcomes(self) -> np.ndarray:
        """The outcome of each lane: 1 if it had not converged at its end, 3 if it failed, -1 if missing."""
        on = 0 if self.unconverged is None else self.unconverged[:, -1]
        codes = np.where(self.missing, -1, np.where(self.okay, on, 3))
        return codes.astype(np.int8)


@dataclass(frozen=True)
class Source:
    """A store to look at, with the experiment that it is of, where that is known."""

    store: SweepStore
    experiment: Experiment | None

    @cached_property
    def opened(self) -> OpenStore:
        return OpenStore.at(self.store.url)

    @cached_property
    def data(self) -> Any:
        return self.store.to_xarray()

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The first lane of each finished chunk, and its arrays with one axis for the lanes."""
        for chunk in self.opened.marked():
            if self.opened.damage(chunk):
                continue
            start, stop = self.opened.grid.span(chunk)
            region = dict(zip(self.opened.header.dims, self.opened.grid.region(chunk), strict=True))
            block = self.data.isel(region).load()
            depth = len(region)
            yield (
                start,
                {
                    str(name): value.to_numpy().reshape(stop - start, *value.shape[depth:])
                    for name, value in block.data_vars.items()
                },
            )

    @cached_property
    def references(self) -> dict[str, np.ndarray]:
        """The solutions that flows are compared with, by the label of the distance."""
        if self.experiment is None:
            return {}
        X, y = self.experiment.split.X, self.experiment.split.y
        return {
            "distance to the l1 solution": minimum_l1(X, y),
            "distance to the l2 solution": minimum_l2(X, y),
        }

    def table(self) -> LaneTable:
        """Read all lanes, a chunk at a time."""
        lanes, saves = self.opened.grid.lanes, self.data.sizes["save"]
        count = min(saves, MOST_TIMES, max(2, MOST_NUMBERS // lanes))
        rows = np.unique(np.linspace(0, saves - 1, count).round().astype(int))
        if count == 1:
            rows = np.array([saves - 1])
        table = LaneTable(rows, None, np.full(lanes, MISSING), np.zeros(lanes, bool), {}, {}, None)
        least = np.full(len(rows), np.inf)
        most = np.full(len(rows), -np.inf)
        for start, block in self.blocks():
            part = slice(start, start + len(block["okay"]))
            table.codes[part], table.okay[part] = block["result"], block["okay"]
            time = block["time"][:, rows]
            there = np.isfinite(time)
            least = np.minimum(least, np.where(there, time, np.inf).min(axis=0))
            most = np.maximum(most, np.where(there, time, -np.inf).max(axis=0))
            for label, values in self._numbers(block, rows, saves).items():
                blank = np.full((lanes, *values.shape[1:]), np.nan, np.float32)
                table.numbers.setdefault(label, blank)[part] = values
            for name in filter(lambda name: name.startswith(CHECK), block):
                blank = np.full(lanes, -1, np.int8)
                label = name.removeprefix(CHECK).replace("_", " ")
                table.statuses.setdefault(label, blank)[part] = block[name]
            self._note_unconverged(table, part, block["loss"][:, rows])
        table.times = _common(least, most)
        return table

    def _note_unconverged(self, table: LaneTable, part: slice, loss: np.ndarray) -> None:
        if self.experiment is None:
            return
        if table.unconverged is None:
            table.unconverged = np.zeros((len(table.codes), len(table.rows)), bool)
        gap = 2 * (loss - self.experiment.split.minimum)
        table.unconverged[part] = table.okay[part][:, None] & ~(gap <= UNCONVERGED)

    def _numbers(
        self, block: dict[str, np.ndarray], rows: np.ndarray, saves: int
    ) -> dict[str, np.ndarray]:
        """The numbers of a chunk by label; NaN in lanes that failed."""
        found: dict[str, np.ndarray] = {}
        theta, limit = block.get("theta"), block.get("limit")
        if theta is not None:
            theta = theta[:, rows].reshape(len(theta), len(rows), -1)
        elif "end" in block:
            theta = block["end"][:, None, :]
        if theta is not None:
            found |= self._of_theta(np.where(np.isfinite(theta), theta, np.nan), limit)
        if limit is not None:
            at_infinity = self._of_theta(limit[:, None, :])
            found |= {f"{label}, t = infinity": values for label, values in at_infinity.items()}
        for name, values in block.items():
            if name in APART or name.startswith(CHECK) or values.dtype.kind not in "fiu":
                continue
            label = LABELS.get(name, name.replace(MARGIN, "margin: ").replace("_", " "))
            if values.ndim == 2 and values.shape[1] == saves:
                found[label] = values[:, rows]
            elif values.ndim == 1:
                found[label] = values
        if theta is None and LABELS["norms_l1"] in found and LABELS["norms_l2"] in found:
            found["effective sparsity"] = _sparsity(*(found[LABELS[f"norms_l{p}"]] for p in (1, 2)))
        okay = block["okay"]
        kept = {}
        for label, values in found.items():
            # Numbers of steps are known of lanes that failed, too.
            fine = okay if values.dtype.kind == "f" else np.ones_like(okay)
            shape = (len(okay),) + (1,) * (values.ndim - 1)
            fine = fine.reshape(shape) & np.isfinite(values)
            kept[label] = np.where(fine, values, np.nan)
        return kept

    def _of_theta(
        self, theta: np.ndarray, limit: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Numbers of theta [lanes, times, d]; of its ends alone [lanes, 1, d], without an axis of time.

        With the limits [lanes, d] of the flows also the distance from them.
        """
        ends = dict(self.references)
        if limit is not None:
            ends[LIMIT] = limit[:, None, :]
        found = {
            label: np.linalg.norm(theta - end, axis=-1) / np.linalg.norm(end, axis=-1)
            for label, end in ends.items()
        }
        l1, l2 = np.abs(theta).sum(axis=-1), np.linalg.norm(theta, axis=-1)
        found["effective sparsity"] = _sparsity(l1, l2)
        found[LABELS["norms_l1"]] = l1
        if self.experiment is not None and len(self.experiment.split.held_out_targets):
            found[LABELS["held_out"]] = self.experiment.split.error(theta)
        alone = theta.shape[1] == 1
        return {label: values[:, 0] if alone else values for label, values in found.items()}


def _sparsity(l1: np.ndarray, l2: np.ndarray) -> np.ndarray:
    return (l1 / np.where(l2 > 0, l2, 1)) ** 2


def _common(least: np.ndarray, most: np.ndarray) -> np.ndarray | None:
    """The times that all lanes have saved at, as far as they got there."""
    never = most == -np.inf
    if not np.array_equal(least[~never], most[~never]):
        return None
    # No flow got there; a limit is at infinity.
    return np.where(never, np.inf, most)
