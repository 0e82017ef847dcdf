"""Sweeps whose chunks are computed by workers."""

import multiprocessing
import os
import signal
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor

import crash_target
import distributed
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

LANES, CHUNK = 60, 4
SCALES = np.random.default_rng(1).normal(size=LANES)
BROKEN = [5, 33]


class Counting(Executor):
    """Passes tasks on, and counts them."""

    def __init__(self, executor):
        self._executor = executor
        self._running = 0
        self.most = 0
        self.with_data = 0

    def submit(self, function, *arguments):
        self.with_data += arguments[-1] is not None
        self._running += 1
        self.most = max(self.most, self._running)
        future = self._executor.submit(function, *arguments)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _):
        self._running -= 1


def sweep(**settings):
    scales, codes = jnp.asarray(SCALES), ddln.RESULTS

    # A function that no worker can import: cloudpickle sends it, with its constants.
    def run(index):
        flow = crash_target.run(scales[index])
        broken = jnp.any(index == jnp.asarray(BROKEN))
        code = codes.where(broken, codes.nonfinite_initialization, codes.successful)
        return eqx.tree_at(lambda flow: flow.result, flow, code)

    return ddln.sweep_runs(
        run,
        LANES,
        observe=lambda flow: {"theta": flow.theta},
        chunk_size=CHUNK,
        **({"progress": False} | settings),
    )


@pytest.fixture(scope="module")
def alone():
    return sweep()


def assert_same(result, alone):
    np.testing.assert_array_equal(result.codes, alone.codes)
    theta = np.asarray(result.values["theta"])
    assert theta.dtype == np.float64
    # Tests compile with fewer optimizations than workers.
    np.testing.assert_allclose(theta, alone.values["theta"], rtol=1e-9, atol=1e-12)
    assert sorted(np.concatenate(list(result.failures().values()))) == BROKEN


def processes(count):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ddln", "zarr", "xarray"])
    return ProcessPoolExecutor(count, context)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_threads(alone):
    with ThreadPoolExecutor(4) as pool:
        counting = Counting(pool)
        assert_same(sweep(executor=counting), alone)
    assert counting.with_data == 0
    assert counting.most <= 4


def test_processes(alone, tmp_path):
    calls = []
    with processes(2) as pool:
        counting = Counting(pool)
        assert_same(sweep(executor=counting, progress=lambda *n: calls.append(n)), alone)
        assert_same(sweep(executor=pool, store=tmp_path / "results.zarr"), alone)
    assert [done for done, _, _ in calls] == list(range(CHUNK, LANES + 1, CHUNK))
    assert calls[-1] == (LANES, LANES, 2)
    # Once to each worker; both may have asked before the first data came.
    assert 1 <= counting.with_data <= 4
    assert counting.most <= 6


def test_dask_workers_may_be_killed(client, alone, tmp_path):
    workers = client.run(os.getpid)
    counting = Counting(client.get_executor())
    killed = []

    def kill_one(done, total, failed):
        if done == 3 * CHUNK:
            killed.append(next(iter(workers.values())))
            os.kill(killed[0], signal.SIGKILL)

    store = tmp_path / "results.zarr"
    result = sweep(executor=counting, store=store, progress=kill_one)
    assert killed
    assert_same(result, alone)
    assert ddln.SweepStore(store).status(verify=True).missing == 0
    # The worker that takes its place needs the data too, and each may ask for it with several tasks.
    assert 1 <= counting.with_data <= 8


def test_a_broken_pool_keeps_what_is_done(alone, tmp_path):
    store = tmp_path / "results.zarr"

    def kill_all(done, total, failed):
        if done == 3 * CHUNK:
            for pid in list(pool._processes):
                os.kill(pid, signal.SIGKILL)

    with processes(1) as pool, pytest.raises(BrokenExecutor) as broken:
        sweep(executor=pool, store=store, progress=kill_all)
    (note,) = broken.value.__notes__
    assert "Call the same sweep again" in note
    assert ddln.SweepStore(store).status(verify=True).done >= 3 * CHUNK
    assert_same(sweep(store=store), alone)


class Flaky(Executor):
    """Fails the first so many tasks."""

    def __init__(self, executor, failures):
        self._executor = executor
        self._failures = failures

    def submit(self, function, *arguments):
        if self._failures:
            self._failures -= 1
            return self._executor.submit(_lost)
        return self._executor.submit(function, *arguments)


def _lost():
    raise OSError("a worker was lost")


def test_tasks_are_tried_three_times(alone):
    with ThreadPoolExecutor(1) as pool:
        assert_same(sweep(executor=Flaky(pool, 2)), alone)
        with pytest.raises(OSError, match="a worker was lost"):
            sweep(executor=Flaky(pool, 60))


def test_no_devices_with_an_executor():
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="`devices` must be None"):
        sweep(executor=pool, devices=jax.devices())


def test_processes_that_are_forked_are_refused():
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context) as pool, pytest.raises(ValueError, match="'spawn'"):
        sweep(executor=pool)
