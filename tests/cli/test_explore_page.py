"""`ddln explore`: what is in the page, and the page in a browser.

Its modules are `_explore_command`, `_explore_page`, `_lane_table`, `_lane_samples` and `_map_cells`.
"""

import base64
import json
import re
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from browser import chromium
from scipy.integrate import solve_ivp

import ddln
from ddln.cli import main
from ddln.cli._data import read
from ddln.cli._experiment import Experiment
from ddln.cli._explore_page import explore_page
from ddln.cli._lane_samples import layers_along
from ddln.cli._lane_table import Source
from ddln.cli._map_cells import MapCells
from ddln.cli._options import SweepOptions
from ddln.cli._run_config import write_config
from ddln.sweeps.store import Grid

SAVES = 10
# A flow takes more steps than this only at the smallest scale.
MAX_STEPS = 35
LIMIT = np.array([1.0, -1.0, 0.0, 0.0, 2.0])


def observe(flow):
    """Theta, and made-up outcomes of checks: the code of a lane's status, a margin, and a limit."""
    code = jnp.where(flow.loss[-1] > 0.01, 3, 0).astype(jnp.int8)
    margin = {"monotone_loss": 0.25 - flow.loss[-1]}
    checked = {"check": {"monotone_loss": code}, "margin": margin}
    return {"theta": flow.theta, **checked, "limit": jnp.asarray(LIMIT)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run: depth 2 computed, with lanes that failed, and depth 3 missing."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5))
    y = X @ np.array([2.0, -1.0, 0, 0, 0]) + 0.1 * rng.normal(size=30)
    file = folder / "table.csv"
    rows = [",".join(map(str, [*row, target])) for row, target in zip(X, y, strict=True)]
    file.write_text("\n".join(["a,b,c,</script>,e,price", *rows]))
    options = SweepOptions(
        data=file, train=20, depths=(2, 3), scales=(1e-4, 1.0), scale_count=4, t1=18.0, saves=SAVES
    )
    experiment = Experiment(read(options), options)
    store = experiment.store(str(folder / "results.zarr"))
    ddln.sweep(
        ddln.Initializations(experiment.starts(2), experiment.lanes),
        experiment.loss,
        experiment.t1,
        ts=experiment.ts,
        rtol=options.rtol,
        atol=options.atol,
        max_steps=MAX_STEPS,
        observe=observe,
        store=store.at(depth=2),
        progress=False,
    )
    write_config(options, folder)
    return folder


@pytest.fixture(scope="module")
def written(run):
    main(["explore", str(run)])
    return run / "explore.html"


def payload(text):
    """The data of a page."""
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1]
    )


def array(text, kind, *shape):
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def test_the_map_is_that_of_the_store(written, run):
    data = xarray.open_zarr(run / "results.zarr").load()
    found = payload(written.read_text())
    assert found["rows"] == {"name": "depth", "labels": ["2", "3"]}
    assert found["columns"]["name"] == "scale"
    assert len(found["planes"]) == 3
    labels = [quantity["label"] for quantity in found["quantities"]]
    assert labels[:3] == [
        "distance to the l1 solution", "distance to the l2 solution", "effective sparsity"
    ]  # fmt: skip
    okay, computed = data["okay"], data["result"] >= 0
    failed = (computed & ~okay).sum("initialization").values
    assert 0 < failed.sum() < 8
    np.testing.assert_array_equal(np.reshape(found["planes"][0]["failed"], (2, 4)), failed)
    np.testing.assert_array_equal(np.reshape(found["planes"][0]["missing"], (2, 4))[1], 2)
    # Medians over what did not fail, by xarray.
    loss = array(found["planes"][0]["values"][labels.index("training loss")], "f4", 2, 4, SAVES)
    expected = data["loss"].where(okay).median("initialization").values
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    # The least-squares solution is unique: both distances are to it, and NumPy finds it.
    split = read(SweepOptions(data=run / "table.csv", train=20))
    end = np.linalg.lstsq(split.X, split.y)[0]
    theta = data["theta"].where(okay).sel(initialization=1)
    distance = np.linalg.norm(theta - end, axis=-1) / np.linalg.norm(end)
    for label in labels[:2]:
        shown = array(found["planes"][2]["values"][labels.index(label)], "f4", 2, 4, SAVES)
        np.testing.assert_allclose(shown, distance, rtol=1e-5, atol=1e-6)
    sparsity = array(found["planes"][2]["values"][2], "f4", 2, 4, SAVES)
    norms = [np.linalg.norm(theta, order, axis=-1) for order in (1, 2)]
    np.testing.assert_allclose(sparsity, (norms[0] / norms[1]) ** 2, rtol=1e-5)
    # What is kept of a lane beside its flow.
    shown = array(
        found["planes"][2]["values"][labels.index("distance to the limit")], "f4", 2, 4, SAVES
    )
    distance = np.linalg.norm(theta - LIMIT, axis=-1) / np.linalg.norm(LIMIT)
    np.testing.assert_allclose(shown, distance, rtol=1e-5)
    sparse = array(
        found["planes"][2]["values"][labels.index("effective sparsity, t = infinity")], "f4", 2, 4
    )
    np.testing.assert_allclose(sparse[0][okay[0, 1]], 16 / 6, rtol=1e-6)
    margin = array(found["planes"][2]["values"][labels.index("margin: monotone loss")], "f4", 2, 4)
    own = (0.25 - data["loss"].isel(save=-1)).where(okay).sel(initialization=1)
    np.testing.assert_allclose(margin, own, rtol=1e-5)
    # Not converged: more than 0.001 of |y|^2 = 1 above the least training error.
    least = np.sum((split.X @ end - split.y) ** 2)
    on = ((2 * data["loss"] - least > 1e-3) & okay).sum("initialization").values
    shown = array(found["planes"][0]["unconverged"], "i4", 2, 4, SAVES)
    np.testing.assert_array_equal(shown, on)
    assert 0 < on[..., -1].sum() < okay.sum()
    # What became of each flow: converged, not converged or failed.
    shown = array(found["planes"][2]["values"][labels.index("status")], "i1", 2, 4)[0]
    late = (2 * data["loss"].isel(save=-1) - least > 1e-3).sel(depth=2, initialization=1)
    np.testing.assert_array_equal(shown, np.where(okay.sel(depth=2, initialization=1), late, 3))


def test_flows_of_the_page_are_those_of_the_store(written, run):
    data = xarray.open_zarr(run / "results.zarr").load()
    found = payload(written.read_text())
    assert len(found["samples"]) == 8
    for sample in found["samples"]:
        own = data.sel(sample["where"])
        assert sample["okay"] == bool(own["okay"])
        assert ("maximum number" in sample["result"]) == (not sample["okay"])
        shown = array(sample["theta"]["data"], "<i2", len(sample["coordinates"]), -1)
        theta = own["theta"].values.T[sample["coordinates"]]
        there = np.isfinite(theta)
        np.testing.assert_array_equal(shown == -32768, ~there)
        unit = sample["theta"]["unit"]
        np.testing.assert_allclose((shown * unit)[there], theta[there], atol=unit)
        assert sample["numbers"]["steps"] == int(own["steps"])


def test_layers_follow_from_theta():
    """Against SciPy, which integrates every layer."""
    target = np.array([-1.5, 0.8, 0.3])
    start = np.array([[0.3, -0.9, 0.5], [1.0, 0.4, -0.6], [-0.7, 0.8, 0.7]])

    def slope(_, flat):
        u = flat.reshape(3, 3)
        others = np.stack([np.prod(np.delete(u, j, axis=0), axis=0) for j in range(3)])
        return (-others * (np.prod(u, axis=0) - target)).ravel()

    times = np.linspace(0, 6, 50)
    flow = solve_ivp(slope, (0, 6), start.ravel(), "LSODA", times, rtol=1e-11, atol=1e-13)
    layers = flow.y.reshape(3, 3, -1)
    crossed = np.sign(layers[..., 0]) != np.sign(layers[..., -1])
    assert crossed.any()
    for i in range(3):
        found = layers_along(np.prod(layers[:, i], axis=0), start[:, i])
        # Near a zero of the smallest layer its digits are those of theta over the others.
        np.testing.assert_allclose(found, layers[:, i].T, rtol=1e-8, atol=1e-9)
    unknown = layers_along(np.array([0.1, np.nan]), start[:, 0])
    assert np.all(np.isfinite(unknown[0]))
    assert np.all(np.isnan(unknown[1, np.argmin(np.abs(start[:, 0]))]))


def made_up(lanes, saves=8, dim=5, failing=997):
    """A source of so many lanes, of which every 997th failed, without a store."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(lanes, saves, dim)).astype(np.float32)
    okay = np.arange(lanes) % failing != 0
    dims = ("initialization", "save")
    data = xarray.Dataset(
        {
            "theta": ((*dims, "coordinate"), theta),
            "loss": (dims, np.abs(theta[..., 0])),
            "time": (dims, np.broadcast_to(np.arange(saves, dtype=float), (lanes, saves))),
            "okay": (dims[:1], okay),
            "result": (dims[:1], np.where(okay, 0, 1).astype(np.int32)),
            "steps": (dims[:1], np.arange(lanes)),
        }
    )
    grid = Grid.of((lanes,), 1024)
    source = Source(ddln.SweepStore("made-up.zarr"), None)
    source.__dict__["data"] = data
    source.__dict__["opened"] = SimpleNamespace(
        header=SimpleNamespace(dims=dims[:1]),
        grid=grid,
        marked=lambda: range(grid.chunks),
        damage=lambda chunk: [],
    )
    return source, data


def test_a_hundred_thousand_lanes_fit_in_a_page():
    source, data = made_up(100_000)
    text = explore_page(source)
    assert len(text) < 10e6
    found = payload(text)
    assert sum(found["planes"][0]["lanes"]) == 100_000
    assert sum(found["planes"][0]["failed"]) == int((~data["okay"]).sum())
    cells = len(found["columns"]["labels"])
    # Cells are as equal as can be.
    parts = np.split(data["steps"].values, np.ceil(np.arange(1, cells) * 1e5 / cells).astype(int))
    labels = [quantity["label"] for quantity in found["quantities"]]
    steps = array(found["planes"][0]["values"][labels.index("steps")], "f4", cells)
    np.testing.assert_allclose(steps, [np.median(part) for part in parts], rtol=1e-6)
    # A failed lane of each cell that has one is among those shown.
    shown = {sample["cell"] for sample in found["samples"] if not sample["okay"]}
    assert shown == set(np.flatnonzero(found["planes"][0]["failed"]).tolist())
    assert "not at hand" in text


def test_cells_of_several_dimensions():
    sizes = (2, 3, 100)
    labels = {
        "depth": np.array([2, 4]),
        "noise": np.arange(3.0),
        "scale": np.geomspace(0.1, 1, 100),
    }
    cells = MapCells(("depth", "noise", "scale"), sizes, labels)
    assert (cells.rows.name, cells.columns.name, cells.others) == ("depth", "scale", ["noise"])
    assert cells.columns.count == 64
    assert cells.columns.texts()[1].startswith("0.1048 to ")
    lanes = np.arange(600)
    assert set(cells.all_cells.tolist()) == set(range(128))
    assert cells.cell(lanes)[0] == 0
    assert cells.cell(lanes)[-1] == 127
    names = [name for name, _ in cells.planes]
    assert names == ["median of 3 (noise)", "noise 0", "noise 1", "noise 2"]
    values = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    values[::7] = np.nan
    expected = [np.nanmedian(values[cells.all_cells == cell], axis=0) for cell in range(128)]
    np.testing.assert_allclose(cells.median(values, cells.planes[0][1]), expected, rtol=1e-6)


def test_a_store_of_other_data_has_no_distances(run, tmp_path):
    (tmp_path / "results.zarr").symlink_to(run / "results.zarr")
    main(["explore", str(tmp_path), "--out", str(tmp_path / "page.html")])
    found = payload((tmp_path / "page.html").read_text())
    # The distance to the limit needs no data.
    assert not any("solution" in quantity["label"] for quantity in found["quantities"])
    assert found["planes"][0]["unconverged"] is None
    with pytest.raises(SystemExit, match="There is no store at"):
        main(["explore", str(tmp_path / "nothing")])


@pytest.fixture(scope="module")
def page(written, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        page.size(1280)
        page.open(written)
        yield page


def text(page, place):
    return page.evaluate(f"document.querySelector('{place}').textContent")


def selected(page):
    return page.evaluate("document.querySelector('.cell[aria-selected=true]').ariaLabel")


def choose(page, place, option):
    page.evaluate(
        f"{{const one = document.querySelector('{place}'); one.value = [...one.options].find(o => "
        f"o.text.startsWith('{option}')).value; one.dispatchEvent(new Event('change')); 0}}"
    )


def test_the_page_opens_without_complaints(page):
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('.cell').length") == 8
    assert page.evaluate("performance.getEntriesByType('resource').length") <= 1
    assert "depth 2, 3" not in text(page, ".facts")
    assert "depth2, 3" in text(page, ".facts")
    # Every cell says what it stands for: missing and failed ones, too.
    labels = page.evaluate("[...document.querySelectorAll('.cell')].map(c => c.ariaLabel)")
    assert sum("not computed" in label for label in labels) == 4
    assert page.evaluate("document.querySelectorAll('.cell.missing').length") == 4
    assert page.evaluate("document.querySelectorAll('.cell.failed').length") == sum(
        "2 failed" in label for label in labels
    )
    assert page.evaluate("document.querySelectorAll('#map .some').length") == 1
    assert "some not converged at this time" in text(page, "#key")


def click(page, cell):
    place = page.evaluate(
        f"(() => {{const box = document.querySelectorAll('.cell')[{cell}].getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]})()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.send(
            "Input.dispatchMouseEvent",
            type=kind,
            x=place[0],
            y=place[1],
            button="left",
            clickCount=1,
        )


def test_a_click_and_the_keyboard_choose_a_flow(page, run):
    # The lower row is that of depth 2.
    click(page, 7)
    assert text(page, "#flow-title") == "depth 2, initialization 0, scale 1"
    assert "depth 2, scale 1, t = 18: distance to the l1 solution, median of 2 flows: " in selected(
        page
    )
    steps = xarray.open_zarr(run / "results.zarr")["steps"].sel(depth=2, scale=1.0)
    assert f"steps{int(steps[0])}" in text(page, "#numbers")
    assert "monotone lossholds, margin 0.2" in text(page, "#checks")
    assert "margin" not in text(page, "#numbers")
    choose(page, "#quantity", "margin: monotone loss")
    assert "margin: monotone loss, median of 2 flows: 0.2" in selected(page)
    choose(page, "#quantity", "distance")
    click(page, 7)
    assert page.evaluate("document.querySelectorAll('#coefficients .curve').length") == 10
    assert page.evaluate("document.querySelectorAll('#layers .curve').length") == 4
    assert "Theorem 2" in text(page, "#loss")
    choose(page, "#sample", "initialization 1")
    assert text(page, "#flow-title") == "depth 2, initialization 1, scale 1"
    page.press("ArrowLeft")
    assert "scale 0.04642" in selected(page)
    assert text(page, "#flow-title") == "depth 2, initialization 1, scale 0.04642"
    page.press("Home")
    page.press("ArrowUp")
    assert "depth 3, scale 0.0001" in selected(page)
    assert text(page, "#result") == "No flow of this cell is computed yet."
    page.press("ArrowDown")
    assert text(page, "#result").startswith("Failed: The maximum number of solver steps")
    assert page.complaints == []


def test_the_time_and_the_colours_are_chosen(page):
    assert page.evaluate("document.querySelectorAll('#map .ring').length") == 0
    page.evaluate(
        "{const time = document.querySelector('#time'); time.value = 0;"
        "time.dispatchEvent(new Event('input')); 0}"
    )
    assert text(page, "#time-text") == "t = 0"
    # At the start nothing has converged.
    assert page.evaluate("document.querySelectorAll('#map .ring').length") == 3
    assert "t = 0: distance to the l1 solution" in text(page, "#readout")
    # Pointing at a curve moves the time everywhere.
    click(page, 7)
    box = page.evaluate(
        "(() => {const box = document.querySelector('#coefficients svg').getBoundingClientRect();"
        "return [box.x, box.y, box.width]})()"
    )
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] - 2, y=box[1] + 50)
    assert text(page, "#time-text").endswith("(end)")
    assert page.evaluate("document.querySelector('#time').value") == str(SAVES - 1)
    lines = page.evaluate("[...document.querySelectorAll('.cursor')].map(c => c.getAttribute('d'))")
    assert len(lines) == 3
    assert all(line.startswith("M") for line in lines)
    choose(page, "#quantity", "status")
    assert "converged" in text(page, "#key")
    assert "failed" in text(page, "#key")
    assert "status, worst of 2 flows: converged" in selected(page)
    choose(page, "#quantity", "check: monotone loss")
    assert "violated" in text(page, "#key")
    assert "check: monotone loss, worst of 2 flows: holds" in selected(page)
    page.evaluate("document.querySelector('#table-part').open = true; 0")
    while page.evaluate("document.querySelectorAll('#table tr').length") != 5:
        pass
    assert "missing" in text(page, "#table")
    choose(page, "#quantity", "distance")
    assert page.complaints == []


def test_the_page_fits_a_phone_and_has_contrast_in_both_themes(page):
    """At least 4.5 to 1 for every text colour, 3 to 1 for curves (WCAG 2.2, 1.4.3 and 1.4.11)."""

    def luminance(colour):
        channels = np.array([float(c) for c in colour[4:-1].split(",")[:3]]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(*pair):
        low, high = sorted(map(luminance, pair))
        return (high + 0.05) / (low + 0.05)

    page.size(390)
    click(page, 7)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    backgrounds = set()
    for scheme in ("light", "dark"):
        page.colour_scheme(scheme)
        background = page.evaluate(
            "getComputedStyle(document.querySelector('figure')).backgroundColor"
        )
        texts = page.evaluate(
            "[...document.querySelectorAll('main *:not(svg *, input), header *, svg text')]"
            ".map(e => getComputedStyle(e)[e.tagName === 'text' ? 'fill' : 'color'])"
        )
        curves = page.evaluate(
            "[...document.querySelectorAll('.curve:not(.thin)')].map(e => getComputedStyle(e).stroke)"
        )
        backgrounds.add(background)
        assert min(contrast(background, colour) for colour in set(texts)) >= 4.5
        assert min(contrast(background, colour) for colour in set(curves)) >= 3
    assert len(backgrounds) == 2
    page.size(1280)
    assert len(page.send("Page.printToPDF")["data"]) > 10_000
