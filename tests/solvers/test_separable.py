"""Separable fields: Jacobian, runs against the dense solver and SciPy, derivatives, export."""

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

from ddln.losses import LeastSquares, Logistic
from ddln.parameterizations import DeepDiagonal
from ddln.solvers import Rodas5P, SeparableDualField, SeparableField

PROBLEMS = [(5, 9, "squared"), (9, 4, "squared"), (4, 8, "logistic"), (12, 3, "logistic")]


def make(n, d, kind, depth=3, scale=0.5, dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(0), 3)
    X = jax.random.normal(keys[0], (n, d), dtype) / np.sqrt(n).astype(dtype)
    theta = jnp.zeros(d, dtype).at[:2].set(jnp.array([1.0, -0.7], dtype))
    if kind == "squared":
        loss = LeastSquares(X, X @ theta + 0.1 * jax.random.normal(keys[1], (n,), dtype))
    else:
        loss = Logistic(X, jnp.sign(X @ theta))
    layers = scale * jax.random.normal(keys[2], (depth, d), dtype)
    return loss, layers


def coordinates_of(layers):
    return DeepDiagonal(layers).reduced()


def run(field, y0, t1, rtol=1e-6, atol=1e-9, **options) -> Any:
    dtype = jax.tree.leaves(y0)[0].dtype
    return diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        Rodas5P(),
        jnp.zeros((), dtype),
        jnp.asarray(t1, dtype),
        None,
        y0,
        stepsize_controller=diffrax.PIDController(rtol, atol),
        throw=False,
        **options,
    )


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_jacobians(problem):
    loss, layers = make(*problem)

    @jax.jit
    def found_and_exact(layers):
        coordinates = coordinates_of(layers)
        v, xi = coordinates.start, jnp.ones_like(coordinates.start)
        field, dual = SeparableField(coordinates, loss), SeparableDualField(coordinates, loss)
        # The velocity, from the chain rule on the layers: v' = dL/dv where all layers but v are fixed.
        theta = jnp.prod(layers, axis=0)
        smallest = jnp.argmin(jnp.abs(layers), axis=0)
        slopes = -jax.grad(lambda u: loss(jnp.prod(u, axis=0)))(layers)
        velocity = jnp.take_along_axis(slopes, smallest[None, :], axis=0)[0]
        flat, unravel = ravel_pytree((v, xi))
        return (
            (field(0.0, v, None), velocity),
            (
                field.jacobian(0.0, v, None).as_matrix(),
                jax.jacfwd(lambda v: field(0.0, v, None))(v),
            ),
            (field.with_jacobian(0.0, v, None)[0], velocity),
            (dual(0.0, (v, xi), None)[1], -jax.grad(loss)(theta)),
            (
                ravel_pytree(dual.with_jacobian(0.0, (v, xi), None)[0])[0],
                jnp.concatenate([velocity, -jax.grad(loss)(theta)]),
            ),
            (
                dual.jacobian(0.0, (v, xi), None).as_matrix(),
                jax.jacfwd(lambda y: ravel_pytree(dual(0.0, unravel(y), None))[0])(flat),
            ),
        )

    velocity, *others = found_and_exact(layers)
    np.testing.assert_allclose(*velocity, rtol=1e-10, atol=1e-14)
    for found, exact in others:
        np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("problem", PROBLEMS[::3], ids=str)
def test_structured_and_dense_runs_take_the_same_steps(problem):
    """Many starts, from a saddle to far away, in one program each; the reference is SciPy's."""
    loss, layers = make(*problem, scale=1.0)
    lanes = jnp.logspace(-2, 0.3, 6)[:, None, None] * layers[None]

    def solve(layers, structured):
        coordinates = coordinates_of(layers)
        field = SeparableDualField(coordinates, loss)
        y0 = (coordinates.start, jnp.zeros_like(coordinates.start))
        vector_field = field if structured else lambda t, y, args: field(t, y, args)
        solution = run(vector_field, y0, 100.0)
        ends = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
        return coordinates.effective(ends[0]), ends[1], solution.stats, solution.result

    batched = jax.jit(jax.vmap(solve, in_axes=(0, None)), static_argnums=1)
    theta, dual, stats, result = batched(lanes, True)
    dense_theta, dense_dual, dense_stats, _ = batched(lanes, False)
    assert np.all(result == diffrax.RESULTS.successful)
    for key in ("num_accepted_steps", "num_rejected_steps"):
        np.testing.assert_allclose(stats[key], dense_stats[key], atol=1)
    np.testing.assert_allclose(theta, dense_theta, atol=1e-6)
    np.testing.assert_allclose(dual, dense_dual, rtol=1e-5, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda u: loss(jnp.prod(u, axis=0))))
    for lane in (0, 5):
        start = np.asarray(lanes[lane])
        reference = solve_ivp(
            lambda t, u, shape=start.shape: -np.ravel(gradient(u.reshape(shape))),
            (0, 100.0),
            start.ravel(),
            "LSODA",
            rtol=1e-9,
            atol=1e-12,
        )
        expected = np.prod(reference.y[:, -1].reshape(start.shape), axis=0)
        np.testing.assert_allclose(theta[lane], expected, rtol=5e-6, atol=5e-6)


def test_an_unstable_mode_is_not_overstepped():
    """From a start near a saddle and a first step beyond it, the flow still escapes."""
    loss = LeastSquares(jnp.eye(2), jnp.ones(2))
    layers = jnp.array([[1e-8, 2e-8], [3e-8, 4e-8]])

    def end(field, start, step):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            Rodas5P(),
            0.0,
            60.0,
            step,
            start,
            stepsize_controller=diffrax.PIDController(1e-6, 1e-6),
        )
        return solution.ys[-1], solution.stats["num_rejected_steps"]  # pyright: ignore

    coordinates = coordinates_of(layers)
    v, rejected = end(SeparableField(coordinates, loss), coordinates.start, 30.0)
    assert rejected >= 1
    np.testing.assert_allclose(coordinates.effective(v), [1.0, 1.0], atol=1e-4)
    # The rejected step itself: a code, and derivatives that a zero cotangent turns into zero.
    field = SeparableField(coordinates, loss)

    def step(start):
        return Rodas5P().step(diffrax.ODETerm(field), 0.0, 30.0, start, None, None, False)

    assert step(coordinates.start)[-1] == diffrax.RESULTS.singular
    slopes = jax.jacrev(lambda start: step(start)[0])(coordinates.start)
    assert np.all(np.isfinite(slopes))


def test_derivatives():
    """In layers and data; some lanes end early, one starts with a rejected step."""
    loss, layers = make(5, 9, "squared")
    ends = jnp.array([0.0, 0.3, 10.0])

    def value(scale, shift, t1, adjoint):
        moved = type(loss)(loss.X + shift, loss.y)
        coordinates = coordinates_of(scale * layers)
        field = SeparableDualField(coordinates, moved)
        y0 = (coordinates.start, jnp.zeros_like(coordinates.start))
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            Rodas5P(),
            0.0,
            t1,
            jnp.minimum(2.0, t1),
            y0,
            stepsize_controller=diffrax.PIDController(1e-10, 1e-12),
            adjoint=adjoint,
            max_steps=512,
            throw=False,
        )
        v, dual = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
        return jnp.sum(jnp.sin(coordinates.effective(v))) + jnp.sum(jnp.tanh(dual))

    point = 1.1, 0.05
    reverse = diffrax.RecursiveCheckpointAdjoint()
    gradient = jax.value_and_grad(lambda s, x, t: value(s, x, t, reverse), argnums=(0, 1))
    step = 1e-4
    # One program for the gradient and, at points around, for differences: axes move, end.
    moves = step * np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    scales, shifts = np.repeat(point + moves, 3, axis=0).T
    values, slopes = jax.jit(jax.vmap(gradient))(scales, shifts, np.tile(ends, 5))
    values, by_reverse = values.reshape(5, 3), jnp.stack(slopes)[:, :3]
    differences = jnp.stack([values[1] - values[2], values[3] - values[4]]) / (2 * step)
    np.testing.assert_allclose(by_reverse, differences, rtol=2e-5, atol=2e-6)
    forward = diffrax.ForwardMode()
    tangent = jax.jacfwd(lambda s, x, t: value(s, x, t, forward), argnums=(0, 1))
    by_forward = jnp.stack(jax.jit(jax.vmap(tangent, in_axes=(None, None, 0)))(*point, ends))
    np.testing.assert_allclose(by_forward, by_reverse, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("problem", "dtype"),
    [((5, 9, "squared"), jnp.float64), ((12, 3, "logistic"), jnp.float32)],
    ids=["n<d, float64", "n>d, float32"],
)
def test_export_of_values_and_derivatives(problem, dtype):
    """The same program lowers for every platform, and has no callback to the host."""
    loss, layers = make(*problem, dtype=dtype)

    def value(layers):
        coordinates = coordinates_of(layers)
        field = SeparableDualField(coordinates, loss)
        y0 = (coordinates.start, jnp.zeros_like(coordinates.start))
        solution = run(field, y0, 10.0, 1e-4, 1e-6, max_steps=256)
        return jnp.sum(solution.ys[0][-1]), solution.result == diffrax.RESULTS.successful

    def batch(layers):
        (values, okay), slopes = jax.vmap(jax.value_and_grad(value, has_aux=True))(layers)
        return values, okay, slopes

    lanes = jnp.stack([layers, layers * 2])
    exported = jax.export.export(jax.jit(batch), platforms=("cpu", "cuda", "tpu"))(lanes)
    assert "callback" not in exported.mlir_module()
    assert [result.dtype for result in exported.out_avals] == [dtype, bool, dtype]
    if dtype == jnp.float32:  # the other is run in `test_derivatives`
        _, okay, slopes = exported.call(lanes)
        assert np.all(okay)
        assert np.all(np.isfinite(slopes))


def test_a_dense_field_exports_too():
    def end(t1):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: -1e3 * (y - jnp.cos(t)) + y[::-1]),
            Rodas5P(),
            0.0,
            t1,
            None,
            jnp.ones(3),
            stepsize_controller=diffrax.PIDController(1e-6, 1e-9),
            throw=False,
        )
        return solution.ys[-1]  # pyright: ignore

    exported = jax.export.export(jax.jit(end), platforms=("cpu", "cuda", "tpu"))(jnp.ones(()))
    assert "callback" not in exported.mlir_module()
