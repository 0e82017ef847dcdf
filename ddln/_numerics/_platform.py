"""The machine: what programs are traced for, and its cores."""

import contextlib
import contextvars
import os
from collections.abc import Iterator
from typing import Any

import jax

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def default_device() -> Any:
    """JAX's default device, or its platform, as it was set; None if it was not."""
    return jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]


@contextlib.contextmanager
def tracing_for(platform: str) -> Iterator[None]:
    """Within it programs are traced for this platform. They are right on any other, and slower."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def default_platform() -> str:
    """The platform that programs are traced for, such as "gpu"; that of the default device if not told."""
    if (platform := _platform.get()) is not None:
        return platform
    device = default_device()
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def usable_cores() -> int:
    """Number of cores that this process may use, which a job on a shared machine does not all own."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    # Of a Slurm job, and of a worker of `ddln sweep --workers`, as XLA takes it.
    allotted = [os.environ.get(name, "") for name in ("SLURM_CPUS_PER_TASK", "NPROC")]
    return min([cores, *(int(count) for count in allotted if count.isdecimal() and int(count))])
