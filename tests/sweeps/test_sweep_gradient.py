"""Sweeps inside of jax.jit and jax.grad: the same results, their derivatives, and bounded memory."""

from concurrent.futures import ThreadPoolExecutor

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 3)))
Y = jnp.asarray(RNG.normal(size=2))
# The third lane does not run at all.
LAYERS = jnp.asarray(RNG.uniform(0.5, 1.5, (5, 2, 3))).at[2, 0, 0].set(jnp.nan)
FINITE = np.array([0, 1, 3, 4])
SETTINGS = {"chunk_size": 2, "rtol": 1e-8, "atol": 1e-10, "progress": False}


def sweep_of(layers, target, t1, **settings):
    starts = jax.vmap(ddln.DeepDiagonal)(layers)
    return ddln.sweep(starts, ddln.LeastSquares(X, target), t1, **{**SETTINGS, **settings})


def mean(layers, target, t1, **settings):
    """Of what is observed in the lanes that did not fail."""
    result = sweep_of(layers, target, t1, observe=lambda end: jnp.sum(end.theta**2), **settings)
    return jnp.mean(result.values, where=result.okay), result.values


def reference(layers, target, t1):
    def one(layers):
        network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, target)
        if t1 is None:
            return jnp.sum(ddln.limit(network, loss, throw=False).theta ** 2)
        flow = ddln.gradient_flow(
            network, loss, t1, rtol=1e-10, atol=1e-12, solver=diffrax.Tsit5(), throw=False
        )
        return jnp.sum(flow.theta**2)

    return jnp.mean(jax.vmap(one)(layers[FINITE]))


def test_a_traced_sweep_is_the_eager_one_and_reverse_and_forward_mode_are_its_derivative():
    arguments = (LAYERS, Y, jnp.asarray(1.0))
    program = jax.jit(jax.value_and_grad(mean, argnums=(0, 1, 2), has_aux=True))
    (value, values), slopes = program(*arguments)
    expected, eager = mean(*arguments)
    np.testing.assert_allclose(values, eager, rtol=1e-10)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    exact = jax.jit(jax.grad(reference, argnums=(0, 1, 2)))(*arguments)
    for slope, right in zip(slopes, exact, strict=True):
        np.testing.assert_allclose(slope, right, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(slopes[0][2], 0)

    forward = jax.jit(
        lambda t1: jax.jvp(
            lambda t1: mean(LAYERS, Y, t1, adjoint=diffrax.ForwardMode(), solver=diffrax.Tsit5())[
                0
            ],
            (t1,),
            (1.0,),
        )
    )
    np.testing.assert_allclose(forward(1.0)[1], exact[2], rtol=1e-6)


def test_back_through_the_queue_where_lanes_take_few_and_many_steps():
    sizes = jnp.geomspace(0.01, 1, 19)
    layers = sizes[:, None, None] * LAYERS[np.resize(FINITE, 19)]

    def by_sweep(layers):
        starts = jax.vmap(ddln.DeepDiagonal)(layers)
        result = ddln.sweep(starts, ddln.LeastSquares(X, Y), 10.0, rtol=1e-9, atol=1e-12)
        return jnp.sum(result.theta**2 / sizes[:, None, None]), result.stats["num_accepted_steps"]

    def by_tsit5(layers):
        def one(layers):
            network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, Y)
            solver = diffrax.Tsit5()
            flow = ddln.gradient_flow(network, loss, 10.0, rtol=1e-11, atol=1e-13, solver=solver)
            return flow.theta

        return jnp.sum(jax.vmap(one)(layers) ** 2 / sizes[:, None, None])

    slope, steps = jax.jit(jax.grad(by_sweep, has_aux=True))(layers)
    assert 2 * steps.max() > 3 * steps.min()
    exact = jax.jit(jax.grad(by_tsit5))(layers)
    np.testing.assert_allclose(slope, exact, rtol=1e-5, atol=1e-6 * jnp.abs(exact).max())


def test_limits_of_a_traced_sweep():
    slopes = jax.jit(jax.grad(lambda u, y: mean(u, y, jnp.inf)[0], argnums=(0, 1)))(LAYERS, Y)
    exact = jax.jit(jax.grad(lambda u, y: reference(u, y, None), argnums=(0, 1)))(LAYERS, Y)
    for slope, right in zip(slopes, exact, strict=True):
        np.testing.assert_allclose(slope, right, rtol=1e-8, atol=1e-10)


def test_a_rule_may_close_over_what_is_differentiated_without_jit():
    def mean_loss(scale):
        rule = lambda i: ddln.DeepDiagonal(scale * LAYERS[FINITE[1:]][i])  # noqa: E731
        starts = ddln.Initializations(rule, 3)
        loss = ddln.LeastSquares(X, Y)
        result = ddln.sweep(starts, loss, 1.0, solver=diffrax.Tsit5(), **SETTINGS)
        return result.loss.mean()

    ahead, behind = mean_loss(1.001), mean_loss(0.999)
    np.testing.assert_allclose(jax.grad(mean_loss)(1.0), (ahead - behind) / 2e-3, rtol=1e-5)


def test_memory_is_that_of_a_chunk():
    def temporaries(lanes):
        layers = jax.ShapeDtypeStruct((lanes, 2, 3), float)
        slope = jax.grad(lambda u: sweep_of(u, Y, 1.0, chunk_size=8).theta.sum())
        analysis = jax.jit(slope).lower(layers).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert temporaries(512) < 4 * temporaries(8)


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
