"""The cells of a map: the lanes of a store by row and column, summed up, and the lanes to show of each."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ddln.cli._lane_table import LaneTable

# Cells of a map, the most; neighbours share one beyond.
MOST_ROWS, MOST_COLUMNS = 24, 64
# A map of its own for each entry of the other dimensions, if there are no more.
MOST_PLANES = 8


@dataclass(frozen=True)
class Axis:
    """A dimension along which cells are laid out.

    Attributes:
        name: of the dimension; empty if there is none.
        size: number of its entries.
        labels: a number for each entry.
        most: number of cells, at most.
    """

    name: str
    size: int
    labels: np.ndarray
    most: int

    @cached_property
    def bins(self) -> np.ndarray:
        """The cell of each entry."""
        return np.arange(self.size) * self.count // self.size

    @property
    def count(self) -> int:
        return min(self.size, self.most)

    def texts(self) -> list[str]:
        """A label for each cell: an entry, or the first and the last of several."""
        if not self.name:
            return ["all"]
        digits = ".4g" if self.labels.dtype.kind == "f" else "d"
        texts = [format(label, digits) for label in self.labels]
        ends = [np.flatnonzero(self.bins == cell)[[0, -1]] for cell in range(self.count)]
        return [texts[a] if a == b else f"{texts[a]} to {texts[b]}" for a, b in ends]


@dataclass(frozen=True)
class MapCells:
    """The lanes of a store by row and column of a map.

    Attributes:
        dims: the dimensions of the store, in its order.
        labels: a number for each entry of each.
        sizes: number of entries of each.
    """

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: dict[str, np.ndarray]

    @cached_property
    def columns(self) -> Axis:
        name = "scale" if "scale" in self.dims else self.dims[-1]
        return self._axis(name, MOST_COLUMNS)

    @cached_property
    def rows(self) -> Axis:
        rest = [dim for dim in self.dims if dim != self.columns.name]
        if not rest:
            return Axis("", 1, np.zeros(1), 1)
        name = "depth" if "depth" in rest else rest[0]
        return self._axis(name, MOST_ROWS)

    @property
    def others(self) -> list[str]:
        """The dimensions that cells sum up."""
        return [dim for dim in self.dims if dim not in (self.rows.name, self.columns.name)]

    def _axis(self, name: str, most: int) -> Axis:
        return Axis(name, self.sizes[self.dims.index(name)], self.labels[name], most)

    @property
    def count(self) -> int:
        return self.rows.count * self.columns.count

    def index(self, lanes: np.ndarray) -> dict[str, np.ndarray]:
        """The places of lanes along each dimension."""
        return dict(zip(self.dims, np.unravel_index(lanes, self.sizes), strict=True))

    def cell(self, lanes: np.ndarray) -> np.ndarray:
        """The cell of each lane."""
        index = self.index(lanes)
        column = self.columns.bins[index[self.columns.name]]
        row = self.rows.bins[index[self.rows.name]] if self.rows.name else 0
        return row * self.columns.count + column

    @cached_property
    def all_cells(self) -> np.ndarray:
        """The cell of every lane."""
        return self.cell(np.arange(int(np.prod(self.sizes))))

    @cached_property
    def planes(self) -> list[tuple[str, np.ndarray]]:
        """The maps there are: that of all lanes, and one for each entry of the others if they are few."""
        lanes = np.arange(int(np.prod(self.sizes)))
        index = self.index(lanes)
        sizes = [self.sizes[self.dims.index(dim)] for dim in self.others]
        count = int(np.prod(sizes))
        everything = np.ones(lanes.size, bool)
        if count == 1:
            return [("each flow", everything)]
        name = " and ".join(self.others)
        planes = [(f"median of {count} ({name})", everything)]
        if count <= MOST_PLANES:
            for place in np.ndindex(*sizes):
                at = dict(zip(self.others, place, strict=True))
                chosen = np.logical_and.reduce([index[dim] == i for dim, i in at.items()])
                text = ", ".join(f"{dim} {self.labels[dim][i]:g}" for dim, i in at.items())
                planes.append((text, chosen))
        return planes

    def counts(self, lanes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Number of lanes of each cell that are in both masks, shape [cells] or [cells, times]."""
        kept = lanes[chosen]
        found = np.zeros((self.count, *kept.shape[1:]), np.int32)
        np.add.at(found, self.all_cells[chosen], kept)
        return found

    def median(self, values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The median of each cell over the chosen lanes that have a value, shape [cells, ...]."""
        shown = np.full((self.count, *values.shape[1:]), np.nan, np.float32)
        members = np.flatnonzero(chosen)
        cells = self.all_cells[members]
        order = np.argsort(cells, kind="stable")
        groups = np.split(members[order], np.flatnonzero(np.diff(cells[order])) + 1)
        for group in groups:
            shown[self.all_cells[group[0]]] = _median(values[group])
        return shown

    def worst(self, statuses: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The largest code of each cell, -1 where there is none."""
        shown = np.full(self.count, -1, np.int8)
        np.maximum.at(shown, self.all_cells[chosen], statuses[chosen])
        return shown

    def samples(self, table: LaneTable, most: int) -> np.ndarray:
        """Lanes to show, the same number of each cell: one of each kind first, then by even steps.

        Kinds are the result codes, and lanes that had not converged at their end.
        """
        each = max(1, most // self.count)
        kinds = table.codes.astype(int)
        if table.unconverged is not None:
            kinds = np.where(table.unconverged[:, -1], -2, kinds)
        computed = np.flatnonzero(~table.missing)
        order = computed[np.argsort(self.all_cells[computed], kind="stable")]
        bounds = np.flatnonzero(np.diff(self.all_cells[order])) + 1
        chosen: list[int] = []
        for group in np.split(order, bounds) if order.size else []:
            first = np.unique(kinds[group], return_index=True)[1]
            steps = np.linspace(0, len(group) - 1, min(each, len(group))).astype(int)
            places = list(dict.fromkeys([*first.tolist(), *steps.tolist()]))[:each]
            chosen += group[sorted(places)].tolist()
        return np.array(sorted(chosen), int)


def _median(values: np.ndarray) -> Any:
    """The median along the first axis of the values that are numbers."""
    if len(values) == 1:
        return values[0]
    ordered = np.sort(values, axis=0)  # NaN comes last
    known = np.sum(~np.isnan(values), axis=0)
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, len(values) - 1)
    pair = [np.take_along_axis(ordered, place[None], axis=0)[0] for place in (low, high)]
    return np.where(known > 0, (pair[0] + pair[1]) / 2, np.nan)
