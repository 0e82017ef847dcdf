"""Files of a store, on a local disk or in any place that fsspec reaches."""

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ddln.sweeps.store._lock import beating, locked, read_owner, require_dead


def folder_at(url: str) -> "AbstractFolder":
    """Folder at a path or URL."""
    if url.startswith("file://"):
        url = url.removeprefix("file://")
    return RemoteFolder(url) if "://" in url else LocalFolder(Path(url))


class AbstractFolder(ABC):
    """Tree of files with keys such as `theta/c/0/1`."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Bytes of each file; empty if there is no such folder."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Content of a file."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""

    @abstractmethod
    def zarr_store(self, read_only: bool) -> Any:
        """Zarr store of the files."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Keep other writers out; raise ValueError if there is one."""

    @abstractmethod
    def create(self, fill: Callable[[Any], None]) -> None:
        """Fill a new Zarr store; on a file system with atomic renames it appears as a whole."""


class LocalFolder(AbstractFolder):
    """Folder on a local disk."""

    def __init__(self, path: Path):
        self.path = path.absolute()

    def __str__(self) -> str:
        return str(self.path)

    def sizes(self) -> dict[str, int]:
        # A file may be in the place of the folder, or of a folder above.
        file = next((p for p in (self.path, *self.path.parents) if p.is_file()), None)
        if file is not None:
            raise ValueError(f"{file} is a file, not a folder.")
        return dict(_sizes_below(str(self.path), ""))

    def read(self, key: str) -> bytes:
        return (self.path / key).read_bytes()

    def delete(self, key: str) -> None:
        (self.path / key).unlink(missing_ok=True)

    def zarr_store(self, read_only: bool) -> Any:
        from zarr.storage import LocalStore

        return LocalStore(self.path, read_only=read_only)

    def lock(self) -> AbstractContextManager[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return locked(self._beside("lock"))

    def create(self, fill: Callable[[Any], None]) -> None:
        new = LocalFolder(self._beside("new"))
        # The lock is held, so a half-made store is the rest of a process that was stopped here.
        shutil.rmtree(new.path, ignore_errors=True)
        try:
            fill(new.zarr_store(read_only=False))
            os.rename(new.path, self.path)
        except BaseException:
            shutil.rmtree(new.path, ignore_errors=True)
            raise

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")


def _sizes_below(path: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        entries = list(os.scandir(path))
    except FileNotFoundError:
        return
    for entry in entries:
        # A link could lead out of the store.
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes_below(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size


class RemoteFolder(AbstractFolder):
    """Folder behind a URL that fsspec understands."""

    def __init__(self, url: str):
        try:
            import fsspec
        except ImportError as error:
            raise ImportError(
                f'A store at {url} needs fsspec. Install it with `pip install "ddln[cli]"`, and the '
                "package for this protocol."
            ) from error
        self.url = url.rstrip("/")
        self._files, self._root = fsspec.url_to_fs(self.url)

    def __str__(self) -> str:
        return self.url

    def sizes(self) -> dict[str, int]:
        self._files.invalidate_cache()
        try:
            files = self._files.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        prefix = self._root.rstrip("/") + "/"
        return {
            name[len(prefix) :]: int(facts["size"])
            for name, facts in files.items()
            if name.startswith(prefix)
        }

    def read(self, key: str) -> bytes:
        return self._files.cat_file(f"{self._root}/{key}")

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{key}")

    def zarr_store(self, read_only: bool) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(self.url, read_only=read_only)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        # No kernel arbitrates, so two processes that start in the same instant are not kept apart.
        path = f"{self._root}.lock"

        def read() -> bytes:
            self._files.invalidate_cache()
            try:
                return self._files.cat_file(path)
            except FileNotFoundError:
                return b""

        if (other := read_owner(read())) is not None:
            require_dead(f"{self.url}.lock", other, read)
        try:
            with beating(lambda content: self._files.pipe_file(path, content)):
                yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(path)

    def create(self, fill: Callable[[Any], None]) -> None:
        fill(self.zarr_store(read_only=False))
