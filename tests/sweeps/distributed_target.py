"""One of two processes that share a sweep: `python distributed_target.py RANK PORT FILE`."""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

import ddln


def swept(**settings):
    """theta at the ends of ten flows."""
    rng = np.random.default_rng(0)
    loss = ddln.LeastSquares(rng.normal(size=(4, 6)) / 2, rng.normal(size=4))
    networks = jax.vmap(ddln.DeepDiagonal)(jnp.asarray(rng.normal(size=(10, 2, 6))))
    settings |= {"solver": diffrax.Tsit5(), "chunk_size": 4, "progress": False}
    result = ddln.sweep(networks, loss, 2.0, **settings)
    assert result.okay.all()
    return result.theta


if __name__ == "__main__":
    rank, port, file = sys.argv[1:]
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(rank))
    assert len(jax.local_devices()) == 1
    assert len(jax.devices()) == 2
    np.save(file, swept(devices=jax.devices()))
