"""Lock of a store: one writer at a time."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl


def owner() -> dict[str, Any]:
    """Content of a lock that this process holds."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%FT%T%z")}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file.

    The kernel drops the lock of a process that died. Some network file systems keep locks from other
    machines, so a file that names another machine is not taken over.

    Raises:
        ValueError: if another process holds the lock, or may hold it on another machine.
    """
    if sys.platform == "win32":
        raise ValueError("Stores on a local disk can be written on Linux and macOS only.")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(in_use(path, read_owner(os.pread(handle, 4096, 0)))) from None
        # The last owner may have removed the file after it was opened here.
        if not path.exists() or os.fstat(handle).st_ino != path.stat().st_ino:
            raise ValueError(f"{path} has just been released by another process. Try again.")
        other = read_owner(os.pread(handle, 4096, 0))
        if other and other["host"] != socket.gethostname():
            raise ValueError(in_use(path, other))
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner()).encode(), 0)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def read_owner(content: bytes) -> dict[str, Any] | None:
    """Owner of a lock, by the content of its file; None for an empty file."""
    if not content:
        return None
    try:
        data = json.loads(content)
        other = {key: data[key] for key in ("host", "pid", "since")}
    except (ValueError, TypeError, KeyError, RecursionError):
        other = {}
    # A process id of 0 or less would name a group of processes.
    if (
        isinstance(other.get("host"), str)
        and type(other["pid"]) is int
        and 0 < other["pid"] < 2**31
    ):
        return other
    return {"host": "an unknown machine", "pid": "unknown", "since": "an unknown time"}


def in_use(path: Any, other: dict[str, Any] | None) -> str:
    """Error message for a lock that is held."""
    who = other or {"host": socket.gethostname(), "pid": "unknown", "since": "now"}
    return (
        f"The store is being written by process {who['pid']} on {who['host']}, since {who['since']}. "
        f"Wait for that process or stop it. If it no longer runs, delete {path} and call the sweep again."
    )


def is_alive(other: dict[str, Any]) -> bool:
    """False if the owner of a lock is a process of this machine that no longer runs."""
    if other["host"] != socket.gethostname():
        return True
    try:
        os.kill(other["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
