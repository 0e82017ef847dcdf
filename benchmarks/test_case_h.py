"""Case H: 64 initializations over two decades of scale, the stiffest lane 16 times harder than the mean.

    pip install ".[bench]" && pytest benchmarks --benchmark-only -n 0

n = 20, d = 50, L = 3, t1 = 1000, rtol 1e-6, atol 1e-9, float64. Each row is timed after compilation, on
the timed inputs, with the whole result waited for, and its answer is compared with a solve at 1e-10.
"""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def record(benchmark, run, argument, reference, rounds):
    compiled = eqx.filter_jit(run).lower(argument).compile()
    theta = np.asarray(compiled(argument))
    benchmark.extra_info["error"] = float(np.abs(theta - reference).max())
    benchmark.pedantic(lambda: jax.block_until_ready(compiled(argument)), rounds=rounds)
    return benchmark.extra_info["error"]


def test_reduced_flow(benchmark, case):
    loss, stack, reference = case

    def run(stack):
        settings = {"rtol": RTOL, "atol": ATOL, "throw": False}
        return jax.vmap(lambda p: ddln.gradient_flow(p, loss, T1, **settings).theta[-1])(stack)

    assert record(benchmark, run, stack, reference, rounds=5) < 1e-4


def test_diffrax_tsit5_on_the_layers(benchmark, case):
    """What an idiomatic user of diffrax writes."""
    loss, stack, reference = case

    def velocity(t, layers, args):
        return -jax.grad(lambda u: loss(jnp.prod(u, axis=0)))(layers)

    def one(layers):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Tsit5(),
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

    run = lambda stack: jax.vmap(one)(stack.layers)  # noqa: E731
    assert record(benchmark, run, stack, reference, rounds=1) < 1e-3
