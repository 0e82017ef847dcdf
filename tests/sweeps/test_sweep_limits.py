"""Sweeps to t = infinity."""

import jax
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)
LOSS = ddln.LeastSquares(RNG.normal(size=(3, 6)), RNG.normal(size=3))
STACK = jax.vmap(ddln.DeepDiagonal)(RNG.normal(size=(20, 3, 6)))


def test_limits_in_the_order_of_the_lanes():
    reports = []
    result = ddln.sweep(
        STACK, LOSS, np.inf, chunk_size=8, progress=lambda *numbers: reports.append(numbers)
    )
    # Cores may finish chunks in another order.
    done = [0, *(report[0] for report in reports)]
    assert sorted(np.diff(done)) == [4, 8, 8]
    assert [report[1:] for report in reports] == [(20, 0)] * 3
    assert result.okay.all()
    assert result.method == "limit"
    assert result.theta.shape == (20, 1, 6)
    assert np.isinf(result.ts).all()
    assert result.loss.max() < 1e-18
    for lane in (0, 19):
        alone = ddln.limit(ddln.DeepDiagonal(STACK.layers[lane]), LOSS)
        np.testing.assert_allclose(result.theta[lane, 0], alone.theta, rtol=1e-9, atol=1e-12)


def test_failed_lanes_have_a_reason_and_observe_sees_the_limit():
    layers = np.asarray(STACK.layers).copy()
    layers[4, 0, 0] = np.inf
    stack = jax.vmap(ddln.DeepDiagonal)(layers)
    result = ddln.sweep(
        stack, LOSS, float("inf"), observe=lambda end: end.gap, chunk_size=8, progress=False
    )
    assert np.flatnonzero(~result.okay).tolist() == [4]
    assert "NaN or infinite" in next(iter(result.failures()))
    assert np.delete(result.values, 4).max() < 1e-9
    assert result.theta is None


def test_no_times_to_save_at():
    with pytest.raises(ValueError, match="`ts` must be None for t1 = inf"):
        ddln.sweep(STACK, LOSS, np.inf, ts=[1.0], progress=False)
