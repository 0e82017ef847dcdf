"""Sweeps of runs that are no gradient flows of one setting."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)
LOSS = ddln.LeastSquares(RNG.normal(size=(3, 4)), RNG.normal(size=3))
START = ddln.Square(jnp.asarray(RNG.normal(size=4)))
ENDS = jnp.linspace(0.5, 2.0, 7)


def run(index):
    """Each with an end of its own, and one that runs out of steps."""
    # 1e-13 takes more than 32 steps.
    rtol = jnp.where(index == 3, 1e-13, 1e-4)
    return ddln.gradient_flow(
        START,
        LOSS,
        ENDS[index],
        solver=diffrax.Tsit5(),
        rtol=rtol,
        atol=1e-12,
        max_steps=32,
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )


def test_each_run_has_its_own_settings():
    result = ddln.sweep_runs(run, 7, chunk_size=3, progress=False)
    for lane in (0, 5, 6):
        fine = ddln.gradient_flow(START, LOSS, ENDS[lane], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(result.theta[lane], fine.theta, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(result.ts[lane], ENDS[lane])
    np.testing.assert_array_equal(np.flatnonzero(~result.okay), [3])
    assert "maximum number of solver steps" in next(iter(result.failures()))
    assert result.theta.shape == (7, 1, 4)
    with pytest.raises(RuntimeError, match=r"1 of 7 lanes failed. Lanes \[3\]"):
        ddln.sweep_runs(run, 7, chunk_size=3, progress=False, throw=True)


def test_observe_and_progress():
    calls = []
    result = ddln.sweep_runs(
        run,
        7,
        observe=lambda flow: jnp.sum(flow.theta),
        chunk_size=3,
        progress=lambda *n: calls.append(n),
    )
    assert result.theta is None
    assert result.values.shape == (7,)
    # Chunks of two cores end in any order.
    done, of, failed = (list(row) for row in zip(*calls, strict=True))
    assert (len(calls), set(of), done[-1], failed[-1]) == (3, {7}, 7, 1)
    assert (done, failed) == (sorted(done), sorted(failed))


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`run` must return a `ddln.Trajectory`"):
        ddln.sweep_runs(lambda index: jax.numpy.ones(3), 2, progress=False)
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        ddln.sweep_runs(run, 0, progress=False)
