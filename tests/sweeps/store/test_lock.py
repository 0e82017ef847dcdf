"""Locks of stores, held by processes of this machine, of others, and without a kernel that keeps them."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import threading
import time

import pytest

from ddln.sweeps.store import _lock
from ddln.sweeps.store._folder import folder_at

BEAT = 0.02
HERE = socket.gethostname()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(_lock, "BEAT", BEAT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.zarr.lock"


@pytest.fixture
def without_locks(monkeypatch):
    """A file system that has no locks."""

    def flock(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(_lock.fcntl, "flock", flock)


def written(path, **content):
    path.write_text(json.dumps({"host": HERE, "pid": os.getpid(), "since": "then"} | content))


def counting(path, **content):
    """A thread that counts in a lock, as a process of another machine does, until the event is set."""
    done = threading.Event()

    def count():
        beat = 0
        while not done.wait(BEAT):
            beat += 1
            other = path.with_name("next")
            written(other, beat=beat, **content)
            os.replace(other, path)

    thread = threading.Thread(target=count)
    thread.start()
    while not path.exists():
        time.sleep(BEAT)
    return done, thread


def test_the_owner_counts(path):
    with _lock.locked(path):
        first = json.loads(path.read_bytes())
        assert (first["host"], first["pid"]) == (HERE, os.getpid())
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            # The file may be read while it is written.
            now = _lock.read_owner(path.read_bytes())
            if now and isinstance(now["beat"], int) and now["beat"] > first["beat"] + 2:
                break
        else:
            pytest.fail("the owner does not count")
    assert not path.exists()
    assert threading.active_count() == 1 or "count" not in str(threading.enumerate())


def test_a_job_that_was_killed_on_another_machine_is_taken_over(path):
    written(path, host="elsewhere", pid=7, beat=12)
    with _lock.locked(path):
        assert json.loads(path.read_bytes())["host"] == HERE


def test_a_job_that_lives_on_another_machine_is_left_alone(path):
    done, thread = counting(path, host="elsewhere", pid=7)
    try:
        with (
            pytest.raises(ValueError, match="written by process 7 on elsewhere"),
            _lock.locked(path),
        ):
            pass
    finally:
        done.set()
        thread.join()


def test_a_second_process_of_this_machine_is_refused(path):
    with (
        _lock.locked(path),
        pytest.raises(ValueError, match=f"written by process {os.getpid()} on"),
        _lock.locked(path),
    ):
        pass


@pytest.mark.usefixtures("without_locks")
def test_file_systems_without_locks(path):
    with (
        _lock.locked(path),
        pytest.raises(ValueError, match=f"process {os.getpid()} on"),
        _lock.locked(path),
    ):
        pass
    with _lock.locked(path):
        pass
    # A process that no longer runs, here or elsewhere.
    for content in ({"pid": 2**22 + 1}, {"host": "elsewhere", "pid": 7}):
        written(path, beat=3, **content)
        with _lock.locked(path):
            assert json.loads(path.read_bytes())["pid"] == os.getpid()


def test_other_errors_of_the_disk_are_raised(path, monkeypatch):
    def flock(handle, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(_lock.fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output"), _lock.locked(path):
        pass


def test_urls_are_taken_over_too():
    folder = folder_at("memory://locks/results.zarr")
    key = "/locks/results.zarr.lock"
    other = {"host": "elsewhere", "pid": 7, "since": "then", "beat": 4}
    folder._files.pipe_file(key, json.dumps(other).encode())
    with folder.lock():
        assert json.loads(folder._files.cat_file(key))["host"] == HERE
    assert not folder._files.exists(key)


def _hold(path, ready):
    with _lock.locked(path):
        ready.set()
        time.sleep(60)


def test_a_process_that_was_killed_here_leaves_no_lock(path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(path, ready))
    process.start()
    assert ready.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert path.exists()
    with _lock.locked(path):
        pass
