"""Stored arrays, indexed as arrays in memory."""

import jax.numpy as jnp
import numpy as np
import pytest
import zarr

from ddln.sweeps import StoredArray
from ddln.sweeps.store._grid import Grid

# The second of three parts: lanes 12 to 23 of 36.
WHOLE = np.arange(3 * 4 * 3 * 2 * 5.0).reshape(3, 4, 3, 2, 5)
LANES = WHOLE.reshape(36, 2, 5)[12:24]


@pytest.fixture(scope="module")
def stored():
    array = zarr.create_array({}, data=WHOLE, chunks=(1, 2, 3, 2, 5))
    return StoredArray(array, Grid((3, 4, 3), (1, 2, 3)), 12, 12)


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(7),
        slice(None),
        slice(2, 9, 3),
        slice(9, 2, -2),
        slice(5, 5),
        [3, 1, 11, 3, -12],
        np.zeros(0, int),
        np.arange(12) % 5 == 0,
        ...,
        (..., -1),
        (slice(None), -1),
        (4, 1, 2),
        (slice(3, 8), 0, slice(1, 4)),
        ([2, 10], slice(None), 3),
    ],
    ids=str,
)
def test_indexed_as_in_memory(stored, key):
    expected = LANES[key]
    np.testing.assert_array_equal(stored[key], expected)
    assert stored[key].shape == expected.shape


def test_is_like_an_array(stored):
    np.testing.assert_array_equal(np.asarray(stored), LANES)
    assert np.asarray(stored, np.float32).dtype == np.float32
    assert (stored.shape, stored.ndim, stored.size, len(stored)) == ((12, 2, 5), 3, 120, 12)
    assert repr(stored) == "StoredArray(shape=(12, 2, 5), dtype=float64)"


def test_computes_as_in_memory(stored):
    for function in (
        lambda a: a.min(),
        lambda a: a.mean(axis=0),
        lambda a: a.T,
        lambda a: a.astype(np.float32),
        lambda a: a.reshape(-1).tolist(),
        lambda a: 2 - a / 3,
        lambda a: -a,
        lambda a: a > 100,
        lambda a: a == a,
        lambda a: np.log1p(a),
        lambda a: np.add.reduce(a, axis=1),
        lambda a: np.concatenate([a, a]),
        lambda a: jnp.asarray(a),
    ):
        found = function(stored)
        np.testing.assert_array_equal(found, function(LANES), strict=not isinstance(found, list))
    assert not hasattr(stored, "theta")
    assert not hasattr(stored, "_other")


def test_reads_only_the_chunks_it_needs(stored, monkeypatch):
    read = []
    whole = type(stored._array).__getitem__
    monkeypatch.setattr(
        type(stored._array), "__getitem__", lambda self, key: read.append(key) or whole(self, key)
    )
    stored[[1, 7, 8]]
    assert read == [
        (slice(1, 2), slice(0, 2), slice(0, 3)),
        (slice(1, 2), slice(2, 4), slice(0, 3)),
    ]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (12, "numbered from 0 to 11"),
        ([-13], "numbered from 0 to 11"),
        ([0.5], "Index lanes with an integer, a slice, an integer array or a boolean mask"),
        (np.zeros((2, 2), int), "Index lanes with"),
        (np.ones(3, bool), r"must have shape \(12,\)"),
    ],
    ids=str,
)
def test_other_indices_are_refused(stored, key, message):
    with pytest.raises(IndexError, match=message):
        stored[key]


def test_cannot_be_had_without_a_copy(stored):
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(stored, copy=False)
