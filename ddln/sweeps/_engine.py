"""Chunks one after the other in this process, or as tasks of an executor."""

import contextlib
import os
import pickle
import queue
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddln.sweeps._lanes import Lane
from ddln.sweeps._plan import Computer, Plan
from ddln.sweeps.store import Grid

# A task that fails is tried this often: a worker may have been lost, or its disk.
ATTEMPTS = 3


class Finished(NamedTuple):
    """A chunk that was computed.

    Attributes:
        chunk: its number.
        lanes: how many lanes it has.
        failed: how many of them failed.
        kept: the lanes, if they were not written.
    """

    chunk: int
    lanes: int
    failed: int
    kept: Lane | None


class Job:
    """Computes chunks by number, and writes them if there is a writer.

    Args:
        plan: what to compute.
        grid: the chunks; a multiple of the lanes of `plan` may precede them.
        first: the number of the first lane of the plan in the grid.
        write: what to do with a chunk: `write(chunk, lanes)`. None keeps it.
    """

    def __init__(
        self, plan: Plan, grid: Grid, first: int, write: Callable[[int, Lane], None] | None
    ):
        self.x64 = _is_x64()
        self._compute = Computer(plan)
        self._grid = grid
        self._first = first
        self._write = write

    def __call__(self, chunk: int) -> Finished:
        start, stop = self._grid.span(chunk)
        lanes = self._compute(start - self._first, stop - self._first)
        failed = int(np.sum(~lanes.okay))
        if self._write is None:
            return Finished(chunk, stop - start, failed, lanes)
        self._write(chunk, lanes)
        return Finished(chunk, stop - start, failed, None)


def computed(
    job: Job, chunks: Iterable[int], executor: Executor | None
) -> Generator[Finished, None, None]:
    """Computes the chunks with these numbers, and yields each when it is done."""
    yield from map(job, chunks) if executor is None else _by_executor(job, chunks, executor)


class _Reply(NamedTuple):
    worker: tuple[str, int]
    finished: Finished | None


# The jobs that this process knows, by key: a worker has one, a driver one for each of its sweeps.
_jobs: dict[str, Job] = {}


def _by_executor(job: Job, chunks: Iterable[int], executor: Executor) -> Iterator[Finished]:
    """Submits a task per chunk.

    An executor tells neither how many workers it has nor which one takes a task. So tasks carry the
    number of a chunk and no data; a worker that does not know the job says so at once, and this chunk is
    submitted again with the data. There are two tasks for each worker that has answered, and two more:
    enough that none waits, and the number of known workers doubles with each round of answers.
    """
    key = uuid.uuid4().hex
    waiting = iter(chunks)
    answers: queue.SimpleQueue[Future] = queue.SimpleQueue()
    in_flight: dict[Future, int] = {}
    workers: set[tuple[str, int]] = set()
    failures: Counter[int] = Counter()
    submitted = 0
    data: tuple[bool, bytes] | None = None

    def submit(chunk: int, data: tuple[bool, bytes] | None = None) -> None:
        nonlocal submitted
        # The serial number tells tasks for the same chunk apart: Dask keeps the results of equal calls.
        submitted += 1
        future = executor.submit(_task, key, submitted, chunk, data)
        in_flight[future] = chunk
        future.add_done_callback(answers.put)

    # Threads of this process need no data.
    _jobs[key] = job
    try:
        while True:
            while len(in_flight) < 2 * len(workers) + 2:
                chunk = next(waiting, None)
                if chunk is None:
                    break
                submit(chunk)
            if not in_flight:
                return
            future = answers.get()
            chunk = in_flight.pop(future)
            try:
                reply = future.result()
            except BrokenExecutor:
                raise
            except Exception:
                failures[chunk] += 1
                if failures[chunk] == ATTEMPTS:
                    raise
                submit(chunk)
                continue
            workers.add(reply.worker)
            if reply.finished is None:
                data = (job.x64, _pickled(job)) if data is None else data
                submit(chunk, data)
            else:
                yield reply.finished
    finally:
        for future in in_flight:
            future.cancel()
        del _jobs[key]


def _task(key: str, number: int, chunk: int, data: tuple[bool, bytes] | None) -> _Reply:
    """The task of a worker."""
    worker = (socket.gethostname(), os.getpid())
    job = _jobs.get(key)
    if job is None:
        if data is None:
            return _Reply(worker, None)
        x64, pickled = data
        with _precision(x64):
            job = pickle.loads(pickled)
        _jobs.clear()
        _jobs[key] = job
    with _precision(job.x64):
        return _Reply(worker, job(chunk))


def _pickled(job: Job) -> bytes:
    """The job, with the functions in it if cloudpickle is there."""
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(job)
    return cloudpickle.dumps(job)


def _is_x64() -> bool:
    return jnp.result_type(float) == jnp.float64


def _precision(x64: bool) -> Any:
    if _is_x64() == x64:
        return contextlib.nullcontext()
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(x64)
    from jax.experimental import enable_x64  # pyright: ignore  # JAX before 0.8

    return enable_x64(x64)
