"""Datasets of results in memory."""

import jax
import numpy as np
import pytest

import ddln

LOSS = ddln.LeastSquares(np.eye(2), np.ones(2))


@pytest.fixture(scope="module")
def result():
    stack = jax.vmap(ddln.DeepDiagonal)(np.random.default_rng(0).normal(size=(6, 2, 2)))
    return ddln.sweep(stack, LOSS, 1.0, ts=[0.0, 1.0], progress=False)


def test_to_xarray_is_labelled(result):
    data = result.to_xarray()
    assert dict(data.sizes) == {"initialization": 6, "save": 2, "coordinate": 2}
    np.testing.assert_array_equal(data["theta"], result.theta)
    assert data.attrs["method"] == result.method


def test_to_xarray_unfolds_the_lanes(result):
    coords = {"seed": [0, 1], "scale": [0.1, 1.0, 10.0]}
    data = result.to_xarray(("seed", "scale"), coords)
    np.testing.assert_array_equal(data["loss"].sel(seed=1, scale=0.1), result.loss[3])


def test_to_xarray_needs_sizes_that_fit(result):
    with pytest.raises(ValueError, match="`dims` must unfold 6 lanes"):
        result.to_xarray(("seed", "scale"), {"seed": [0], "scale": [1.0]})
