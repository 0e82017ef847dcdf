"""Chunks of a grid."""

import itertools
import math

import numpy as np
import pytest

from ddln.sweeps.store._grid import Grid

GRIDS = [
    Grid.of(sizes, chunk_size)
    for sizes in [(1,), (7,), (3, 4), (2, 3, 4), (1, 5, 1), (3, 1, 2)]
    for chunk_size in (1, 2, 3, 5, 8, 100)
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_chunks_are_runs_of_lanes_that_cover_all_in_order(grid):
    lanes = np.arange(grid.lanes).reshape(grid.sizes)
    found = [lanes[grid.region(chunk)].ravel().tolist() for chunk in range(grid.chunks)]
    assert list(itertools.chain(*found)) == list(range(grid.lanes))
    for chunk, members in enumerate(found):
        assert grid.span(chunk) == (members[0], members[-1] + 1)
        assert {grid.chunk_of(lane) for lane in members} == {chunk}
    assert grid.is_consecutive


def test_chunks_are_as_large_as_they_may_be():
    assert Grid.of((2, 40, 5), 64).chunk == (1, 12, 5)
    assert Grid.of((2, 40, 5), 4).chunk == (1, 1, 4)
    assert Grid.of((2, 40, 5), 1000).chunk == (2, 40, 5)
    assert all(math.prod(grid.chunk) == grid.chunk_lanes <= grid.lanes for grid in GRIDS)


@pytest.mark.parametrize("chunk", [(2, 2), (4, 1), (0, 3)])
def test_other_chunks_are_not_consecutive(chunk):
    assert not Grid((3, 3), chunk).is_consecutive
