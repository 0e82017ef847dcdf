"""Sweeps over several devices, in a process of its own, where the CPU counts as eight."""

import os
import subprocess
import sys

SCRIPT = """
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
import jax.numpy as jnp
import numpy as np
import ddln

X, y = np.random.default_rng(0).normal(size=(4, 6)), np.random.default_rng(1).normal(size=4)
loss = ddln.LeastSquares(X, y)
keys = jax.random.split(jax.random.key(2), 21)
stack = jax.vmap(lambda key: ddln.DeepDiagonal.random(key, 3, 6))(keys)
devices = jax.devices()
assert len(devices) == 8, devices
for t1 in (2.0, jnp.inf):
    calls = []
    one = ddln.sweep(stack, loss, t1, progress=False)
    eight = ddln.sweep(
        stack, loss, t1, chunk_size=12, devices=devices, progress=lambda *n: calls.append(n[0])
    )
    assert one.okay.all()
    np.testing.assert_allclose(eight.theta, one.theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(eight.stats["num_steps"], one.stats["num_steps"])
    print(*calls)
"""


def test_eight_devices_give_the_results_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["16", "21"] * 2
