"""Products at full precision in programs that `test_transforms.py` does not have, and the search itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from precision import rounded_products

import ddln
from ddln.solvers import DiagonalPlusLowRank, Rodas5P

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4)))
Y = jnp.asarray(RNG.normal(size=3))
LAYERS = jnp.asarray(RNG.uniform(0.5, 1.5, (3, 4)))
THETA = jnp.asarray(RNG.normal(size=4))
KEY = jax.random.key(0)
LOSS = ddln.LeastSquares(X, Y)
ON_MATRICES = ddln.LeastSquares(X.reshape(3, 2, 2), Y)
QUIET = {"throw": False}


def reverse(function):
    """The value of a function with the cotangent of its argument."""

    def run(u):
        value, pull_back = jax.vjp(function, u)
        return value, pull_back(jnp.ones_like(value))

    return run


def factors(w):
    return ddln.DeepMatrixFactorization([w[0].reshape(2, 2), w[1].reshape(2, 2)])


def matrix_flow(solver):
    return lambda w: ddln.gradient_flow(factors(w), ON_MATRICES, 1.0, solver=solver, **QUIET).theta


def weighted(u):
    return ddln.gradient_flow(
        ddln.DeepDiagonal(u), ddln.Weighted(ddln.Logistic(X, jnp.sign(Y)), Y**2), 1.0, **QUIET
    ).theta


def swept(u):
    starts = jax.vmap(ddln.DeepDiagonal)(jnp.stack([u, 2 * u]))
    return ddln.sweep(starts, LOSS, 1.0, progress=False).theta


def swept_to_the_limit(u):
    starts = jax.vmap(ddln.DeepDiagonal)(jnp.stack([u, 2 * u]))
    return ddln.sweep(starts, LOSS, jnp.inf, progress=False).theta


def stochastic(noise):
    def run(u):
        settings = {"key": KEY, "noise": noise, "step_size": 0.1, "steps": 4, "throw": False}
        return ddln.stochastic_flow(ddln.DeepDiagonal(u), LOSS, 1.0, **settings).theta

    return run


def batches(u):
    optimizer = optax.sgd(0.1)
    return ddln.descend(
        ddln.DeepDiagonal(u), LOSS, optimizer, 3, key=KEY, batch_size=2, **QUIET
    ).theta


def structured(u):
    operator = DiagonalPlusLowRank(1 + u[0], u[1], u[2], X, Y**2)
    solver = operator.solver()
    solution, _, _ = solver.compute(solver.init(operator, {}), u[0], {})
    return solution + operator.mv(u[0]) + jnp.sum(operator.as_matrix(), axis=0)


PROGRAMS = {
    "losses": lambda u: jax.hessian(LOSS)(u[0]),
    "matrices": lambda w: factors(w).metric() + jnp.sum(factors(w).jacobian()),
    "matrix flow": reverse(matrix_flow(None)),
    "matrix flow, dense Jacobian": matrix_flow(Rodas5P()),
    "weighted logistic flow": reverse(weighted),
    "weight decay": lambda u: (
        ddln.gradient_flow(ddln.DeepDiagonal(u), LOSS, 1.0, weight_decay=0.1, **QUIET).theta
    ),
    "structured solve": structured,
    "sweep": reverse(swept),
    "sweep of limits": swept_to_the_limit,
    "sensitivity": lambda u: (
        ddln.sensitivity(ddln.DeepDiagonal(u), LOSS, 1.0, **QUIET).derivative.layers
    ),
    "momentum_flow": lambda u: (
        ddln.momentum_flow(ddln.DeepDiagonal(u), LOSS, 1.0, inertia=0.5, **QUIET).theta
    ),
    "stochastic_flow": stochastic(ddln.SampleNoise()),
    "stochastic_flow, labels": stochastic(ddln.LabelNoise(0.1)),
    "stochastic_flow, isotropic": stochastic(ddln.IsotropicNoise()),
    "mini-batches": batches,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_products_are_at_full_precision(name):
    found = rounded_products(PROGRAMS[name], LAYERS)
    assert found == []


def with_jvp(function):
    ruled = jax.custom_jvp(function)
    ruled.defjvp(lambda primals, tangents: (function(*primals), tangents[0]))
    return ruled


def with_vjp(function):
    ruled = jax.custom_vjp(function)
    ruled.defvjp(lambda x: (function(x), None), lambda _, bar: (bar,))
    return ruled


WRAPPERS = {
    "alone": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, length=2)[0],
    "while_loop": lambda f: lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, f, x),
    "cond": lambda f: lambda x: jax.lax.cond(x[0, 0] > 0, f, lambda x: x, x),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "loop in jit": lambda f: jax.jit(lambda x: jax.lax.fori_loop(0, 2, lambda _, x: f(x), x)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_rounded_product_is_found_inside_of_other_programs(name):
    (found,) = rounded_products(WRAPPERS[name](lambda x: x @ x), jnp.ones((3, 3)))
    assert found.startswith("tests/test_precision.py:")


def test_products_of_integers_and_at_full_precision_are_not_found():
    def exact(x):
        return jnp.matmul(x, x, precision="highest"), x.astype(int) @ x.astype(int)

    assert rounded_products(exact, jnp.ones((3, 3))) == []


@pytest.mark.parametrize(("bits", "fails"), [(23, False), (10, True), (7, True)])
def test_rounded_products_would_fail(bits, fails, monkeypatch):
    """A float32 sweep whose products round as TF32 (10 bits) and bfloat16 (7) do, by default, on devices."""
    exact = jax.lax.dot_general

    def rounded(left, right, dimensions, **settings):
        left, right = (jax.lax.reduce_precision(x, 8, bits) for x in (left, right))
        return exact(left, right, dimensions, **settings)

    monkeypatch.setattr(jax.lax, "dot_general", rounded)
    problem, layers = ddln.problems.case_h(jax.random.key(0), initializations=8)
    loss = ddln.LeastSquares(np.float32(problem.X), np.float32(problem.y), scale=0.5)
    starts = jax.vmap(ddln.DeepDiagonal)(jnp.asarray(np.float32(layers)))
    # No program of another precision is taken.
    jax.clear_caches()
    settings = {"rtol": 1e-5, "atol": 1e-8, "max_steps": 2048, "progress": False}
    result = ddln.sweep(starts, loss, 1000.0, **settings)
    jax.clear_caches()
    assert bool(np.any(~result.okay)) == fails, np.sum(~result.okay)
