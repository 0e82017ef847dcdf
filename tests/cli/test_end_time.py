"""`--t1 auto`, `--observe`, and figures: when flows have converged, what is kept, and what is said.

The modules are `_end_time`, `_experiment`, `_flows` and `_figures`.
"""

import dataclasses

import numpy as np
import pytest
import xarray
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from scipy.integrate import solve_ivp

from ddln.cli import _sweep_command, coefficients, main
from ddln.cli._data import read
from ddln.cli._end_time import end_time
from ddln.cli._experiment import Experiment
from ddln.cli._figures import _caption, _captions
from ddln.cli._options import SweepOptions
from ddln.cli._tables import depth_row, depth_table


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(12, 3))
    table = np.column_stack([X, X @ [1.0, -2.0, 0.0] + 0.1 * rng.normal(size=12)])
    file = tmp_path_factory.mktemp("data") / "table.csv"
    file.write_text("\n".join(["a,b,c,y", *(",".join(map(str, row)) for row in table)]))
    return file


def test_the_time_is_that_at_which_the_slowest_flow_has_converged(file):
    """Against SciPy, which integrates the layers from the smallest scale."""
    options = SweepOptions(
        data=file, depths=(3,), scales=(0.1, 1.0), scale_count=4, initializations=1, t1="auto"
    )
    experiment = Experiment(read(options), options)
    X, y = experiment.split.X, experiment.split.y

    def slope(_, flat):
        u = flat.reshape(3, 3)
        gradient = X.T @ (X @ np.prod(u, axis=0) - y)
        others = [np.prod(np.delete(u, j, axis=0), axis=0) for j in range(3)]
        return (-np.stack(others) * gradient).ravel()

    start = np.full((3, 3), 0.1)
    start[2] = 0.0
    times = np.geomspace(0.1, 1e4, 2000)
    flow = solve_ivp(slope, (0, 1e4), start.ravel(), "LSODA", times, rtol=1e-9, atol=1e-12)
    theta = np.prod(flow.y.reshape(3, 3, -1), axis=0)
    error = np.sum((X @ theta - y[:, None]) ** 2, axis=0)
    least = np.sum((X @ np.linalg.lstsq(X, y)[0] - y) ** 2)
    slowest = times[np.argmax(error - least <= 1e-3)]
    found = end_time(experiment)
    # Twice the time, saved 10 times in each power of ten, and rounded up to 1, 2 or 5.
    assert 2 * slowest <= found <= 2 * 10**0.1 * 2.5 * slowest
    assert f"{found:.0e}"[0] in "125"
    hasty = dataclasses.replace(options, max_steps=5)
    with pytest.raises(ValueError, match=r"depth 3 from scale 0\.1, initialization 0.*steps"):
        end_time(Experiment(experiment.split, hasty))


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    """A run that keeps all there is."""
    out = tmp_path_factory.mktemp("out") / "run"
    options = ["--data", str(file), "--train", "8", "--depths", "2", "--scale-count", "3"]
    kept = ["--observe", "theta", "ends", "norms", "errors"]
    main(
        ["sweep", *options, *kept, "--t1", "50", "--saves", "8", "--no-figures", "--out", str(out)]
    )
    return out


def test_what_is_kept_is_what_was_asked_for(run, file):
    data = xarray.open_zarr(run / "results.zarr").load()
    assert not [name for name in data if str(name).startswith("check")]
    theta = data["theta"].values
    np.testing.assert_array_equal(data["end"], theta[..., -1, :])
    np.testing.assert_allclose(data["norms_l1"], np.abs(theta).sum(axis=-1), rtol=1e-14)
    np.testing.assert_allclose(data["norms_l2"], np.linalg.norm(theta, axis=-1), rtol=1e-14)
    split = read(SweepOptions(data=file, train=8))
    np.testing.assert_allclose(data["held_out"], split.error(theta), rtol=1e-12)


@pytest.fixture(scope="module")
def whole(run, file):
    """The experiment of the run, and the flows in its store."""
    options = SweepOptions(
        data=file, train=8, depths=(2,), scale_count=3, t1=50.0, saves=8,
        observe=("theta", "ends", "norms", "errors"),
    )  # fmt: skip
    experiment = Experiment(read(options), options)
    # All flows are in the store: nothing is computed.
    store = experiment.store(str(run / "results.zarr"))
    return experiment, experiment.integrate(2, store, None, lambda *counts: None)


def test_a_resumed_run_keeps_the_time_that_was_chosen(whole, run, monkeypatch):
    experiment, _ = whole
    monkeypatch.setattr(_sweep_command, "end_time", None)
    options = dataclasses.replace(experiment.options, t1="auto", resume=True, out=run)
    found = _sweep_command._with_end_time(Experiment(experiment.split, options), Console())
    assert found == dataclasses.replace(options, t1=50.0)


def test_figures_say_what_they_are_of(whole):
    experiment, outcome = whole
    # The flow from the smallest scale is on its way, that from the largest has ended.
    told = _captions(experiment, [outcome], np.array([0.1, 0.1, 0.0]), "a")
    assert told["coefficients"] == (
        "n = 8, d = 3, depth 2, initialization 1 (random), scale 0.03, t1 = 50, not converged at t1: "
        "one flow, every coefficient."
    )
    assert "scale 1, t1 = 50: one flow at the coordinate a" in told["layers"]
    assert told["held_out"].endswith("median and middle half of 2 initializations.")
    assert "initialization 0 (last layer 0, the others equal)" in told["phase"]
    unconverged = 2 * (outcome.result.loss[:3, -1] - experiment.split.minimum) > 1e-3
    assert ("circles" in told["phase"]) == bool(np.any(unconverged))
    for width in (3.3, 6.75):
        figure = Figure(figsize=(width, 2), layout="constrained")
        figure.subplots()
        _caption(figure, told["held_out"] + told["coefficients"])
        FigureCanvasAgg(figure).draw()
        (text,) = figure.texts
        box, whole_figure = text.get_window_extent(), figure.bbox
        assert whole_figure.x0 <= box.x0 < box.x1 <= whole_figure.x1
        assert figure.axes[0].get_tightbbox().y0 >= box.y1
        # The axes keep their height.
        assert figure.axes[0].get_window_extent().height > 0.7 * 2 * figure.dpi


def test_tables_do_without_theta(run, whole):
    """The same numbers from ends and errors, or from norms, and a dash where nothing says them."""
    experiment, outcome = whole

    def row(*kept):
        values = {name: outcome.result.values[name] for name in kept}
        result = dataclasses.replace(outcome.result, values=values)
        return depth_row(dataclasses.replace(outcome, result=result), experiment)

    expected = row("theta")
    assert expected["held_out_error"] is not None
    for kept in (("end", "held_out"), ("norms", "held_out")):
        found = row(*kept)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-12)
    bare = row()
    assert bare["sparsity_smallest_scale"] is None
    assert "held_out_error" not in bare
    assert depth_table([bare]).row_count == 1
    fitted = coefficients(run)
    assert fitted["coefficient"].sizes["feature"] == 3
