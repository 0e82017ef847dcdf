"""A sweep whose arguments have been checked, and how its chunks are computed."""

import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln.engine.internal import WIDTH
from ddln.sweeps._lanes import AbstractLanes, Lane

# A chunk holds this many lanes, if its saved rows take no more memory than CHUNK_BYTES.
CHUNK = 1024
CHUNK_BYTES = 2**28

# Two programs at once can wait for each other for ever in jaxlib's CPU backend.
_ONE_PROGRAM = threading.Lock()


class Plan(NamedTuple):
    """The lanes to compute, and the number of lanes at once.

    Attributes:
        lanes: what is computed.
        width: how many lanes one program computes.
        devices: to share each program.
    """

    lanes: AbstractLanes
    width: int
    devices: tuple[Any, ...] | None

    @classmethod
    def of(
        cls, lanes: AbstractLanes, chunk_size: int | None, devices: Sequence[Any] | None
    ) -> "Plan":
        """Checks the arguments of a sweep that have to do with how it is computed."""
        if lanes.size - 1 > jnp.iinfo(_integer()).max:
            raise ValueError(
                f"There are {lanes.size} lanes, more than an integer of JAX can count. "
                "Enable float64 with `jax.config.update('jax_enable_x64', True)`."
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"Argument `chunk_size` must be at least 1, but it is {chunk_size}.")
        if devices is not None:
            devices = tuple(devices)
            if not devices:
                raise ValueError(
                    "Argument `devices` must name at least one device, but it is empty."
                )
        width = default_width(lanes) if chunk_size is None else chunk_size
        return cls(lanes, 0, devices).with_width(width)

    def with_width(self, width: int) -> "Plan":
        """The plan for at least so many lanes at once: as many on each device."""
        return self._replace(width=_multiple(width, self._share))

    def compile(self) -> None:
        """Compiles the program of all chunks."""
        _on_devices.lower(self.lanes, self._indices(0, self.width), self.devices).compile()

    def run(self, start: int, stop: int) -> Lane:
        """These lanes, or the first of them if they are more than `width`, on the host."""
        with _ONE_PROGRAM:
            indices = self._indices(start, stop)
            lanes = jax.device_get(_on_devices(self.lanes, indices, self.devices))
        return jax.tree.map(lambda leaf: leaf[: stop - start], lanes)

    def halved(self, error: RuntimeError) -> "Plan":
        """The plan for half as many lanes at once, if this error is one of memory."""
        if "RESOURCE_EXHAUSTED" not in str(error) or self.width <= self._share:
            raise error
        plan = self.with_width(self.width // 2)
        warnings.warn(
            f"Chunks of {self.width} lanes do not fit in memory; the sweep goes on with "
            f"{plan.width}. Pass `chunk_size={plan.width}` to begin with it.",
            stacklevel=3,
        )
        return plan

    @property
    def _share(self) -> int:
        return 1 if self.devices is None else len(self.devices)

    def _indices(self, start: int, stop: int) -> np.ndarray:
        # A short piece repeats its last lane, so that all have one shape: one compilation. On the host,
        # where that takes no program.
        last = min(stop, self.lanes.size) - 1
        return np.minimum(np.arange(start, start + self.width), last).astype(_integer())


def _integer() -> np.dtype:
    """The integers that JAX counts in, with or without float64."""
    return jax.dtypes.canonicalize_dtype(int)


class Computer:
    """Computes chunks of a plan, in pieces where they do not fit in memory."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def __call__(self, start: int, stop: int) -> Lane:
        """The lanes from `start` to before `stop`, as NumPy arrays."""
        pieces = []
        while start < stop:
            try:
                pieces.append(self.plan.run(start, stop))
            except jax.errors.JaxRuntimeError as error:
                self.plan = self.plan.halved(error)
                continue
            start += self.plan.width
        return joined(pieces)


def joined(pieces: Sequence[Lane]) -> Lane:
    """Stacks of lanes, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


def default_width(lanes: AbstractLanes) -> int:
    """Few enough lanes that memory is bounded, and that some chunks show progress."""
    bound = max(1, min(CHUNK, CHUNK_BYTES // (16 * lanes.weights())))
    return min(bound, lanes.size, max(2 * WIDTH, lanes.size // 16))


def _multiple(size: int, count: int) -> int:
    """The smallest multiple of `count` that is at least `size`."""
    return -(-size // count) * count


@eqx.filter_jit
def _on_devices(lanes: AbstractLanes, indices, devices) -> Lane:
    """The lanes of a chunk, shared out among devices; each works through its own."""
    if devices is None:
        return lanes.compute(indices)
    arrays, rest = eqx.partition(lanes, eqx.is_array)

    def share(indices, arrays):
        return eqx.combine(arrays, rest).compute(indices)

    mesh = jax.sharding.Mesh(np.array(devices), ("lanes",))
    along, whole = jax.sharding.PartitionSpec("lanes"), jax.sharding.PartitionSpec()
    # Lanes are independent, so what the loops carry need not be proved to vary with the device.
    shared = jax.shard_map(
        share, mesh=mesh, in_specs=(along, whole), out_specs=along, check_vma=False
    )
    # Dealt out like cards: neighbours often cost the same.
    dealt = indices.reshape(-1, len(devices)).T.reshape(-1)
    return jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf.reshape(len(devices), -1, *leaf.shape[1:]), 0, 1).reshape(
            leaf.shape
        ),
        shared(dealt, arrays),
    )
