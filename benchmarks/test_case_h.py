"""Case H: 64 initializations over two decades of scale, the stiffest lane 16 times harder than the mean.

    pip install ".[bench]" && pytest benchmarks --benchmark-only -n 0

n = 20, d = 50, L = 3, t1 = 1000, rtol 1e-6, atol 1e-9, float64. Each row is timed after compilation, on
the timed inputs, with the whole result waited for, and its answer is compared with a solve at 1e-10.
"""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reduced_lsoda import final_theta

import ddln

T1, RTOL, ATOL = 1000.0, 1e-6, 1e-9


@pytest.fixture(scope="module", autouse=True)
def _double_precision():
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module")
def case():
    problem, layers = ddln.problems.case_h(jax.random.key(0))
    loss = problem.loss()
    stack = jax.vmap(ddln.DeepDiagonal)(layers)
    reference = ddln.sweep(stack, loss, T1, rtol=1e-10, atol=1e-13, progress=False)
    assert reference.okay.all()
    assert reference.theta is not None
    return loss, stack, reference.theta[:, -1]


def record(benchmark, run, reference, rounds):
    """Times `run`, which returns theta of all lanes, after a first call, and notes its error."""
    theta = np.asarray(run())
    error = float(np.abs(theta - reference).max())
    benchmark.extra_info["error"] = error
    benchmark.pedantic(lambda: jax.block_until_ready(run()), rounds=rounds)
    return error


def compiled(benchmark, run, argument):
    lowered = eqx.filter_jit(run).lower(argument)
    started = time.perf_counter()
    program = lowered.compile()
    benchmark.extra_info["compile_seconds"] = time.perf_counter() - started
    return lambda: program(argument)


def test_sweep(benchmark, case):
    loss, stack, reference = case

    def run():
        result = ddln.sweep(stack, loss, T1, rtol=RTOL, atol=ATOL, progress=False)
        assert result.theta is not None
        return result.theta[:, -1]

    assert record(benchmark, run, reference, rounds=10) < 1e-5


def test_vmapped_flow(benchmark, case):
    loss, stack, reference = case

    def run(stack):
        settings = {"rtol": RTOL, "atol": ATOL, "throw": False}
        return jax.vmap(lambda p: ddln.gradient_flow(p, loss, T1, **settings).theta[-1])(stack)

    assert record(benchmark, compiled(benchmark, run, stack), reference, rounds=5) < 1e-5


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Kvaerno5()])
def test_diffrax_on_the_layers(benchmark, case, solver):
    """What an idiomatic user of diffrax writes."""
    loss, stack, reference = case

    def velocity(t, layers, args):
        return -jax.grad(lambda u: loss(jnp.prod(u, axis=0)))(layers)

    def one(layers):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            solver,
            0.0,
            T1,
            None,
            layers,
            stepsize_controller=diffrax.PIDController(RTOL, ATOL),
            max_steps=None,
            throw=False,
        )
        assert solution.ys is not None
        return jnp.prod(solution.ys[-1], axis=0)

    run = compiled(benchmark, lambda stack: jax.vmap(one)(stack.layers), stack)
    assert record(benchmark, run, reference, rounds=1) < 1e-3


def test_scipy_lsoda_in_a_process_pool(benchmark, case):
    loss, stack, reference = case
    X, y, layers = (np.asarray(leaf) for leaf in (loss.X, loss.y, stack.layers))
    lanes = [(X, y, one, T1, RTOL, ATOL) for one in layers]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        run = lambda: np.stack(list(pool.map(final_theta, lanes)))  # noqa: E731
        assert record(benchmark, run, reference, rounds=5) < 1e-3
