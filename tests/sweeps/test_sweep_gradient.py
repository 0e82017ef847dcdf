"""Sweeps inside of jax.jit and jax.grad: the same results, their derivatives, and bounded memory."""

from concurrent.futures import ThreadPoolExecutor

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from two_layers import closed_form

import ddln

RNG = np.random.default_rng(0)
X = jnp.asarray(np.linalg.qr(RNG.normal(size=(3, 3)))[0])
WIDE = X[:2]
Y = jnp.asarray(RNG.normal(size=3))
# Lanes of few and of many steps. The third one does not run at all.
SIZES = jnp.geomspace(0.01, 1, 20)
LAYERS = (SIZES[:, None, None] * RNG.uniform(0.5, 1.5, (20, 2, 3))).at[2, 0, 0].set(jnp.nan)
FINITE = np.delete(np.arange(20), 2)
# More lanes in a chunk than advance together.
SETTINGS = {"chunk_size": 10, "rtol": 1e-9, "atol": 1e-12, "progress": False}


def sweep_of(layers, target, t1, X=X, **settings):
    starts = jax.vmap(ddln.DeepDiagonal)(layers)
    return ddln.sweep(starts, ddln.LeastSquares(X, target), t1, **{**SETTINGS, **settings})


def total(layers, target, t1, **settings):
    """Of what is observed in the lanes that did not fail, weighted so that each of them counts."""
    result = sweep_of(layers, target, t1, observe=lambda end: jnp.sum(end.theta**2), **settings)
    # Limits have another number.
    steps = result.stats.get("num_accepted_steps")
    return jnp.sum(result.values / SIZES, where=result.okay), (result.values, steps)


def reference(layers, target, t1):
    thetas = jax.vmap(lambda one: closed_form(X, one, target, t1))(layers[FINITE])
    return jnp.sum(thetas**2 / SIZES[FINITE, None])


def test_a_traced_sweep_is_the_eager_one_and_reverse_and_forward_mode_are_its_derivative():
    """Reverse mode goes back through chunks and their queues."""
    arguments = (LAYERS, Y, jnp.asarray(2.0))
    program = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (value, (values, steps)), slopes = program(*arguments)
    assert 2 * steps[FINITE].max() > 3 * steps[FINITE].min()
    expected, (eager, _) = total(*arguments)
    np.testing.assert_allclose(values, eager, rtol=1e-10)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    np.testing.assert_allclose(value, reference(*arguments), rtol=1e-7)
    exact = jax.jit(jax.grad(reference, argnums=(0, 1, 2)))(*arguments)
    for slope, right in zip(slopes, exact, strict=True):
        atol = 1e-7 * np.nanmax(np.abs(right))
        np.testing.assert_allclose(slope, np.nan_to_num(right), rtol=1e-6, atol=atol)
    np.testing.assert_array_equal(slopes[0][2], 0)

    settings = {"adjoint": diffrax.ForwardMode(), "solver": diffrax.Tsit5()}
    forward = jax.jit(
        lambda t1: jax.jvp(lambda t1: total(LAYERS, Y, t1, **settings)[0], (t1,), (1.0,))
    )
    np.testing.assert_allclose(forward(2.0)[1], exact[2], rtol=1e-6)


def test_limits_of_a_traced_sweep():
    def by_sweep(layers, target):
        return total(layers, target, jnp.inf, X=WIDE)[0]

    def one_by_one(layers, target):
        def one(layers):
            loss = ddln.LeastSquares(WIDE, target)
            return ddln.limit(ddln.DeepDiagonal(layers), loss, throw=False).theta

        return jnp.sum(jax.vmap(one)(layers[FINITE]) ** 2 / SIZES[FINITE, None])

    slopes, exact = (
        jax.jit(jax.grad(function, argnums=(0, 1)))(LAYERS, Y[:2])
        for function in (by_sweep, one_by_one)
    )
    for slope, right in zip(slopes, exact, strict=True):
        np.testing.assert_allclose(slope, right, rtol=1e-8, atol=1e-10 * jnp.abs(right).max())


def test_a_rule_may_close_over_what_is_differentiated_without_jit():
    layers, loss = LAYERS[FINITE[1:4]], ddln.LeastSquares(X, Y)

    def by_sweep(scale):
        rule = lambda i: ddln.DeepDiagonal(scale * layers[i])  # noqa: E731
        starts = ddln.Initializations(rule, 3)
        result = ddln.sweep(starts, loss, 1.0, solver=diffrax.Tsit5(), **SETTINGS)
        return result.loss.mean()

    @jax.grad
    def exact(scale):
        return jax.vmap(lambda one: loss(closed_form(X, scale * one, Y, 1.0)))(layers).mean()

    np.testing.assert_allclose(jax.grad(by_sweep)(1.0), exact(1.0), rtol=1e-6)


def test_memory_is_that_of_a_chunk():
    """For eight lanes of 512 at once a small part of the record of all lanes."""
    lanes, states = 512, 512  # at most so many are recorded of a flow

    def end(layers):
        return sweep_of(layers, Y, 1.0, chunk_size=8, solver=diffrax.Tsit5()).theta.sum()

    layers = jax.ShapeDtypeStruct((lanes, 2, 3), float)
    analysis = jax.jit(jax.grad(end)).lower(layers).compile().memory_analysis()
    # Three unknowns and their integrals, a time and a length.
    record = lanes * states * (3 + 3 + 2) * np.dtype(float).itemsize
    assert analysis.temp_size_in_bytes < record / 8


@pytest.mark.parametrize(
    ("name", "value"),
    [("devices", jax.devices()), ("store", "sweep.zarr"), ("executor", ThreadPoolExecutor(1))],
)
def test_what_a_traced_sweep_cannot_have(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be None inside of a JAX transformation"):
        jax.eval_shape(lambda u: sweep_of(u, Y, 1.0, **{name: value}).theta, LAYERS)


def test_a_sweep_that_is_differentiated_without_jit_is_compiled_once():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None
    )

    def end(scale):
        starts = jax.vmap(ddln.DeepDiagonal)(scale * LAYERS[:2, :, :1])
        loss = ddln.LeastSquares(X[:, :1], Y)
        return jnp.sum(ddln.sweep(starts, loss, 0.1, solver=diffrax.Tsit5(), rtol=1e-2).theta)

    slopes = [jax.grad(end)(jnp.asarray(scale)) for scale in (1.0, 1.1)]
    assert compiled
    compiled.clear()
    slopes.append(jax.grad(end)(jnp.asarray(1.2)))
    assert compiled == []
    # Convex over so short a range: the slope changes evenly.
    np.testing.assert_allclose(np.diff(slopes, 2), 0, atol=1e-1)
    assert len(set(map(float, slopes))) == 3
