"""Lock of a store: one writer at a time, also between machines and without help of a kernel."""

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

# The owner of a lock counts this often, in seconds, and one that has not for so many times is dead.
BEAT = 5.0
BEATS_MISSED = 6

# Bytes of a lock.
SIZE = 512

# Answers of file systems that have no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def owner() -> dict[str, Any]:
    """Content of a lock that this process holds."""
    since = time.strftime("%FT%T%z")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "beat": 0}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file.

    The kernel drops the lock of a process that died. Some network file systems keep locks from other
    machines, and some have none. So the owner counts in the file while it lives, and a file that names
    another machine, or is on a file system without locks, is taken over if nobody counts.

    Raises:
        ValueError: if another process holds the lock, or may hold it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        kernel = _ask_kernel(handle, path)
        # The last owner may have removed the file after it was opened here.
        if not path.exists() or not os.path.samestat(os.fstat(handle), path.stat()):
            raise ValueError(f"{path} has just been released by another process. Try again.")

        def read() -> bytes:
            return path.read_bytes() if path.exists() else b""

        other = read_owner(read())
        if other is not None and not (kernel and other["host"] == socket.gethostname()):
            require_dead(path, other, read)
        with beating(lambda content: _overwrite(handle, content)):
            try:
                yield
            finally:
                # Windows removes no open file.
                if sys.platform != "win32":
                    path.unlink(missing_ok=True)
    finally:
        os.close(handle)
    if sys.platform == "win32":
        path.unlink(missing_ok=True)


def _ask_kernel(handle: int, path: Path) -> bool:
    """Take the kernel's lock on a file; False where there is none to take.

    Raises:
        ValueError: if another process has it.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(in_use(path, read_owner(os.pread(handle, 4096, 0)))) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


def _overwrite(handle: int, content: bytes) -> None:
    # In one write of one length, so that a reader never finds half of it.
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, content.ljust(SIZE))
    os.ftruncate(handle, SIZE)


@contextlib.contextmanager
def beating(write: Callable[[bytes], None]) -> Iterator[None]:
    """Write this process as the owner of a lock, and count in it until the end."""
    mine, done = owner(), threading.Event()
    write(json.dumps(mine).encode())

    def count() -> None:
        # A disk that is full, or gone for a while, is no reason to end a sweep.
        while not done.wait(BEAT):
            mine["beat"] += 1
            with contextlib.suppress(OSError):
                write(json.dumps(mine).encode())

    thread = threading.Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def require_dead(path: Any, other: dict[str, Any], read: Callable[[], bytes]) -> None:
    """Watch a lock for a while, unless its owner is a process of this machine that no longer runs.

    Args:
        path: the lock.
        other: its owner.
        read: from nothing to the lock's content.

    Raises:
        ValueError: if the owner counts, or was not one that does.
    """
    if not is_alive(other):
        return
    if other["beat"] is not None:
        end = time.monotonic() + BEAT * BEATS_MISSED
        while read_owner(read()) == other:
            if time.monotonic() > end:
                return
            time.sleep(BEAT / 5)
    raise ValueError(in_use(path, other))


def read_owner(content: bytes) -> dict[str, Any] | None:
    """Owner of a lock, by the content of its file; None for an empty file."""
    if not content:
        return None
    try:
        data = json.loads(content)
        other = {key: data[key] for key in ("host", "pid", "since")}
        other["beat"] = data.get("beat")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        other = {}
    # A process id of 0 or less would name a group of processes.
    if (
        isinstance(other.get("host"), str)
        and type(other["pid"]) is int
        and 0 < other["pid"] < 2**31
    ):
        return other
    return {
        "host": "an unknown machine",
        "pid": "unknown",
        "since": "an unknown time",
        "beat": None,
    }


def in_use(path: Any, other: dict[str, Any] | None) -> str:
    """Error message for a lock that is held."""
    who = other or {"host": socket.gethostname(), "pid": "unknown", "since": "now"}
    return (
        f"The store is being written by process {who['pid']} on {who['host']}, since {who['since']}. "
        f"Wait for that process or stop it. If it no longer runs, delete {path} and call the sweep again."
    )


def is_alive(other: dict[str, Any]) -> bool:
    """False if the owner of a lock is a process of this machine that no longer runs."""
    # On Windows the signal 0 is Ctrl-C.
    if other["host"] != socket.gethostname() or sys.platform == "win32":
        return True
    try:
        os.kill(other["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
