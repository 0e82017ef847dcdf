"""Each dynamics in each facility: a cell works, or raises an error that says what to do.

`grid` has the dynamics and the facilities, `docs/grid.md` shows them.
"""

import functools

import diffrax
import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from grid import (
    DYNAMICS,
    ENDS,
    KEY,
    LAYERS,
    NUMBERS,
    REFUSED,
    SIZE,
    STEPS,
    data,
    end,
    lane_key,
    run,
)
from grid_table import PAGE, page_with, rows

import ddln

TIGHT = {"rtol": 1e-9, "atol": 1e-11}
WEIGHTS = jnp.asarray(np.random.default_rng(2).normal(size=(2, 4)))
FIXED = ("stochastic", "descent")


def settings_of(name):
    """Tolerances for a dynamics that chooses its steps."""
    return {} if name in FIXED else TIGHT


def forward_of(name):
    """The setting for forward mode."""
    return {} if name == "descent" else {"adjoint": diffrax.ForwardMode()}


def times_of(name, dtype=float):
    return jnp.asarray([6, 20] if name == "descent" else [0.3, 1.0], dtype)


def saved(name, layers, number, **settings):
    """theta at the saved times."""
    ts = times_of(name, layers.dtype)
    loss = jax.tree.map(lambda leaf: leaf.astype(layers.dtype), data(0))
    return run(name, layers, number, loss, end(name), ts=ts, **settings).theta


@functools.cache
def lanes_of(name):
    """theta at the saved times of all lanes, from layers and numbers: one program for several tests."""
    settings = settings_of(name)
    return jax.jit(jax.vmap(lambda u, c: saved(name, u, c, **settings)))


@pytest.mark.parametrize("name", DYNAMICS)
def test_both_modes_of_differentiation_through_saved_times(name):
    def value(layers, number, **mode):
        return loss_of(saved(name, layers, number, **settings_of(name), **mode))

    def loss_of(theta):
        return jnp.sum(WEIGHTS * jnp.sin(theta))

    point = LAYERS[2], NUMBERS[2]
    rng = np.random.default_rng(3)
    direction = jnp.asarray(rng.normal(size=LAYERS[2].shape)), jnp.asarray(rng.normal())
    slopes = jax.jit(jax.grad(value, (0, 1)))(*point)
    reverse = sum(map(jnp.vdot, slopes, direction))

    @jax.jit
    def derivative(point, direction):
        return jax.jvp(lambda *a: value(*a, **forward_of(name)), point, direction)[1]

    h = 1e-5
    # Two lanes of the program count.
    signs = jnp.zeros(SIZE).at[:2].set(jnp.asarray([h, -h]))
    moved = (
        jax.vmap(lambda s, p=p, d=d: p + s * d)(signs)
        for p, d in zip(point, direction, strict=True)
    )
    up, down = map(loss_of, lanes_of(name)(*moved)[:2])
    np.testing.assert_allclose(reverse, (up - down) / (2 * h), rtol=2e-5, atol=1e-8)
    np.testing.assert_allclose(derivative(point, direction), reverse, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in DYNAMICS if (name, "dense") not in REFUSED])
def test_jit_vmap_events_and_dense_output(name):
    loss, settings = data(0), settings_of(name)
    path = lanes_of(name)(LAYERS, NUMBERS)[1]
    plain = saved(name, LAYERS[1], NUMBERS[1], **settings)
    np.testing.assert_allclose(path, plain, rtol=1e-8, atol=1e-10)
    level = jnp.sqrt(loss(path[0]) * loss(path[1]))
    stopped = run(
        name, LAYERS[1], NUMBERS[1], loss, 1.0, event=ddln.LossBelow(level), dense=True, **settings
    )
    assert stopped.result == ddln.RESULTS.event_occurred
    assert 0.3 < stopped.ts[-1] < 1
    np.testing.assert_allclose(stopped.loss[-1], level, rtol=1e-6)
    there = stopped.evaluate(0.3)
    there = there.effective() if isinstance(there, ddln.AbstractParameterization) else there
    np.testing.assert_allclose(there, path[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FIXED)
def test_jit_and_vmap_of_fixed_steps(name):
    path = lanes_of(name)(LAYERS, NUMBERS)[1]
    np.testing.assert_allclose(path, saved(name, LAYERS[1], NUMBERS[1]), rtol=1e-8, atol=1e-10)


def test_events_of_descents():
    loss = data(0)
    level = loss(lanes_of("descent")(LAYERS, NUMBERS)[0, 0])
    stopped = run("descent", LAYERS[0], NUMBERS[0], loss, STEPS, event=ddln.LossBelow(level))
    assert stopped.result == ddln.RESULTS.event_occurred
    assert stopped.ts[-1] <= 6


@pytest.mark.parametrize("name", DYNAMICS)
def test_float32_and_export(name):
    lanes = lanes_of(name) if name in FIXED else jax.jit(jax.vmap(lambda u, c: saved(name, u, c)))
    single = lanes(LAYERS.astype(np.float32), NUMBERS.astype(np.float32))
    assert single.dtype == np.float32
    if name != "stochastic":  # its path has other random numbers in float32
        np.testing.assert_allclose(single, lanes_of(name)(LAYERS, NUMBERS), atol=5e-3)
    for dtype in (np.float32, np.float64):
        shapes = (jax.ShapeDtypeStruct(x.shape, dtype) for x in (LAYERS, NUMBERS))
        exported = jax.export.export(lanes, platforms=["cpu", "cuda", "tpu"])(*shapes)
        assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def ends_of(name):
    return STEPS if name == "descent" else ddln.PerLane(ENDS)


def swept(name, layers, loss, numbers=NUMBERS, **settings):
    dynamics = DYNAMICS[name].make(ddln.PerLane(numbers), KEY)
    starts = jax.vmap(ddln.DeepDiagonal)(layers)
    return ddln.sweep(starts, loss, ends_of(name), dynamics=dynamics, progress=False, **settings)


LOSSES, STATIC = eqx.partition(eqx.filter_vmap(data)(jnp.arange(SIZE)), eqx.is_inexact_array)


@pytest.mark.parametrize("name", DYNAMICS)
def test_sweeps_in_a_store_and_inside_of_jit_and_grad(name, tmp_path):
    def sweep(losses, layers, numbers, **settings):
        losses = ddln.PerLane(eqx.combine(losses, STATIC))
        return swept(name, layers, losses, numbers, **settings_of(name), **settings)

    point, store = (LOSSES, LAYERS, NUMBERS), tmp_path / "lanes.zarr"
    result = sweep(*point, store=store)
    assert result.okay.all()

    @jax.jit
    @jax.vmap
    def alone(layers, t1, number, index):
        t1 = STEPS if name == "descent" else t1
        flow = run(name, layers, number, data(index), t1, index=index, **settings_of(name))
        return flow.theta, flow.loss, flow.stats["num_steps"]

    theta, loss, steps = alone(LAYERS, ENDS, NUMBERS, jnp.arange(SIZE))
    np.testing.assert_allclose(result.theta[:], theta, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.loss[:], loss, rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(result.stats["num_steps"][:], steps)
    # Nothing is computed again; another start is another sweep.
    np.testing.assert_array_equal(sweep(*point, store=store).theta[:], result.theta[:])
    with pytest.raises(ValueError, match="now"):
        sweep(LOSSES, 2.0 * LAYERS, NUMBERS, store=store)

    def value(*point):
        return jnp.sum(WEIGHTS[None, :1] * jnp.sin(sweep(*point).theta))

    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), point)
    slopes = jax.jit(jax.grad(value, (0, 1, 2)))(*point)
    found = sum(map(jnp.vdot, jax.tree.leaves(slopes), jax.tree.leaves(direction)))
    h = 1e-5
    up, down = (
        value(*jax.tree.map(lambda a, d, s=s: a + s * h * d, point, direction)) for s in (1, -1)
    )
    np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=2e-5)


@pytest.mark.parametrize(("name", "facility"), REFUSED)
def test_a_cell_that_does_not_work_says_why(name, facility):
    def attempt():
        if facility == "t1":
            dynamics = DYNAMICS[name].make(0.1, lane_key(0))
            starts = jax.vmap(ddln.DeepDiagonal)(LAYERS)
            return ddln.sweep(starts, data(0), ddln.PerLane(ENDS), dynamics=dynamics)
        settings = {"event": ddln.LossBelow(0.1)} if facility == "event" else {"dense": True}
        return run(name, LAYERS[0], 0.1, data(0), end(name), **settings)

    with pytest.raises(ValueError, match=REFUSED[name, facility]):
        attempt()


def test_the_page_has_the_grid():
    assert page_with(rows()) == PAGE.read_text(encoding="utf-8"), "run tests/grid_table.py"
