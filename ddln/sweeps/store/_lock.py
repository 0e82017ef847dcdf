"""One writer for a store at a time."""

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
    """This process, as it is written to a lock."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%FT%T%z")}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file.

    The kernel drops the lock of a process that died. A file system that does not tell other machines
    about locks is why a file that names another machine is not taken over.

    Raises:
        ValueError: if another process holds it, or may hold it on another machine.
    """
    if sys.platform == "win32":
        raise ValueError("Stores on a local disk can be written on Linux and macOS only.")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(in_use(path, read_owner(os.pread(handle, 4096, 0)))) from None
        # The file may have been removed by its last owner after it was opened here.
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
    """Who wrote a lock; None for an empty one."""
    if not content:
        return None
    try:
        found = json.loads(content)
        return {key: found[key] for key in ("host", "pid", "since")}
    except (ValueError, TypeError, KeyError):
        return {"host": "an unknown machine", "pid": "unknown", "since": "an unknown time"}


def in_use(path: Any, other: dict[str, Any] | None) -> str:
    """The message for a lock that is held."""
    who = other or {"host": socket.gethostname(), "pid": "unknown", "since": "now"}
    return (
        f"The store is being written by process {who['pid']} on {who['host']}, since {who['since']}. "
        f"Wait for it or stop it; if it runs no more, delete {path}."
    )


def is_alive(other: dict[str, Any]) -> bool:
    """Whether a process that wrote a lock may still run."""
    if other["host"] != socket.gethostname():
        return True
    try:
        os.kill(int(other["pid"]), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
