"""Chunks in this process, on all its cores, or as tasks of an executor."""

import contextlib
import itertools
import os
import pickle
import queue
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import default_device
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

    def at_once(self) -> int:
        """Number of chunks that are best computed at once in this process."""
        return self._compute.program.at_once

    def __call__(self, chunk: int) -> Finished:
        start, stop = self._grid.span(chunk)
        lanes = self._compute(start - self._first, stop - self._first)
        failed = int(np.sum(~lanes.okay))
        if self._write is None:
            return Finished(chunk, stop - start, failed, lanes)
        self._write(chunk, lanes)
        return Finished(chunk, stop - start, failed, None)


def computed(
    job: Job, chunks: Sequence[int], executor: Executor | None
) -> Generator[Finished, None, None]:
    """Computes the chunks with these numbers, and yields each when it is done."""
    if executor is not None:
        yield from _by_executor(job, chunks, executor)
    elif len(chunks) > 1 and (threads := min(job.at_once(), len(chunks))) > 1:
        yield from _by_threads(job, chunks, threads)
    else:
        yield from map(job, chunks)


def _by_threads(job: Job, chunks: Sequence[int], threads: int) -> Iterator[Finished]:
    """Computes chunks at once in threads of this process, which have its settings of JAX."""
    device = default_device()

    def finished(chunk: int) -> Finished:
        with _precision(job.x64), jax.default_device(device):
            return job(chunk)

    waiting = iter(chunks)
    with ThreadPoolExecutor(threads, "ddln-sweep") as pool:
        running = {pool.submit(finished, chunk) for chunk in itertools.islice(waiting, threads)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                # Before the results are looked at, so that no thread waits for that.
                more = itertools.islice(waiting, len(done))
                running |= {pool.submit(finished, chunk) for chunk in more}
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


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
