"""Stores that somebody made or changed by hand.

Errors, without memory for false claims, execution of code or changes of other files. The subjects are
`_header`, `_array_spec` and `_own_arrays`.
"""

import json
import resource

import crash_target
import numpy as np
import pytest
import zarr

import ddln
from ddln.sweeps.store import _header


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("pristine") / "results.zarr"
    ddln.sweep_runs(crash_target.run, 10, store=path, chunk_size=4, progress=False)
    return path


@pytest.fixture
def path(pristine, tmp_path):
    copy = tmp_path / "results.zarr"
    for file in pristine.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(pristine)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return copy


def change(file, *keys, value):
    data = json.loads(file.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    file.write_text(json.dumps(data))


def refused(path, message):
    store, before = ddln.SweepStore(path), sorted(path.parent.rglob("*"))
    for use in (store.status, store.to_xarray, lambda: sweep(path)):
        with pytest.raises(ValueError, match=message):
            use()
    assert sorted(path.parent.rglob("*")) == before


def sweep(path):
    return ddln.sweep_runs(crash_target.run, 10, store=path, chunk_size=4, progress=False)


CHUNKS = ("chunk_grid", "configuration", "chunk_shape")


@pytest.mark.parametrize(
    ("array", "keys", "value", "message"),
    [
        ("theta", ("shape",), [10**15, 10**15, 3], "has the shape"),
        ("theta", ("shape",), [-1, 1, 3], "has the shape"),
        ("theta", ("shape",), [10.5, 1, 3], "has the shape"),
        ("theta", ("shape",), [True, 1, 3], "has the shape"),
        ("theta", ("shape",), [1] * 100, "has the shape"),
        ("theta", ("shape",), "10", "has the shape"),
        ("theta", ("shape",), ..., "has the shape None"),
        ("theta", ("shape",), [10, 1, 4], "does not fit the others"),
        ("theta", ("shape",), [11, 1, 3], "does not fit the others"),
        ("theta", CHUNKS, [4, 1, 2], "does not fit the others"),
        ("theta", CHUNKS, [10**12, 1, 3], "chunks of shape"),
        ("theta", CHUNKS, [0, 1, 3], "chunk grid"),
        ("theta", ("chunk_grid",), {"name": "other"}, "chunk grid"),
        ("theta", ("chunk_grid",), 4, "chunk grid"),
        ("result", CHUNKS, [11], "chunks of shape"),
        ("theta", ("data_type",), "object", "entries of type 'object'"),
        ("theta", ("data_type",), "string", "entries of type 'string'"),
        ("theta", ("data_type",), "complex128", "entries of type 'complex128'"),
        ("theta", ("data_type",), {"name": "struct"}, "entries of type"),
        ("theta", ("data_type",), "float32", None),
        ("result", ("data_type",), "int64", "has no 'result'"),
        ("okay", ("data_type",), "int8", "has no 'okay'"),
        ("loss", ("dimension_names",), ["initialization", "other"], "has no 'loss'"),
        ("result", ("attributes", "flag_meanings"), {"0": "x"}, "result codes mean"),
        ("result", ("attributes", "flag_meanings"), [1], "result codes mean"),
        ("theta", ("codecs",), [{"name": "numcodecs.pickle"}], "has the codecs"),
        ("theta", ("codecs",), [{"name": "bytes"}, {"name": "gzip"}], "has the codecs"),
        ("theta", ("codecs",), ..., "has the codecs"),
        ("theta", ("storage_transformers",), [{"name": "x"}], "storage transformers"),
        ("theta", ("chunk_key_encoding",), {"name": "v2"}, "chunk keys"),
        ("theta", ("dimension_names",), ["../..", "save", "coordinate"], "has the dimensions"),
        ("theta", ("dimension_names",), ["other", "save", "coordinate"], "does not label"),
        ("theta", ("dimension_names",), ..., "has the dimensions"),
        ("theta", ("attributes",), [], "attributes of another form"),
        ("theta", ("zarr_format",), 2, "another format"),
        ("theta", ("node_type",), "group", "another format"),
        (".", ("zarr_format",), 2, "not a Zarr group of format 3"),
        (".", ("attributes",), ..., "not a store of sweeps"),
        (".", ("attributes", "ddln_format"), ..., "not a store of sweeps"),
        (".", ("attributes", "ddln_format"), 99, "has the format 99"),
        (".", ("attributes", "dims"), ["../x"], "has the dimensions"),
        (".", ("attributes", "dims"), [["x"]], "has the dimensions"),
        (".", ("attributes", "dims"), [], "has the dimensions"),
        (".", ("attributes", "dims"), ["other"], "has no 'result'"),
        (".", ("attributes", "sweeps"), {"all": 1}, "does not say what was computed"),
        (".", ("attributes", "sweeps"), ..., "does not say what was computed"),
        (".", ("attributes", "versions"), [], "does not say what was computed"),
        (".", ("attributes", "arrays"), "theta", "has arrays at theta"),
        (".", ("attributes", "arrays"), [["theta"]], "has arrays at"),
        (".", ("attributes", "arrays"), [], "has no 'result'"),
    ],
)  # fmt: skip
def test_metadata(path, array, keys, value, message):
    change(path / array / "zarr.json", *keys, value=value)
    if message is not None:
        refused(path, message)
        return
    # A smaller type is a store that could be, but its files have the wrong size.
    assert len(ddln.SweepStore(path).status().damaged) == 3
    with pytest.raises(ValueError, match="of another sweep"):
        sweep(path)


def test_consolidated_metadata_are_not_believed(path):
    keys = ("consolidated_metadata", "metadata", "theta", "shape")
    change(path / "zarr.json", *keys, value=[10**15, 1, 3])
    assert ddln.SweepStore(path).to_xarray()["theta"].shape == (10, 1, 3)


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10**5, "\x00", '"x"'])
def test_metadata_that_are_no_object(path, content):
    (path / "theta/zarr.json").write_text(content)
    refused(path, "metadata of 'theta' in the store")


def test_metadata_that_are_too_long(path, monkeypatch):
    monkeypatch.setattr(_header, "MOST_METADATA", 100)
    refused(path, r"metadata zarr.json of the store have \d+ bytes")


@pytest.mark.parametrize("name", ["a/b", "a.b", " "])
@pytest.mark.parametrize("listed", [True, False])
def test_arrays_in_odd_places(path, name, listed):
    (path / name).mkdir(parents=True)
    (path / name / "zarr.json").write_bytes((path / "loss/zarr.json").read_bytes())
    attrs = json.loads((path / "zarr.json").read_text())["attributes"]
    names = [*json.loads(attrs["arrays"]), name]
    change(path / "zarr.json", "attributes", "arrays", value=names if listed else ...)
    refused(path, "has arrays at .*" + name)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"zarr_format": 3, "node_type": "group"}'])
def test_arrays_of_others_are_left_alone(path, content):
    """Such as a mean that somebody added to the group: compressed, with dimensions of its own, or broken."""
    if content is None:
        group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
        group.create_array("mean", data=np.arange(7), chunks=(3,))
    else:
        (path / "mean").mkdir()
        (path / "mean/zarr.json").write_text(content)
    for key in ("result/c/1", "theta/c/1/0/0"):
        (path / key).unlink()
    store, added = ddln.SweepStore(path), (path / "mean/zarr.json").read_text()
    assert store.status(verify=True).missing == 4
    assert "mean" not in store.to_xarray()
    assert [block.sizes["initialization"] for block in store.blocks()] == [4, 2]
    sweep(path)
    assert store.status().missing == 0
    assert (path / "mean/zarr.json").read_text() == added


def test_links_lead_nowhere(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    (path / "theta/zarr.json").unlink()
    (path / "theta/zarr.json").symlink_to(secret)
    with pytest.raises(ValueError, match=r"of another sweep(.|\n)*arrays.theta"):
        sweep(path)
    assert secret.read_text() == "{}"


def test_an_array_that_claims_a_lot_takes_no_memory(path):
    """A store for 10^12 lanes with one chunk: what it claims is not allocated."""
    lanes = 10**12
    for array in path.glob("*/zarr.json"):
        data = json.loads(array.read_text())
        change(array, "shape", value=[lanes, *data["shape"][1:]])
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = ddln.SweepStore(path)
    assert store.to_xarray()["theta"].shape[0] == lanes
    assert store.status().missing == lanes - 12
    with pytest.raises(ValueError, match="of another sweep"):
        sweep(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < limit + 2**18


def test_nothing_is_pickled(path):
    contents = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert b"pickle" not in contents
    group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
    assert all(np.dtype(array.dtype).kind in "biuf" for _, array in group.arrays())


def test_the_unchanged_copy_is_accepted(path):
    assert ddln.SweepStore(path).status(verify=True).missing == 0
    sweep(path)
