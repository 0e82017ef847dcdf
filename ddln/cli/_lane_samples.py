"""Single lanes to show: coefficients over time, layers with their changes of sign, loss and its bound."""

import base64
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ddln.cli._experiment import Experiment
from ddln.cli._lane_table import LaneTable, Source
from ddln.cli._map_cells import MapCells
from ddln.sweeps.store import decoded
from ddln.theory import sigma

# Coefficients and coordinates with layers of a lane, and layers of a coordinate, that are shown.
COEFFICIENTS, COORDINATES, MOST_LAYERS = 16, 3, 8
# Of all lanes together, in a page.
MOST_BYTES = 5_000_000
# 16-bit integers, of which the smallest one says that there is no number.
LARGEST, NOTHING = 32767, -32768
NEWTON_STEPS = 40
# Gaps below this many units in the last place of the first loss are not drawn.
ROUNDING = 10


def sample_lanes(source: Source, table: LaneTable, cells: MapCells) -> list[dict[str, Any]]:
    """A few lanes of each cell, as plain data; as many as a page has room for."""
    integers = COEFFICIENTS + COORDINATES * MOST_LAYERS // 2
    bytes_each = 1000 + len(table.rows) * (3 * integers + 6 * (3 + len(table.numbers)))
    chosen = cells.samples(table, MOST_BYTES // bytes_each)
    # The store says what its codes mean: another version may have others.
    meanings = decoded(source.data["result"].attrs).get("flag_meanings", [])
    messages = dict(enumerate(meanings))
    shown = []
    for start, block in source.blocks():
        stop = start + len(block["okay"])
        for lane in chosen[(chosen >= start) & (chosen < stop)]:
            row = {name: values[lane - start] for name, values in block.items()}
            one = _lane(int(lane), row, table, cells)
            shown.append(one | {"result": messages.get(one["code"], f"code {one['code']}")})
    if source.experiment is not None:
        _add_layers_and_bounds(shown, source.experiment, table)
    for lane in shown:
        _pack(lane)
    return shown


def _lane(lane: int, row: dict[str, Any], table: LaneTable, cells: MapCells) -> dict[str, Any]:
    """One lane: what became of it, its numbers over time, and its largest coefficients."""
    index = {dim: int(place[0]) for dim, place in cells.index(np.array([lane])).items()}
    where = {dim: float(cells.labels[dim][place]) for dim, place in index.items()}
    time, loss = row["time"][table.rows], row["loss"][table.rows].astype(float)
    shown: dict[str, Any] = {
        "lane": lane,
        "cell": int(cells.cell(np.array([lane]))[0]),
        "where": where,
        "okay": bool(row["okay"]),
        "code": int(row["result"]),
        "checks": {name: int(values[lane]) for name, values in table.statuses.items()},
        "loss": np.where(np.isfinite(loss), loss, np.nan),
        "numbers": {
            label: _plain(values[lane])
            for label, values in table.numbers.items()
            if values.ndim == 1
        },
        "over_time": {
            label: _base64(values[lane].astype(np.float32))
            for label, values in table.numbers.items()
            if values.ndim == 2 and label != "training loss"
        },
    }
    if table.unconverged is not None:
        shown["unconverged"] = bool(table.unconverged[lane, -1])
    if table.times is None:
        shown["times"] = _base64(np.where(np.isfinite(time), time, np.nan).astype(np.float32))
    if "theta" in row:
        theta = row["theta"][table.rows].reshape(len(table.rows), -1)
    elif "end" in row:
        theta = row["end"].reshape(1, -1)
    else:
        return shown
    theta = np.where(np.isfinite(theta), theta, np.nan).astype(float)
    sizes = np.abs(np.nan_to_num(theta)).max(axis=0)
    largest = np.sort(np.argsort(-sizes, kind="stable")[:COEFFICIENTS])
    return shown | {"theta": theta[:, largest], "coordinates": largest.tolist()}


def _add_layers_and_bounds(
    shown: list[dict[str, Any]], experiment: Experiment, table: LaneTable
) -> None:
    """Layers at a few coordinates, and the bound of Theorem 2, from the starts of the experiment."""
    mu, minimum = float(experiment.loss.pl_constant), experiment.split.minimum
    eps = float(np.finfo(experiment.options.precision).eps)
    for depth in experiment.options.depths:
        own = [lane for lane in shown if lane["where"]["depth"] == depth]
        if not own:
            continue
        lanes = np.array([lane["lane"] % experiment.lanes for lane in own])
        starts = experiment.starts(depth)
        networks = eqx.filter_jit(eqx.filter_vmap(starts))(jnp.asarray(lanes))
        rates = np.asarray(eqx.filter_jit(eqx.filter_vmap(sigma))(networks))
        for lane, layers, rate in zip(own, np.asarray(networks.layers), rates, strict=True):
            gap = lane["loss"] - minimum
            floor = ROUNDING * eps * lane["loss"][0]
            lane["gap"] = _above(gap, floor)
            if table.times is not None:
                bound = gap[0] * np.exp(-2 * mu * float(rate) * table.times)
                lane["bound"] = _above(bound, floor)
            if "theta" in lane and len(lane["theta"]) > 1 and depth <= MOST_LAYERS:
                _add_layers(lane, layers.astype(float))


def _above(values: np.ndarray, floor: float) -> np.ndarray:
    """The values up to the first one below the floor: beyond it is the noise of rounding."""
    return np.where(np.logical_or.accumulate(values < floor), np.nan, values)


def _add_layers(lane: dict[str, Any], start: np.ndarray) -> None:
    """Layers at the coordinates with a change of sign, then at the largest ones.

    Args:
        lane: the lane, with theta [T, K] at some coordinates.
        start: its layers at the start, shape [L, d].
    """
    theta, coordinates = lane["theta"], np.array(lane["coordinates"])
    own = start[:, coordinates]
    order = np.argsort(np.abs(own), axis=0, kind="stable")
    # The smallest layer is the only one that can change its sign, and theta does so with it.
    first = np.take_along_axis(own, order[:1], axis=0)[0]
    sign = np.prod(np.sign(np.take_along_axis(own, order[1:], axis=0)), axis=0)
    ends = np.array([path[np.isfinite(path)][-1:].sum() for path in theta.T])
    crossed = np.sign(ends) * sign * np.sign(first) < 0
    chosen = np.lexsort((-np.abs(ends), ~crossed))[:COORDINATES]
    lane["layers"] = [
        {
            "coordinate": int(coordinates[place]),
            "paths": layers_along(theta[:, place], own[:, place]).T,
        }
        for place in chosen
        if sign[place] != 0
    ]


def layers_along(theta: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The layers of one coordinate along a flow, from theta there: gradient flow conserves the gaps.

    The smallest layer v solves v prod_j sqrt(v^2 + gap_j) = |theta|. In log v this equation is convex and
    increasing, so that Newton's method descends to the root from above.

    Args:
        theta: the entry of theta over time, shape [T]; NaN where it is not known.
        start: the layers at the start, shape [L]; at most one is zero.

    Returns:
        The layers, shape [T, L], with the signs of the start but for the smallest one's.
    """
    smallest = int(np.argmin(np.abs(start)))
    others = np.delete(start, smallest)
    gaps = np.maximum(others**2 - start[smallest] ** 2, 0)
    sign = np.prod(np.sign(others))
    size = np.abs(theta)
    known = size > 0
    log_size = np.log(np.where(known, size, 1))
    # Each factor is at least v, and at least the root of its gap: two points above the root.
    bounds = [log_size / len(start)]
    if np.all(gaps > 0):
        bounds.append(log_size - 0.5 * np.log(gaps).sum())
    x = np.min(bounds, axis=0)
    for _ in range(NEWTON_STEPS):
        square = np.exp(2 * x)[:, None]
        value = x + 0.5 * np.log(square + gaps).sum(axis=1) - log_size
        x = x - value / (1 + (square / (square + gaps)).sum(axis=1))
    v = np.where(known, np.exp(x), np.where(np.isnan(theta), np.nan, 0)) * np.sign(theta) * sign
    layers = np.sqrt(v[:, None] ** 2 + gaps) * np.sign(others)
    return np.insert(layers, smallest, v, axis=1)


def _pack(lane: dict[str, Any]) -> None:
    """Turn the arrays of a lane into text."""
    for name in ("loss", "gap", "bound"):
        if name in lane:
            lane[name] = _base64(lane[name].astype(np.float32))
    if "theta" in lane:
        lane["theta"] = _quantized(lane["theta"].T)
    for one in lane.get("layers", []):
        one["paths"] = _quantized(one["paths"])


def _quantized(rows: np.ndarray) -> dict[str, Any]:
    """Rows as integers times a unit: finer than a screen is."""
    known = np.abs(rows[np.isfinite(rows)])
    unit = float(known.max(initial=0) / LARGEST) or 1.0
    integers = np.where(np.isfinite(rows), np.round(np.nan_to_num(rows) / unit), NOTHING)
    return {"unit": unit, "rows": len(rows), "data": _base64(integers.astype("<i2"))}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
