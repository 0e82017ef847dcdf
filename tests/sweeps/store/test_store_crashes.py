"""Sweeps with a store that are stopped for real: killed, without disk, without rights, interrupted."""

import multiprocessing
import os
import random
import signal
import stat
import time
from pathlib import Path

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
    contents = {}
    for target in (crash_target.many_runs, crash_target.many_flows):
        store = folder / target.__name__
        finish(target, store, cache)
        contents[target] = chunks(store)
    return contents


def start(target, store, cache, report=None, **arguments):
    process = PROCESSES.Process(
        target=crash_target.reported, args=(target, str(store), cache, report), kwargs=arguments
    )
    process.start()
    return process


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
    ("target", "kills"), [(crash_target.many_runs, 16), (crash_target.many_flows, 4)]
)
def test_killed_at_random_moments(target, kills, whole, cache, tmp_path):
    """Each process goes on where the last one was killed."""
    store, moment = tmp_path / "results.zarr", random.Random(0)
    for _ in range(kills):
        process = start(target, store, cache)
        wait_for_chunks(process, store, 1)
        time.sleep(moment.uniform(0.0, 0.03))
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
    for _ in range(4):
        process = start(target, store, cache)
        while not lock_of(store).exists():
            time.sleep(0.0005)
        time.sleep(moment.uniform(0.0, 0.02))
        process.kill()
        process.join()
    finish(target, store, cache)
    assert chunks(store) == whole[target]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.zarr"]


@pytest.mark.parametrize("files", [0, 1, 3, 9, 17, 30])
def test_no_space_left(files, whole, cache, tmp_path):
    """The write after this number of files raises: while the store is made, then in chunks."""
    target, store, report = crash_target.many_runs, tmp_path / "results.zarr", tmp_path / "report"
    process = start(crash_target.with_full_disk, store, cache, report, files=files)
    process.join(60)
    assert "No space left" in report.read_text()
    if store.exists():
        assert "Finished chunks are kept" in report.read_text()
        assert not ddln.SweepStore(store).status(verify=True).damaged
    finish(target, store, cache)
    assert chunks(store) == whole[target]


def test_files_may_not_grow(whole, cache, tmp_path):
    """The kernel cuts a file off while it is written."""
    target, store, report = crash_target.many_runs, tmp_path / "results.zarr", tmp_path / "report"
    process = start(crash_target.with_small_files, store, cache, report)
    process.join(60)
    assert "File too large" in report.read_text()
    assert "Call the same sweep again" in report.read_text()
    status = ddln.SweepStore(store).status(verify=True)
    # Another thread may have written a chunk meanwhile.
    assert status.done in (5 * crash_target.CHUNK, 6 * crash_target.CHUNK)
    assert status.damaged == ()
    finish(target, store, cache)
    assert chunks(store) == whole[target]


def test_a_folder_without_the_right_to_write(whole, cache, tmp_path_factory):
    target, folder = crash_target.many_runs, tmp_path_factory.mktemp("rights")
    store, report = folder / "results.zarr", folder / "report"
    process = start(target, store, cache)
    wait_for_chunks(process, store, 1)
    process.kill()
    process.join()
    before = chunks(store)
    report.touch()
    report.chmod(0o666)
    paths = [*folder.rglob("*"), folder]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths if path != report}
    # A place without a store, and the store with chunks.
    opened = _let_in(folder)
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name in ("results.zarr", "new.zarr"):
        process = start(crash_target.as_nobody, folder / name, cache, report)
        process.join(60)
        assert "PermissionError" in report.read_text()
        assert chunks(store) == before
    for path, mode in {**modes, **opened}.items():
        path.chmod(mode)
    assert not (folder / "new.zarr").exists()
    finish(target, store, cache)
    assert chunks(store) == whole[target]


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


def test_ctrl_c_keeps_chunks_and_says_how_to_go_on(whole, cache, tmp_path):
    target, store, report = crash_target.many_runs, tmp_path / "results.zarr", tmp_path / "report"
    start(crash_target.interrupted, store, cache, report).join(60)
    message = report.read_text()
    assert message.startswith("KeyboardInterrupt")
    assert f"of {crash_target.LANES} lanes were done. Finished chunks are kept in" in message
    assert "Call the same sweep again" in message
    assert not lock_of(store).exists()
    status = ddln.SweepStore(store).status(verify=True)
    assert 0 < status.done < status.lanes
    assert not status.damaged
    finish(target, store, cache)
    assert chunks(store) == whole[target]


def test_memory_does_not_grow_with_the_lanes(cache, tmp_path):
    """16 MiB of results against 256 MiB."""
    peaks = []
    for lanes in (1024, 16384):
        report = tmp_path / f"{lanes}"
        finish(
            crash_target.memory_of_many,
            tmp_path / f"{lanes}.zarr",
            cache,
            lanes=lanes,
            peak=str(report),
        )
        peaks.append(int(report.read_text()) / 1024)
    assert peaks[1] < peaks[0] + 48
