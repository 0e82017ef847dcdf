"""Sweeps with a store that are stopped for real: killed, without disk, without rights, interrupted."""

import multiprocessing
import os
import random
import shutil
import signal
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple

import crash_target
import pytest

import ddln

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["ddln", "zarr", "xarray"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """The chunk files of sweeps that were not stopped."""
    folder = tmp_path_factory.mktemp("whole")
    stores = {
        target: folder / target.__name__
        for target in (crash_target.many_runs, crash_target.many_flows)
    }
    together([(target, store, None, {}) for target, store in stores.items()], cache)
    return {target: chunks(store) for target, store in stores.items()}


class Stopped(NamedTuple):
    """A sweep that an error ended, and the chunks of the same sweep called again."""

    message: str
    status: ddln.SweepStatus | None
    locked: bool
    copy: Path
    finished: dict[str, bytes]


# The write after this number of files raises: while the store is made, then in chunks.
FULL_DISKS = (0, 1, 3, 9, 17, 30)


@pytest.fixture(scope="module")
def stopped(cache, tmp_path_factory):
    """All sweeps that end by an error: in one process, and gone on with in another."""
    folder = tmp_path_factory.mktemp("stopped")
    cases: dict[Any, tuple] = {
        files: (crash_target.with_full_disk, {"files": files}) for files in FULL_DISKS
    }
    cases["small files"] = (crash_target.with_small_files, {})
    cases["interrupted"] = (crash_target.interrupted, {})
    stores = {name: folder / f"{name}.zarr" for name in cases}
    reports = {name: folder / f"{name}.report" for name in cases}
    together([(cases[n][0], stores[n], reports[n], cases[n][1]) for n in cases], cache)
    before = {}
    for name, store in stores.items():
        status = ddln.SweepStore(store).status(verify=True) if store.exists() else None
        copy = folder / f"{name}.copy"
        if store.exists():
            shutil.copytree(store, copy)
        before[name] = (reports[name].read_text(), status, lock_of(store).exists(), copy)
    together([(crash_target.many_runs, store, None, {}) for store in stores.values()], cache)
    return {name: Stopped(*before[name], chunks(stores[name])) for name in cases}


def start(target, store, cache, report=None, **arguments):
    process = PROCESSES.Process(
        target=crash_target.reported, args=(target, str(store), cache, report), kwargs=arguments
    )
    process.start()
    return process


def together(cases, cache):
    """Run targets in one process."""
    cases = [
        (target, str(store), report and str(report), arguments)
        for target, store, report, arguments in cases
    ]
    process = PROCESSES.Process(target=crash_target.in_turn, args=(cases, cache))
    process.start()
    process.join(200)
    assert process.exitcode == 0


def finish(target, store, cache, **arguments):
    process = start(target, store, cache, **arguments)
    process.join(100)
    assert process.exitcode == 0


def chunks(store: Path) -> dict[str, bytes]:
    files = [path for path in store.rglob("*") if path.is_file() and "c" in path.parts]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def marks(store: Path) -> int:
    return len(os.listdir(store / "result/c")) if (store / "result/c").exists() else 0


def wait_for_chunks(process, store: Path, count: int) -> None:
    """Until this process has computed chunks."""
    until, least = time.monotonic() + 60, marks(store) + count
    while marks(store) < least:
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.001)


def lock_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.lock")


@pytest.mark.parametrize(
    ("target", "kills"), [(crash_target.many_runs, 5), (crash_target.many_flows, 2)]
)
def test_killed_at_random_moments(target, kills, whole, cache, tmp_path):
    """Each process goes on where the last one was killed."""
    store, moment = tmp_path / "results.zarr", random.Random(0)
    for _ in range(kills):
        process = start(target, store, cache)
        wait_for_chunks(process, store, 1)
        time.sleep(moment.uniform(0.0, 0.015))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert lock_of(store).exists()
        # Marked chunks are right, and the store can be read at once.
        status = ddln.SweepStore(store).status(verify=True)
        assert not status.damaged
        assert 0 < status.done < status.lanes
        for mark in (store / "result/c").iterdir():
            if mark.name.isdigit():
                assert mark.read_bytes() == whole[target][f"result/c/{mark.name}"]
    finish(target, store, cache)
    assert chunks(store) == whole[target]
    assert not lock_of(store).exists()


def test_killed_while_the_store_is_made(whole, cache, tmp_path):
    target, store, moment = crash_target.many_runs, tmp_path / "results.zarr", random.Random(1)
    for _ in range(3):
        process = start(target, store, cache)
        while not lock_of(store).exists():
            time.sleep(0.0005)
        time.sleep(moment.uniform(0.0, 0.02))
        process.kill()
        process.join()
    finish(target, store, cache)
    assert chunks(store) == whole[target]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.zarr"]


@pytest.mark.parametrize("files", FULL_DISKS)
def test_no_space_left(files, stopped, whole):
    message, status, _, _, finished = stopped[files]
    assert "No space left" in message
    if status is not None:
        assert "Finished chunks are kept" in message
        assert not status.damaged
    assert finished == whole[crash_target.many_runs]


def test_files_may_not_grow(stopped, whole):
    """The kernel cuts a file off while it is written."""
    message, status, _, _, finished = stopped["small files"]
    assert "File too large" in message
    assert "Call the same sweep again" in message
    # Another thread may have written a chunk meanwhile.
    assert status.done in (5 * crash_target.CHUNK, 6 * crash_target.CHUNK)
    assert status.damaged == ()
    assert finished == whole[crash_target.many_runs]


def test_ctrl_c_keeps_chunks_and_says_how_to_go_on(stopped, whole):
    message, status, locked, _, finished = stopped["interrupted"]
    assert message.startswith("KeyboardInterrupt")
    assert f"of {crash_target.LANES} lanes were done. Finished chunks are kept in" in message
    assert "Call the same sweep again" in message
    assert not locked
    assert 0 < status.done < status.lanes
    assert not status.damaged
    assert finished == whole[crash_target.many_runs]


def test_a_folder_without_the_right_to_write(stopped, cache, tmp_path_factory):
    """A place without a store, and a store with some chunks."""
    folder = tmp_path_factory.mktemp("rights")
    shutil.copytree(stopped["interrupted"].copy, folder / "results.zarr")
    reports = [folder / "report", folder / "report of new"]
    for report in reports:
        report.touch()
        report.chmod(0o666)
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    paths = [*before.keys() - reports, folder]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    opened = _let_in(folder)
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    together(
        [
            (crash_target.as_nobody, folder / name, report, {})
            for name, report in zip(("results.zarr", "new.zarr"), reports, strict=True)
        ],
        cache,
    )
    for path, mode in {**modes, **opened}.items():
        path.chmod(mode)
    for report in reports:
        assert "PermissionError" in report.read_text()
    after = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in before.keys() - reports)


def _let_in(folder: Path) -> dict[Path, int]:
    """Lets other users through the folders above; returns how they were."""
    modes = {}
    for path in folder.parents:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.stat().st_uid == os.getuid() and mode | 0o011 != mode:
            modes[path] = mode
            path.chmod(mode | 0o011)
    return modes


def test_two_processes_on_one_store(whole, cache, tmp_path):
    target, store, report = crash_target.many_runs, tmp_path / "results.zarr", tmp_path / "report"
    first = start(target, store, cache)
    wait_for_chunks(first, store, 1)
    os.kill(first.pid, signal.SIGSTOP)
    # A thread of it may still be about to rename a file.
    time.sleep(0.2)
    before = chunks(store)
    second = start(target, store, cache, report)
    second.join(60)
    assert f"ValueError: The store is being written by process {first.pid} on" in report.read_text()
    assert chunks(store) == before
    first.kill()
    first.join()
    # The lock of a dead process is in nobody's way.
    assert lock_of(store).exists()
    finish(target, store, cache)
    assert chunks(store) == whole[target]


def test_memory_does_not_grow_with_the_lanes(cache, tmp_path):
    """16 MiB of results, and then 160 MiB in the same process."""
    sizes = [1024, 10240]
    together([(crash_target.memory_of_many, tmp_path, None, {"sizes": sizes})], cache)
    peaks = [int((tmp_path / f"{lanes}.peak").read_text()) / 1024 for lanes in sizes]
    assert peaks[1] < peaks[0] + 48
