"""Limits: the end of case H without integrating it.

    pip install ".[bench]" && pytest benchmarks --benchmark-only -n 0

Compare `test_limits_of_case_h` with `test_diffrax_tsit5_on_the_layers` of `test_case_h.py`, which
integrates the same 64 starts to t1 = 1000.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln


@pytest.fixture(scope="module", autouse=True)
def _double_precision():
    jax.config.update("jax_enable_x64", True)


def record(benchmark, depth, initializations, chunk):
    problem, layers = ddln.problems.case_h(
        jax.random.key(0), depth=depth, initializations=initializations
    )
    loss = problem.loss()

    @jax.jit
    def run(layers):
        def ends(chunk):
            return jax.vmap(lambda u: ddln.limit(ddln.DeepDiagonal(u), loss, throw=False))(chunk)

        # Lanes of one chunk wait for each other: few at a time.
        end = jax.lax.map(ends, layers.reshape(-1, chunk, depth, layers.shape[-1]))
        return end.theta, ddln.is_okay(end.result), end.residual, end.gap, end.stats["num_steps"]

    _, okay, residual, gap, steps = jax.block_until_ready(run(layers))
    benchmark.extra_info["okay"] = float(jnp.mean(okay))
    benchmark.extra_info["worst residual"] = float(jnp.max(residual))
    benchmark.extra_info["worst gap"] = float(jnp.max(gap))
    benchmark.extra_info["median steps"] = float(np.median(steps))
    benchmark.pedantic(lambda: jax.block_until_ready(run(layers)), rounds=5 if chunk > 16 else 1)
    assert bool(jnp.all(okay))
    assert float(jnp.max(residual)) < 1e-9
    assert float(jnp.max(gap)) < 1e-9


@pytest.mark.parametrize("depth", [2, 3, 4, 6, 10])
def test_limits_of_case_h(benchmark, depth):
    record(benchmark, depth, initializations=64, chunk=64)


def test_a_hundred_thousand_limits(benchmark):
    record(benchmark, 3, initializations=100_000, chunk=16)
