"""Stores in ordinary use: content, refusals and repairs.

The subjects are `_store`, `_open_store`, `_writing`, `_variables`, `_folder`, `_lock`, and the sinks in
`_sinks` that write to a store.
"""

import json
import os
import shutil
import socket

import crash_target
import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import ddln
from ddln.sweeps.store import _open_store

LANES = 10


def observe(flow):
    return {"end": flow.theta[-1], "about": {"size": jnp.sum(flow.theta**2), "few": jnp.int8(3)}}


def sweep(store=None, run=crash_target.run, size=LANES, chunk_size=4, **settings):
    return ddln.sweep_runs(
        run, size, store=store, chunk_size=chunk_size, **({"progress": False} | settings)
    )


@pytest.fixture(scope="module")
def in_memory():
    return sweep()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.zarr"


@pytest.fixture
def finished(path):
    sweep(path)
    return path


def files(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def counted(store, **settings):
    """The numbers that a sweep reports while it computes."""
    calls = []
    sweep(store, progress=lambda *numbers: calls.append(numbers), **settings)
    return calls


def test_results_are_those_in_memory(path, in_memory):
    stored = sweep(path)
    for name in ("ts", "theta", "loss", "codes"):
        np.testing.assert_array_equal(
            np.asarray(getattr(stored, name)), getattr(in_memory, name), strict=True
        )
    np.testing.assert_array_equal(stored.theta[3:8, -1], in_memory.theta[3:8, -1])
    assert stored.okay.all()
    assert stored.failures() == {}
    assert stored.method == "descent"
    xarray.testing.assert_identical(stored.to_xarray(), in_memory.to_xarray())


def test_what_was_observed_has_its_names_and_its_tree(path):
    kept, stored = sweep(observe=observe), sweep(path, observe=observe)
    assert stored.theta is None
    assert jax.tree.structure(stored.values) == jax.tree.structure(kept.values)
    jax.tree.map(
        np.testing.assert_array_equal, kept.values, jax.tree.map(np.asarray, stored.values)
    )
    data = ddln.SweepStore(path).to_xarray()
    assert data["end"].dims == ("initialization", "end_0")
    assert data["about_few"].dtype == np.int8
    np.testing.assert_array_equal(data["about_size"], kept.values["about"]["size"])


def test_the_dataset_is_labelled_and_says_where_it_is_from(finished, in_memory):
    data = xarray.open_zarr(finished)
    assert dict(data.sizes) == {"initialization": LANES, "save": 1, "coordinate": 3}
    np.testing.assert_array_equal(data["theta"], in_memory.theta)
    assert data["time"].attrs["units"] == "1"
    assert json.loads(data["result"].attrs["flag_meanings"])[0] == "successful"
    versions = json.loads(data.attrs["versions"])
    assert set(versions) >= {"ddln", "jax", "jaxlib", "diffrax", "numpy", "python"}
    entry = json.loads(data.attrs["sweeps"])["all"]
    assert entry["configuration"]["method"] == "descent"
    assert len(entry["fingerprint"]) == 64


def test_can_be_read_while_it_grows(path):
    def look(done, total, failed):
        data = xarray.open_zarr(path, chunks=None)
        # Other chunks may be written meanwhile, in any order.
        there = (data["result"] >= 0).values
        assert done <= there.sum()
        assert not np.isnan(data["theta"].values[there]).any()
        status = ddln.SweepStore(path).status()
        assert there.sum() <= status.done == total - status.missing

    sweep(path, progress=look)


def test_only_missing_chunks_are_computed(finished):
    before = files(finished)
    assert counted(finished) == []
    for key in ("result/c/1", "theta/c/1/0/0"):
        (finished / key).unlink()
    assert counted(finished) == [(10, 10, 0)]
    # The chunk size is that of the store, if none is asked for.
    assert counted(finished, chunk_size=None) == []
    assert files(finished) == before


@pytest.mark.parametrize("content", [None, b"", b"abc"])
@pytest.mark.parametrize("key", ["theta/c/2/0/0", "result/c/0", "time/c/0/0"])
def test_chunks_that_are_cut_off_are_computed_again(finished, key, content):
    before, file = files(finished), finished / key
    file.unlink() if content is None else file.write_bytes(content)
    if key == "result/c/0" and content is None:
        assert ddln.SweepStore(finished).status().missing == 4
        assert len(counted(finished)) == 1
    else:
        assert ddln.SweepStore(finished).status().damaged == (key,)
        with pytest.warns(UserWarning, match="1 chunks of the store .* cut off or missing"):
            assert len(counted(finished)) == 1
    assert files(finished) == before


def test_a_flipped_bit_is_found(finished):
    file = finished / "theta/c/1/0/0"
    content = bytearray(file.read_bytes())
    content[17] ^= 4
    file.write_bytes(content)
    status = ddln.SweepStore(finished).status(verify=True)
    assert (status.damaged, status.done) == (("theta/c/1/0/0",), 6)
    with pytest.raises(ValueError, match="checksum"):
        sweep(finished).theta[4:8]


def test_another_sweep_is_refused_and_nothing_lost(finished):
    before = files(finished)

    def other(index):
        return crash_target.run(index + 1)

    with pytest.raises(ValueError, match=r"of another sweep(.|\n)*run.program: \w+ in the store"):
        sweep(finished, run=other)
    with pytest.raises(
        ValueError, match=r"arrays.theta.shape: \[10, 1, 3\] in the store, \[11, 1, 3\]"
    ):
        sweep(finished, size=11)
    with pytest.raises(ValueError, match=r"chunk: \[4\] in the store, \[5\] now"):
        sweep(finished, chunk_size=5)
    with pytest.raises(ValueError, match=r"arrays.end: absent in the store"):
        sweep(finished, observe=observe)
    assert files(finished) == before


def test_other_versions_are_a_warning(finished, monkeypatch):
    monkeypatch.setattr(_open_store, "versions", lambda: {"jax": "9"})
    (finished / "result/c/1").unlink()
    with pytest.warns(UserWarning, match=r"begun with other versions.*jax: .* in the store, 9 now"):
        sweep(finished)


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds no store of sweeps"):
        sweep(tmp_path)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        sweep(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "x"
    with pytest.raises(ValueError, match="There is no store"):
        ddln.SweepStore(tmp_path / "nothing").status()


def test_failures_are_counted_by_reason(path):
    stack = np.random.default_rng(0).normal(size=(6, 3))
    stack[[1, 4]] = np.nan
    loss = ddln.LeastSquares(crash_target.X, np.ones(2))
    arguments = {"chunk_size": 4, "store": path, "progress": False}
    result = ddln.sweep(jax.vmap(ddln.Square)(stack), loss, 1.0, **arguments)
    ((reason, lanes),) = result.failures().items()
    assert lanes.tolist() == [1, 4]
    assert ddln.SweepStore(path).status().failed == {reason: 2}
    with pytest.raises(RuntimeError, match=r"2 of 6 lanes failed. Lanes \[1, 4\]"):
        ddln.sweep(jax.vmap(ddln.Square)(stack), loss, 1.0, throw=True, **arguments)


def test_a_chunk_of_failures_is_finished(path):
    """All of its files hold the fill value, and are there all the same."""
    stack = np.full((6, 3), np.nan)
    loss = ddln.LeastSquares(crash_target.X, np.ones(2))
    for chunks in (2, 0):
        calls = []
        ddln.sweep(
            jax.vmap(ddln.Square)(stack),
            loss,
            1.0,
            chunk_size=4,
            store=path,
            progress=lambda *numbers, calls=calls: calls.append(numbers),
        )
        # Either chunk may be the first to end.
        assert len(calls) == chunks
        assert calls[-1:] == [(6, 6, 6)][:chunks]
        assert all(done == failed for done, _, failed in calls)
    status = ddln.SweepStore(path).status(verify=True)
    assert (status.missing, status.damaged, sum(status.failed.values())) == (0, (), 6)


def test_where_there_is_no_store(tmp_path, in_memory):
    """Opening makes nothing, and a sweep begins there as in a place it never saw."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for place in (tmp_path / "empty", tmp_path / "no/where.zarr", "memory://nothing/here.zarr"):
        store = ddln.SweepStore(place)
        assert not store.exists()
        for use in (store.status, store.to_xarray, lambda store=store: next(store.blocks())):
            with pytest.raises(ValueError, match="There is no store at"):
                use()
    below = ddln.SweepStore(tmp_path / "file/results.zarr")
    for use in (below.exists, below.status):
        with pytest.raises(ValueError, match="file is a file, not a folder"):
            use()
    assert sorted(tmp_path.rglob("*")) == before
    for place in (tmp_path / "empty", tmp_path / "no/where.zarr"):
        np.testing.assert_array_equal(sweep(place).theta, in_memory.theta)


LABELS = {"depth": [2, 3], "scale": [0.1, 1.0, 10.0], "coordinate": [5, 6, 7]}


def test_several_sweeps_share_a_store(path):
    store = ddln.SweepStore(path, ("depth", "initialization", "scale"), LABELS, {"data": "none"})
    three = sweep(store.at(depth=3), size=12, chunk_size=4)
    data = xarray.open_zarr(path, chunks=None)
    assert dict(data.sizes) == {
        "depth": 2, "initialization": 4, "scale": 3, "save": 1, "coordinate": 3
    }  # fmt: skip
    assert (data["result"].sel(depth=2) == -1).all()
    np.testing.assert_array_equal(
        data["loss"].sel(depth=3, scale=1.0, initialization=2), sweep(size=12).loss[7]
    )
    assert data.attrs["data"] == "none"
    before = files(path)
    sweep(store.at(depth=2), run=lambda i: crash_target.run(i + 100), size=12, chunk_size=4)
    after = files(path)
    root = path / "zarr.json"
    assert {key: after[key] for key in before if key != root} == {
        key: value for key, value in before.items() if key != root
    }
    status = ddln.SweepStore(path).status()
    assert status.missing == 0
    assert sorted(status.sweeps) == ["depth=2", "depth=3"]
    assert store.at(depth=3.0).where == {"depth": 3}
    np.testing.assert_array_equal(three.loss, sweep(size=12).loss)
    with pytest.raises(ValueError, match="of another sweep"):
        sweep(store.at(depth=2), size=12)
    other = ddln.SweepStore(path, store.dims, LABELS | {"scale": [0.1, 1.0, 11.0]}).at(depth=3)
    with pytest.raises(
        ValueError, match=r"scale: \[0.1, 1.0, 10.0\] in the store, \[0.1, 1.0, 11.0\]"
    ):
        sweep(other, size=12, chunk_size=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddln.SweepStore("x", ("a/b",)), "`dims` must be different names"),
        (lambda: ddln.SweepStore("x", ("a", "a")), "`dims` must be different names"),
        (lambda: ddln.SweepStore("x", ("a",), {"a": ["b"]}), "`coords` must hold lists of numbers"),
        (lambda: ddln.SweepStore("x", ("a", "b"), {"a": [1]}).at(a=2), "There is no a 2"),
        (lambda: ddln.SweepStore("x", ("a", "b"), {"b": [1]}).at(b=1), "must name the first"),
        (lambda: ddln.SweepStore("x", ("a",), {"a": [1]}).at(a=1), "but not all"),
        (lambda: sweep(ddln.SweepStore("x", ("a", "b"))), r"must have labels for \['a'\]"),
        (lambda: sweep(ddln.SweepStore("x", ("a", "b"), {"a": [1, 2, 3]})), "unfold 3 lanes each"),
        (lambda: sweep(ddln.SweepStore("x", ("a",), {"a": [1, 2]})), "unfold 2 lanes, but there"),
        (lambda: sweep("x", observe=lambda flow: {"loss": flow.loss}), "is called 'loss'"),
        (lambda: sweep("x", observe=lambda flow: {"../../x": flow.loss}), "is called '../../x'"),
        (
            lambda: sweep("x", observe=lambda flow: jax.lax.complex(flow.loss, flow.loss)),
            "of dtype complex128",
        ),
        (lambda: sweep(ddln.SweepStore("x", coords={"no": [1]})), "1 labels for 'no'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    make, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make()
    assert os.listdir(tmp_path) == []


def test_a_url(in_memory):
    url = "memory://somewhere/results.zarr"
    result = sweep(url)
    np.testing.assert_array_equal(result.theta, in_memory.theta)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/somewhere/results.zarr/theta/c/1/0/0", b"")
    with pytest.warns(UserWarning, match="1 chunks of the store"):
        assert counted(url) == [(10, 10, 0)]
    for name in ("/somewhere/results.zarr/loss/c/1/0", "/somewhere/results.zarr/result/c/1"):
        memory.rm_file(name)
    for other, held in [
        ({"host": socket.gethostname(), "pid": os.getpid()}, True),
        ({"host": "elsewhere", "pid": 1}, True),
        ({"host": socket.gethostname(), "pid": "many"}, True),
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, False),
    ]:
        lock = json.dumps(other | {"since": "then"}).encode()
        memory.pipe_file("/somewhere/results.zarr.lock", lock)
        if held:
            with pytest.raises(ValueError, match=r"no longer runs, delete memory:.*\.zarr\.lock"):
                sweep(url)
    assert counted(url) == [(10, 10, 0)]
    assert not memory.exists("/somewhere/results.zarr.lock")


def test_a_lock_of_another_machine_is_not_taken_over(path):
    lock = path.with_name("results.zarr.lock")
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "then"}))
    message = rf"process 7 on elsewhere, since then\. .*no longer runs, delete {lock}"
    with pytest.raises(ValueError, match=message):
        sweep(path)
    for content in ("garbage", "[" * 10**5, '{"host": [], "pid": -1, "since": 0}'):
        lock.write_text(content)
        with pytest.raises(ValueError, match=f"on an unknown machine.*delete {lock}"):
            sweep(path)
    assert not path.exists()


def test_what_zarr_left_behind_is_cleared(finished):
    left = finished / "theta/c/1/0" / f"0.{'a' * 32}.partial"
    left.write_bytes(b"abc")
    sweep(finished)
    assert not left.exists()


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_datasets_are_written_as_netcdf_as_they_are(finished, in_memory, tmp_path, engine):
    """SciPy's writer has netCDF 3: numbers, text, and lists of numbers."""
    for data in (
        ddln.SweepStore(finished).to_xarray(),
        xarray.open_zarr(finished),
        in_memory.to_xarray(attrs={"about": {"by": ["me"]}, "scale": np.float32(0.5)}),
    ):
        data.to_netcdf(tmp_path / "copy.nc", engine=engine)
        with xarray.open_dataset(tmp_path / "copy.nc", engine=engine) as copy:
            np.testing.assert_array_equal(copy["theta"], data["theta"])
            assert dict(copy.attrs) == dict(data.attrs)


def test_labels_of_lanes_and_attributes_of_numpy(path):
    labels = {"initialization": [*range(LANES - 1), np.nan], "coordinate": [1, 2, 4]}
    attrs = {"scale": np.float32(0.5), "sizes": np.arange(3), "on": np.True_}
    store = ddln.SweepStore(path, coords=labels, attrs=attrs)
    sweep(store)
    assert counted(store) == []
    data = store.to_xarray()
    np.testing.assert_array_equal(data["initialization"], labels["initialization"])
    np.testing.assert_array_equal(data["coordinate"], [1, 2, 4])
    assert (data.attrs["scale"], json.loads(data.attrs["sizes"])) == (0.5, [0, 1, 2])
    with pytest.raises(ValueError, match="of another sweep"):
        sweep(ddln.SweepStore(path, coords=labels | {"coordinate": [1, 2, 3]}, attrs=attrs))


@pytest.mark.parametrize("value", [object(), {1j}, {"deep": [print]}])
def test_attributes_that_are_no_plain_data(value):
    with pytest.raises(ValueError, match="`attrs` must be plain data"):
        ddln.SweepStore("anywhere.zarr", attrs={"a": value})


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_an_array_that_xarray_adds(finished):
    """xarray replaces the attributes of the group, unless it is given them."""
    added = xarray.Dataset({"mean": ("initialization", np.arange(LANES))})
    before = xarray.open_zarr(finished).attrs
    added.assign_attrs(before).to_zarr(finished, mode="a")
    assert ddln.SweepStore(finished).status().done == LANES
    assert counted(finished) == []
    added.to_zarr(finished, mode="a")
    with pytest.raises(ValueError, match=r"lost the attributes.*mean.*as they were") as refusal:
        ddln.SweepStore(finished).status()
    assert "delete" not in str(refusal.value)
    assert int((xarray.open_zarr(finished)["result"] == 0).sum()) == LANES


def test_a_store_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sweep("~/results.zarr")
    assert (tmp_path / "results.zarr").is_dir()
    assert ddln.SweepStore("~/results.zarr").status().done == LANES


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("copied", ["xarray", "folder"])
def test_a_copy_is_a_store(finished, tmp_path, copied):
    copy = tmp_path / "copy.zarr"
    if copied == "xarray":
        xarray.open_zarr(finished).to_zarr(copy)
    else:
        shutil.copytree(finished, copy)
    assert ddln.SweepStore(copy).status(verify=True).done == LANES
    assert counted(copy) == []
