"""Targets of the processes that the tests of crashes stop."""

import errno
import os
import resource
import signal
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import zarr

import ddln
from ddln.flows.states import FullSpace

NOBODY = 65534

LANES, CHUNK = 320, 4
X = jnp.asarray([[1.0, 2.0, -1.0], [0.5, -1.0, 1.0]])


def setup(cache: str) -> None:
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def run(index, steps=2000):
    """A descent long enough that a chunk takes some milliseconds."""
    start = ddln.DeepDiagonal(jnp.full((2, 3), 0.1) * (1.0 + 0.01 * index.astype(float)))
    loss = ddln.LeastSquares(X, jnp.ones(2))
    slope = jax.grad(lambda layers: loss(layers[0] * layers[1]))
    layers = jax.lax.fori_loop(0, steps, lambda _, u: u - 1e-3 * slope(u), start.layers)
    end = jax.vmap(ddln.DeepDiagonal)(layers[None])
    theta = layers[0] * layers[1]
    return ddln.Trajectory(
        initial=start,
        ts=jnp.full(1, 2.0),
        parameterization=end,
        theta=theta[None],
        loss=loss(theta)[None],
        dual=None,
        result=ddln.RESULTS.successful,
        stats={"num_steps": jnp.full((), steps)},
        rtol=jnp.ones(()),
        atol=jnp.ones(()),
        method="descent",
        space=FullSpace(start),
    )


def many_runs(store: str, cache: str, progress=False) -> None:
    setup(cache)
    ddln.sweep_runs(run, LANES, chunk_size=CHUNK, store=store, progress=progress)


def many_flows(store: str, cache: str) -> None:
    setup(cache)
    key = jax.random.key(0)
    starts = ddln.Initializations(
        lambda i: ddln.Square(jax.random.normal(jax.random.fold_in(key, i), (3,))), 240
    )
    loss = ddln.LeastSquares(X, jnp.ones(2))
    ddln.sweep(starts, loss, 1.0, chunk_size=4, store=store, progress=False)


def reported(target, store: str, cache: str, report: str | None, **arguments) -> None:
    """Run a target, and write down the error that ends it."""
    try:
        target(store, cache, **arguments)
    except BaseException as error:
        if report is None:
            raise
        Path(report).write_text("\n".join([f"{type(error).__name__}: {error}", *_notes(error)]))


def in_turn(cases, cache: str) -> None:
    """Run targets one after the other in this process, each `(target, store, report, arguments)`."""
    for target, store, report, arguments in cases:
        reported(target, store, cache, report, **arguments)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def with_full_disk(store: str, cache: str, files: int) -> None:
    """The disk is full after this number of files of Zarr."""
    write, written = zarr.storage.LocalStore.set, []

    async def set_or_raise(self, key, value):
        if len(written) >= files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), key)
        written.append(key)
        await write(self, key, value)

    zarr.storage.LocalStore.set = set_or_raise
    try:
        many_runs(store, cache)
    finally:
        zarr.storage.LocalStore.set = write


def with_small_files(store: str, cache: str) -> None:
    """After five chunks no file may have more than 20 bytes, fewer than those of any chunk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(done: int, total: int, failed: int) -> None:
        if done == 5 * CHUNK:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, most))

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        many_runs(store, cache, progress=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def interrupted(store: str, cache: str) -> None:
    """Ctrl-C after two chunks, from inside: Python may lose the exception of a signal in a callback."""

    def interrupt(done: int, total: int, failed: int) -> None:
        if done == 2 * CHUNK:
            signal.raise_signal(signal.SIGINT)

    # A suite that runs in the background of a shell ignores it, and so do its processes.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    many_runs(store, cache, progress=interrupt)


def as_nobody(store: str, cache: str) -> None:
    """Root may write anywhere; nobody may not."""
    if os.getuid() == 0:
        os.setuid(NOBODY)
    many_runs(store, cache)


def memory_of_many(folder: str, cache: str, sizes: list[int]) -> None:
    """Write down the peak of the memory after each of some sweeps with large results."""
    setup(cache)

    def large(index):
        flow = run(index % 2, steps=1)
        return eqx.tree_at(lambda flow: flow.theta, flow, jnp.full((1, 2048), flow.loss[0]))

    for lanes in sizes:
        store = Path(folder) / f"{lanes}.zarr"
        result = ddln.sweep_runs(large, lanes, chunk_size=256, store=store, progress=False)
        assert result.theta[lanes - 3].shape == (1, 2048)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (Path(folder) / f"{lanes}.peak").write_text(str(peak))
