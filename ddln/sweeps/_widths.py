"""Numbers of lanes that suit a platform."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ddln._numerics import default_platform
from ddln.engine.internal import Queue, queue_of


class Widths(NamedTuple):
    """Numbers of lanes at once; the results do not depend on them.

    Attributes:
        queue: flows that advance together.
        limits: limits of one batch, which wait for each other.
        observed: trajectories that are observed at once, for the memory that this takes.
        chunk: lanes of a chunk, if its saved rows take no more than `chunk_bytes`.
        chunk_bytes: memory for the saved rows of a chunk.
        record_bytes: memory for what reverse mode records of a chunk.
        pieces: chunks that a sweep has if it can, so that they show progress and share the cores.
    """

    queue: Queue
    limits: int
    observed: int
    chunk: int
    chunk_bytes: int
    record_bytes: int
    pieces: int

    def with_lanes(self, lanes: int | None) -> "Widths":
        """The widths with so many flows or limits at once, if a number is given."""
        if lanes is None:
            return self
        if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1:
            raise ValueError(
                f"Argument `lanes` must be a whole number, at least 1, but it is {lanes!r}."
            )
        return self._replace(queue=self.queue.with_lanes(lanes), limits=lanes)


_CPU = Widths(
    queue=queue_of("cpu"),
    limits=16,
    observed=32,
    chunk=1024,
    chunk_bytes=2**28,
    record_bytes=2**27,
    pieces=16,
)
# Memory of 16 GB and more, and kernels that take as long for one lane as for some thousand.
_ACCELERATOR = Widths(
    queue=queue_of("gpu"),
    limits=2**14,
    observed=2**12,
    chunk=2**17,
    chunk_bytes=2**31,
    record_bytes=2**32,
    pieces=1,
)


def widths_for(devices: Sequence[Any] | None) -> Widths:
    """The widths for these devices, or for JAX's default device."""
    return widths_of(platform_of(devices))


def widths_of(platform: str) -> Widths:
    """The widths for a platform of JAX, such as "cpu"."""
    return _CPU if platform == "cpu" else _ACCELERATOR


def platform_of(devices: Sequence[Any] | None) -> str:
    """The platform of these devices, or of JAX's default device."""
    return default_platform() if not devices else devices[0].platform


def checked_devices(devices: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """The devices, of one platform."""
    if devices is None:
        return None
    devices = tuple(devices)
    if not devices:
        raise ValueError("Argument `devices` must name at least one device, but it is empty.")
    platforms = sorted({getattr(device, "platform", repr(device)) for device in devices})
    if len(platforms) > 1:
        raise ValueError(
            "Argument `devices` must name devices of one platform, such as `jax.devices()`, but it names "
            f"some of {', '.join(platforms)}."
        )
    return devices
