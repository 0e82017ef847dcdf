"""View of a Zarr store that shows the arrays of a sweep alone.

Imported when a store is opened, because zarr is an optional dependency.
"""

from collections.abc import AsyncIterator, Collection
from typing import Any

from zarr.storage import WrapperStore

from ddln.sweeps.store._header import ROOT


class OwnArrays(WrapperStore):
    """Zarr store without the arrays that others added, whose metadata may be of any form.

    Args:
        store: the whole Zarr store.
        names: the arrays to show.
    """

    def __init__(self, store: Any, names: Collection[str]):
        super().__init__(store)
        self._shown = {ROOT, *names}

    def _with_store(self, store: Any) -> "OwnArrays":
        return OwnArrays(store, self._shown)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        async for name in self._store.list_dir(prefix):
            if prefix.strip("/") or name in self._shown:
                yield name
