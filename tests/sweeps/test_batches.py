import jax.numpy as jnp
import numpy as np
import pytest

from ddln.sweeps._batches import in_batches


@pytest.mark.parametrize("count", [1, 3, 7, 9])
def test_every_lane_once_by_one_program(count):
    traced = []

    def function(lane):
        traced.append(1)
        number, row = lane
        return {"sum": number + row.sum(), "row": row}

    rows = np.arange(2.0 * count).reshape(count, 2)
    values = in_batches(function, (jnp.arange(float(count)), jnp.asarray(rows)), 3)
    np.testing.assert_array_equal(values["sum"], np.arange(count) + rows.sum(axis=1))
    np.testing.assert_array_equal(values["row"], rows)
    # A remainder would be traced too.
    assert len(traced) == 1
