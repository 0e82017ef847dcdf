"""A sweep whose arguments have been checked, and how its chunks are computed."""

import contextlib
import re
import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import tracing_for, usable_cores
from ddln._types import Array, Int
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps._widths import Widths, checked_devices, platform_of

# Two programs with batched LAPACK calls can wait for each other for ever in jaxlib's CPU backend: both block
# the threads that they share. Programs on several devices must be started in the same order on all.
_ALONE = threading.Lock()
_BATCHED_LAPACK = re.compile(r'@lapack_.*num_batch_dims = "[1-9]')

# Two threads that need the same program would both compile it.
_COMPILING = threading.Lock()


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
        cls,
        lanes: AbstractLanes,
        widths: Widths,
        chunk_size: int | None,
        devices: Sequence[Any] | None,
    ) -> "Plan":
        """Checks the arguments of a sweep that have to do with how it is computed."""
        if lanes.size - 1 > jnp.iinfo(_integer()).max:
            raise ValueError(
                f"There are {lanes.size} lanes, more than an integer of JAX can count. "
                "Enable float64 with `jax.config.update('jax_enable_x64', True)`."
            )
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"Argument `chunk_size` must be at least 1, but it is {chunk_size}.")
        devices = checked_devices(devices)
        if platform_of(devices) == "tpu" and _is_float64(lanes):
            raise ValueError(
                "A TPU emulates float64, which is of no practical use: a step takes minutes to compile. "
                "Make starts and data float32, with `rtol=1e-4, atol=1e-7`, or pass "
                "`devices=jax.devices('cpu')`."
            )
        width = default_width(lanes, widths) if chunk_size is None else chunk_size
        return cls(lanes, 0, devices).with_width(width)

    def with_width(self, width: int) -> "Plan":
        """The plan for at least so many lanes at once: as many on each device."""
        return self._replace(width=_multiple(width, self._share))

    def compile(self) -> "Program":
        """The program of all chunks, compiled once for all sweeps of the same shapes."""
        platform = platform_of(self.devices)
        with _COMPILING, tracing_for(platform):
            lowered = _on_devices.lower(self.lanes, self._indices(0, self.width), self.devices)
            run = lowered.compile()
        if self._share > 1:
            programs = 1 if platform == "cpu" else 2
            return Program(self, run, programs, alone=True)
        if platform != "cpu":
            # The second chunk is computed while the first is copied to the host and written.
            return Program(self, run, 2, alone=False)
        alone = bool(_BATCHED_LAPACK.search(lowered.as_text()))
        return Program(self, run, 1 if alone else usable_cores(), alone)

    def halved(self, error: RuntimeError) -> "Plan":
        """The plan for half as many lanes at once, if this error is one of memory."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        if self.width <= self._share:
            raise MemoryError(
                "One lane does not fit in the memory of a device. Save fewer times, keep a few numbers of "
                "each lane with `observe`, or pass float32 or `devices=jax.devices('cpu')`."
            ) from error
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


class Program(NamedTuple):
    """The compiled program of a plan.

    Attributes:
        plan: the plan.
        compiled: from the lanes, indices and devices to the lanes of a chunk, on the device.
        at_once: how many chunks are best computed at once, each in a thread of its own: one for each core
            of a CPU.
        alone: whether it must not be started while another such program is, on a CPU while another runs.
    """

    plan: Plan
    compiled: Any
    at_once: int
    alone: bool

    def run(self, start: int, stop: int) -> Lane:
        """These lanes, or the first of them if they are more than a chunk, on the host."""
        plan = self.plan
        indices = plan._indices(start, stop)
        with _ALONE if self.alone else contextlib.nullcontext():
            lanes = self.compiled(plan.lanes, indices, plan.devices)
            if platform_of(plan.devices) == "cpu":
                # Until it has ended. Elsewhere the copy overlaps with the next program.
                jax.block_until_ready(lanes)
        return jax.tree.map(lambda leaf: leaf[: stop - start], jax.device_get(lanes))


def _integer() -> np.dtype:
    """The integers that JAX counts in, with or without float64."""
    return jax.dtypes.canonicalize_dtype(int)


class Computer:
    """Computes chunks of a plan, in pieces where they do not fit in memory; in several threads, too."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._program: Program | None = None

    def __reduce__(self):
        # Other processes compile for themselves.
        return Computer, (self.plan,)

    @property
    def program(self) -> Program:
        """The compiled program of the plan."""
        program = self._program
        if program is None or program.plan is not self.plan:
            program = self._program = self.plan.compile()
        return program

    def __call__(self, start: int, stop: int) -> Lane:
        """The lanes from `start` to before `stop`, as NumPy arrays."""
        pieces = []
        while start < stop:
            plan = self.plan
            try:
                program = self.program
                pieces.append(program.run(start, stop))
            except jax.errors.JaxRuntimeError as error:
                if plan is self.plan:
                    self.plan = plan.halved(error)
                continue
            start += program.plan.width
        return joined(pieces)


def joined(pieces: Sequence[Lane]) -> Lane:
    """Stacks of lanes, one after the other."""
    if len(pieces) == 1:
        return pieces[0]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


def default_width(lanes: AbstractLanes, widths: Widths) -> int:
    """Few enough lanes that memory is bounded, and that some chunks show progress; of equal size."""
    bound = max(1, min(widths.chunk, widths.chunk_bytes // (16 * lanes.weights())))
    width = min(bound, lanes.size, max(2 * widths.queue.lanes, lanes.size // widths.pieces))
    # A short last chunk would take as long as the others.
    return -(-lanes.size // -(-lanes.size // width))


def _is_float64(lanes: AbstractLanes) -> bool:
    one = lanes.one()
    kept = jax.tree.leaves((one.theta, one.loss, one.values))
    return any(leaf.dtype == jnp.dtype("float64") for leaf in kept)


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
    order, back = deal(indices.size, len(devices))
    return jax.tree.map(lambda leaf: leaf[back], shared(indices[order], arrays))


def deal(size: int, devices: int) -> tuple[Int[Array, " size"], Int[Array, " size"]]:
    """The order in which lanes are shared out, device after device, and the way back.

    Like cards, since neighbours often cost the same; each round begins with another device, since costs are
    often periodic, as those of one scale for each of eight devices.
    """
    rounds = size // devices
    place = jnp.arange(size)
    device, row = place // rounds, place % rounds
    order = devices * row + (device + row) % devices
    row, column = place // devices, place % devices
    return order, rounds * ((column - row) % devices) + row
