"""`ddln sweep`, `ddln status` and `ddln export`, run as a user runs them, on small problems.

Their modules are `_main`, `_options`, `_data`, `_experiment`, `_flows`, `_sweep_command`, `_figures`,
`_coefficients`, `_places`, `_status_command` and `_export_command`.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas
import pytest
import xarray

from ddln.cli import _sweep_command, coefficients, main
from ddln.cli._data import read
from ddln.cli._experiment import Experiment
from ddln.cli._flows import STATUSES, Examples
from ddln.cli._options import SweepOptions

SMALL = [
    "sweep", "--depths", "2", "3", "--scale-count", "4", "--t1", "100", "--saves", "10",
    "--initializations", "2", "--scales", "0.01", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 6))
    y = X @ np.array([2.0, -1.0, 0, 0, 0, 0]) + 0.1 * rng.normal(size=30)
    file = tmp_path_factory.mktemp("data") / "table.csv"
    rows = [",".join(map(str, [*row, target])) for row, target in zip(X, y, strict=True)]
    file.write_text("\n".join(["a,b,c,d,e,f,price", *rows]))
    return file


@pytest.fixture(scope="module")
def finished(data_file, tmp_path_factory):
    """A whole run, with figures."""
    out = tmp_path_factory.mktemp("out") / "run"
    main([*SMALL, "--data", str(data_file), "--train", "20", "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def plain(data_file, tmp_path_factory):
    """Options of the same flows without checks, which most of the compilation is for, and their run."""
    out = tmp_path_factory.mktemp("plain") / "run"
    options = [
        *SMALL,
        "--data",
        str(data_file),
        "--train",
        "20",
        "--observe",
        "ends",
        "--no-figures",
    ]
    main([*options, "--out", str(out)])
    return options, out


def test_results_reload_with_labels(finished):
    data = xarray.open_zarr(finished / "results.zarr")
    sizes = {"depth": 2, "initialization": 2, "scale": 4, "save": 10, "coordinate": 6}
    assert dict(data.sizes) == sizes
    np.testing.assert_array_equal(data["depth"], [2, 3])
    np.testing.assert_allclose(data["scale"], np.geomspace(0.01, 1, 4))
    assert bool(data["okay"].all())
    assert np.all(np.diff(data["loss"], axis=-1) <= 1e-12)


def test_the_flows_fit_the_data(finished):
    data = xarray.open_zarr(finished / "results.zarr")
    end = data["theta"].isel(save=-1).sel(depth=2, scale=1.0)
    # Standardized coefficients of the two features that matter, with opposite signs.
    assert np.all(end[:, 0] > 0.5)
    assert np.all(end[:, 1] < -0.2)
    assert np.all(np.abs(end[:, 2:]) < 0.1)


def test_coefficients_in_the_units_of_the_file(finished, data_file):
    table = pandas.read_csv(data_file)
    summary = json.loads((finished / "summary.json").read_text())
    kept = summary["standardization"]
    assert summary["feature_names"] == list("abcdef")
    train = table.iloc[kept["train_rows"]]
    assert len(train) == len(set(kept["train_rows"])) == 20
    fitted = coefficients(finished).isel(save=-1)
    predicted = fitted["intercept"] + sum(
        fitted["coefficient"].sel(feature=name) * xarray.DataArray(train[name], dims="row")
        for name in "abcdef"
    )
    residual = predicted - xarray.DataArray(train["price"], dims="row")
    # The loss of the run is |X theta - y|^2 / 2 where y - mean(y) has norm 1.
    size = np.sum((train["price"] - train["price"].mean()) ** 2)
    loss = xarray.open_zarr(finished / "results.zarr")["loss"].isel(save=-1)
    np.testing.assert_allclose((residual**2).sum("row") / size / 2, loss, rtol=1e-9)
    end = fitted["coefficient"].sel(depth=2, scale=1.0, initialization=0)
    np.testing.assert_allclose(end, [2, -1, 0, 0, 0, 0], atol=0.2)


def test_summary_counts_every_check(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["data"] == {"name": "table", "samples": 20, "features": 6}
    for check in summary["checks"]:
        counted = sum(check[k] for k in ("holds", "inconclusive", "hypothesis not met", "violated"))
        assert counted == 16
        assert check["violated"] == 0
    assert all(row["failed"] == {} for row in summary["depths"])
    data = xarray.open_zarr(finished / "results.zarr")
    end = data["loss"].isel(save=-1)
    for row in summary["depths"]:
        # The data is not fitted exactly: all flows that end have the least loss.
        gap = 2 * (end.sel(depth=row["depth"]) - float(end.min()))
        assert row["unconverged"] == int((gap > 1e-3).sum())
    assert summary["depths"][1]["unconverged"] > 0
    assert summary["depths"][0]["held_out_error"] < 0.1


def test_figures_are_written(finished):
    for name in ("layers", "coefficients", "loss", "phase", "held_out"):
        assert (finished / f"{name}.png").stat().st_size > 10_000
        assert (finished / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_earlier_results_are_not_destroyed(finished, capsys):
    before = (finished / "summary.json").read_bytes()
    with pytest.raises(SystemExit, match=r"is not empty\. Choose another folder with --out"):
        main([*SMALL, "--out", str(finished)])
    assert (finished / "summary.json").read_bytes() == before


def test_overwrite_leaves_folders_of_others_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SystemExit, match="does not hold results of ddln"):
        main([*SMALL, "--out", str(tmp_path), "--overwrite"])
    assert (tmp_path / "thesis.tex").exists()


def test_overwrite_replaces_and_failures_and_damage_are_told(data_file, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "summary.json").write_text("old")
    (out / "phase.png").write_text("old")
    options = [
        "--depths",
        "2",
        "--max-steps",
        "3",
        "--observe",
        "ends",
        "--no-figures",
        "--overwrite",
    ]
    main([*SMALL, *options, "--data", str(data_file), "--out", str(out)])
    assert not (out / "phase.png").exists()
    summary = json.loads((out / "summary.json").read_text())
    ((why, count),) = summary["depths"][0]["failed"].items()
    assert "maximum number of solver steps" in why
    assert count == 8
    assert "failed: The maximum number" in " ".join(capsys.readouterr().out.split())
    (out / "results.zarr/loss/c/0/0/0/0").write_bytes(b"")
    main(["status", str(out)])
    told = " ".join(capsys.readouterr().out.split())
    assert "missing 8 in all 8" in told
    assert "loss/c/0/0/0/0" in told


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in (folder / "results.zarr").rglob("*")
        if path.is_file()
    }


def test_a_run_that_is_interrupted_goes_on(plain, tmp_path, monkeypatch, capsys):
    whole = Experiment.integrate

    def interrupted(experiment, depth, *rest):
        if depth == 3:
            raise KeyboardInterrupt
        return whole(experiment, depth, *rest)

    out = tmp_path / "run"
    options = [*plain[0], "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "integrate", interrupted)
        with pytest.raises(SystemExit) as stop:
            main(options)
    assert stop.value.code == 130
    said = " ".join(capsys.readouterr().out.split())
    assert "8 of 16 flows are kept" in said
    assert "--resume" in said
    before = files(out)
    result = xarray.open_zarr(out / "results.zarr")["result"]
    assert [int((result.sel(depth=depth) >= 0).sum()) for depth in (2, 3)] == [8, 0]
    with pytest.raises(SystemExit, match="pass --resume"):
        main(options)
    with pytest.raises(
        SystemExit, match=r"of another sweep(.|\n)*rtol: 0.0001 in the store, 1e-05"
    ):
        main([*options, "--resume", "--rtol", "1e-5"])
    assert files(out) == before
    capsys.readouterr()
    main([*options, "--resume"])
    assert "Going on with 8 flows" in capsys.readouterr().out
    after, expected = files(out), files(plain[1])
    assert {key: after[key] for key in expected} == expected
    assert (out / "summary.json").exists()
    # All flows are there: nothing is compiled.
    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "compile", None)
        patch.setattr(Examples, "compile", None)
        patch.setattr(_sweep_command, "depth_table", None)
        (out / "summary.json").unlink()
        with pytest.raises(TypeError, match="not callable"):
            main([*options, "--resume"])
    assert files(out) == after
    # Whatever becomes of what is printed, all is written before.
    assert (out / "summary.json").exists()
    # Other options are named, not the hashes of what follows from them.
    with pytest.raises(SystemExit, match=r"another sweep(.|\n)*--seed: 0 in the store, 3 now"):
        main([*options, "--resume", "--seed", "3"])


def test_a_store_elsewhere_and_workers(plain, tmp_path, monkeypatch, capsys):
    import distributed

    monkeypatch.chdir(tmp_path)
    options = plain[0]
    # Processes would compile again; what they do is tested with `ddln.sweep`.
    monkeypatch.setattr(
        _sweep_command,
        "ProcessPoolExecutor",
        lambda workers, context, **_: ThreadPoolExecutor(workers),
    )
    main([*options, "--store", "threads.zarr", "--workers", "2"])
    assert "Wrote summary.json" in capsys.readouterr().out
    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None)
    with cluster:
        main([*options, "--store", "dask.zarr", "--address", cluster.scheduler_address])
    whole = xarray.open_zarr(plain[1] / "results.zarr").load()
    for name in ("threads.zarr", "dask.zarr"):
        xarray.testing.assert_identical(xarray.open_zarr(name).load(), whole)
    with pytest.raises(SystemExit, match=r"There is a store at dask\.zarr"):
        main([*options, "--store", "dask.zarr"])


def test_status(finished, capsys):
    for place in (finished, finished / "results.zarr"):
        main(["status", str(place), "--verify"])
        told = " ".join(capsys.readouterr().out.split())
        assert "done 16 missing 0 in all 16" in told
        assert "fingerprint of depth=2: " in told
        assert "begun with ddln " in told
        assert "All checksums are right." in told
    with pytest.raises(SystemExit, match="There is no store at"):
        main(["status", str(finished / "nothing")])


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_export_to_a_table(finished, tmp_path, monkeypatch, capsys, to):
    monkeypatch.chdir(tmp_path)
    main(["export", str(finished), "--to", to])
    assert "Wrote 16 flows to" in capsys.readouterr().out
    read = {"csv": pandas.read_csv, "parquet": pandas.read_parquet}[to]
    table = read(f"run.{to}").set_index(["depth", "initialization", "scale", "save"])
    data = xarray.open_zarr(finished / "results.zarr").load()
    for name in ("loss", "time", "okay", "steps"):
        column = table[name].to_xarray()
        np.testing.assert_allclose(column, data[name].broadcast_like(column), rtol=1e-12)
    words = np.asarray(STATUSES)[data["check_conservation"]]
    np.testing.assert_array_equal(table["check_conservation"].to_xarray()[..., 0], words)
    for index, name in enumerate("abcdef"):
        column = table[f"theta_{name}"].to_xarray()
        np.testing.assert_allclose(column, data["theta"][..., index], rtol=1e-12)
    with pytest.raises(SystemExit, match=r"exists\. Choose another file"):
        main(["export", str(finished), "--to", to])
    main(["export", str(finished), "--to", to, "--overwrite"])
    assert [path.name for path in tmp_path.iterdir()] == [f"run.{to}"]


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_export_to_netcdf(finished, tmp_path, monkeypatch, engine):
    import importlib.util

    if engine == "scipy":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    file = tmp_path / "results.nc"
    main(["export", str(finished / "results.zarr"), "--to", "netcdf", "--out", str(file)])
    data = xarray.open_zarr(finished / "results.zarr").load()
    with xarray.open_dataset(file, engine=engine) as copy:
        for name in data.variables:
            np.testing.assert_array_equal(copy[name], data[name])
        assert copy.attrs["sweeps"] == data.attrs["sweeps"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--depths", "1"], "--depths must be one or more different numbers"),
        (["--depths", "2", "2"], "--depths must be one or more different numbers"),
        (["--scales", "1", "0.1"], "--scales must be two positive numbers, the smaller one first"),
        (["--t1", "0"], "--t1 must be positive"),
        (["--scale-count", "1"], "--scale-count must be at least 2"),
        (["--initializations", "0"], "--initializations must be at least 1"),
        (["--saves", "2"], "--saves must be at least 8"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--workers", "1", "--address", "x"], "--workers and --address exclude each other"),
        (["--resume"], "There is no run to resume"),
        (["--drop", "age"], "Option --drop is for the columns of --data"),
        (["--resume", "--overwrite"], "exclude each other"),
        (["--train", "1"], "--train must be between 2 and 442"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_options_are_told_before_any_work(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main(["sweep", *options])
    assert list(tmp_path.iterdir()) == []


def test_names_of_columns_in_options_and_messages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "table.csv"
    file.write_text("a,b c,0,y\n1,5,2,3\n4,5,6,7\n2,5,8,1\n")
    message = (
        r"Columns 'a', 'b c' are constant in .* samples\. Leave them out with --drop a 'b c'\."
    )
    file.write_text("a,b c,0,y\n1,5,2,3\n1,5,6,7\n1,5,8,1\n")
    with pytest.raises(SystemExit, match=message):
        main(["sweep", "--data", str(file)])
    options = SweepOptions(data=file, target="0", drop=("a", "b c"))
    split = read(options)
    assert (split.feature_names, split.standardization["target"]) == (("y",), "0")


def test_times_end_at_t1_in_every_precision(tmp_path):
    split = read(SweepOptions(data=None))
    for precision in ("float32", "float64"):
        one = Experiment(split, SweepOptions(t1=0.3, precision=precision))
        assert one.ts.dtype == precision
        assert one.t1 == one.ts[-1] == np.dtype(precision).type(0.3)


def test_another_backend_of_matplotlib_is_no_obstacle():
    code = "from ddln.cli import main; main(['status', 'nowhere'])"
    environment = {**os.environ, "MPLBACKEND": "not_there"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ddln: There is no store at" in run.stderr


def test_the_home_folder_is_expanded(finished, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(finished.parent))
    main(["status", "~/run"])
    assert "done" in capsys.readouterr().out


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "ddln sweep --data prices.csv --target price" in told
    assert "--initializations" in told


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.strip().count(".") == 2


def test_texts_and_gaps_of_a_file(tmp_path, capsys):
    """A column of Unix times varies in its last digits, which float32 does not have."""
    rng = np.random.default_rng(0)
    lines = [
        f"{1700000000 + 3 * row};{'north' if row % 3 else 'south'};{rng.normal():.3f};{row % 7}"
        for row in range(20)
    ]
    lines[4] = lines[4].replace(lines[4].split(";")[2], "")
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(["time;side;noise;sold", *lines]).replace(".", ","))
    with pytest.raises(
        SystemExit, match=r"(?s)column `side` is 'south'.*--missing, --encode and --drop"
    ):
        main([*SMALL, "--data", str(file)])
    split = read(SweepOptions(data=file, encode=True, missing="drop"))
    assert split.feature_names == ("time", "side=north", "side=south", "noise")
    assert sorted(split.standardization["train_rows"]) == [row for row in range(20) if row != 4]
    times = split.X[np.argsort(split.standardization["train_rows"]), 0]
    kept = np.delete(np.arange(20.0), 4)
    np.testing.assert_allclose(
        times, (kept - kept.mean()) / np.linalg.norm(kept - kept.mean()), atol=1e-6
    )
