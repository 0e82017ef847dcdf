"""Each dynamics in each facility: a cell works, or raises an error that says what to do.

`grid` has the dynamics and the facilities, `docs/grid.md` shows them. The tests of a dynamics share their
programs: four for flows, two for sweeps.
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
from precision import rounded_products

import ddln

TIGHT = {"rtol": 1e-9, "atol": 1e-11}
RNG = np.random.default_rng(2)
WEIGHTS = jnp.asarray(RNG.normal(size=(2, 4)))
DIRECTION = jnp.asarray(RNG.normal(size=LAYERS[0].shape)), jnp.asarray(RNG.normal())
FIXED = ("stochastic", "descent")
# The lane whose derivatives are tried.
POINT, STEP = 7, 1e-5


def settings_of(name):
    """Tolerances for a dynamics that chooses its steps."""
    return {} if name in FIXED else TIGHT


def forward_of(name):
    """The setting for forward mode."""
    return {} if name == "descent" else {"adjoint": diffrax.ForwardMode()}


def saved(name, layers, number, t1, index, **settings):
    """The flow of a lane of the sweep, with two saved times; the second is the end."""
    loss = jax.tree.map(lambda leaf: leaf.astype(layers.dtype), data(index))
    if name == "descent":
        until, times = STEPS, jnp.asarray([6, STEPS], t1.dtype)
    else:
        until, times = t1, t1 * jnp.asarray([0.3, 1.0], t1.dtype)
    return run(name, layers, number, loss, until, ts=times, index=index, **settings)


LANES = LAYERS, NUMBERS, ENDS, jnp.arange(SIZE)


@functools.cache
def lanes_of(name):
    """theta, its derivative in forward mode, loss and number of steps of each lane: once for several tests.

    Two lanes come after those of the sweep: one of them moved, for differences.
    """

    @jax.jit
    @jax.vmap
    def program(layers, number, *lane):
        def path(*point):
            flow = saved(name, *point, *lane, **settings_of(name), **forward_of(name))
            return flow.theta, (flow.loss[-1], flow.stats["num_steps"])

        return jax.jvp(path, (layers, number), DIRECTION, has_aux=True)

    def with_moved(leaf, direction):
        moved = leaf[POINT : POINT + 1] + STEP * jnp.stack([direction, -direction])
        return jnp.concatenate([leaf, moved])

    twice = [jnp.concatenate([leaf, leaf[POINT].repeat(2)]) for leaf in LANES[2:]]
    theta, slope, (loss, steps) = program(*map(with_moved, LANES[:2], DIRECTION), *twice)
    return theta, slope, loss, steps


# pytest runs what has the same parameter of a module one after the other.
@pytest.fixture(scope="module", params=DYNAMICS)
def name(request):
    return request.param


def test_jit_vmap_and_both_modes_of_differentiation_through_saved_times(name):
    path, slope, *_ = lanes_of(name)
    difference = (path[SIZE] - path[SIZE + 1]) / (2 * STEP)
    np.testing.assert_allclose(slope[POINT], difference, rtol=2e-5, atol=1e-7)

    @jax.jit
    def alone(layers, number, *lane):
        def path(*point):
            return saved(name, *point, *lane, **settings_of(name)).theta

        path, pull_back = jax.vjp(path, layers, number)
        return path, pull_back(WEIGHTS)

    theta, bars = alone(*(leaf[POINT] for leaf in LANES))
    np.testing.assert_allclose(theta, path[POINT], rtol=1e-8, atol=1e-10)
    reverse = sum(map(jnp.vdot, bars, DIRECTION))
    np.testing.assert_allclose(reverse, jnp.vdot(WEIGHTS, slope[POINT]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "name", [n for n in DYNAMICS if n not in FIXED], indirect=True, scope="module"
)
def test_events_and_dense_output(name):
    layers, number, t1, index = (leaf[POINT] for leaf in LANES)
    loss, path = data(index), lanes_of(name)[0][POINT]
    level = jnp.sqrt(loss(path[0]) * loss(path[1]))
    settings = {"event": ddln.LossBelow(level), "dense": True, **settings_of(name)}
    stopped = run(name, layers, number, loss, t1, index=index, **settings)
    assert stopped.result == ddln.RESULTS.event_occurred
    assert 0.3 * t1 < stopped.ts[-1] < t1
    np.testing.assert_allclose(stopped.loss[-1], level, rtol=1e-6)
    there = stopped.evaluate(0.3 * t1)
    there = there.effective() if isinstance(there, ddln.AbstractParameterization) else there
    np.testing.assert_allclose(there, path[0], rtol=1e-5, atol=1e-6)


def test_float32_full_precision_and_export(name):
    lanes = jax.jit(jax.vmap(lambda *lane: saved(name, *lane).theta))
    arguments = *(leaf.astype(np.float32) for leaf in LANES[:3]), LANES[3]
    single = lanes(*arguments)
    assert single.dtype == np.float32
    if name != "stochastic":  # its path has other random numbers in float32
        np.testing.assert_allclose(single, lanes_of(name)[0][:SIZE], atol=5e-3)
    found = rounded_products(lanes, *arguments)
    assert found == []
    # It lowers for all platforms: it has no host callback.
    exported = jax.export.export(lanes, platforms=["cpu", "cuda", "tpu"])(*arguments)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


def ends_of(name):
    return STEPS if name == "descent" else ddln.PerLane(ENDS)


def swept(name, layers, loss, numbers=NUMBERS, **settings):
    dynamics = DYNAMICS[name].make(ddln.PerLane(numbers), KEY)
    starts = jax.vmap(ddln.DeepDiagonal)(layers)
    return ddln.sweep(starts, loss, ends_of(name), dynamics=dynamics, progress=False, **settings)


LOSSES, STATIC = eqx.partition(eqx.filter_vmap(data)(jnp.arange(SIZE)), eqx.is_inexact_array)


def test_sweeps_in_a_store_and_inside_of_jit_and_grad(name, tmp_path):
    def sweep(losses, layers, numbers, **settings):
        losses = ddln.PerLane(eqx.combine(losses, STATIC))
        return swept(name, layers, losses, numbers, **settings_of(name), **settings)

    point, store = (LOSSES, LAYERS, NUMBERS), tmp_path / "lanes.zarr"
    result = sweep(*point, store=store)
    assert result.okay.all()

    theta, _, loss, steps = (leaf[:SIZE] for leaf in lanes_of(name))
    np.testing.assert_allclose(result.theta[:, -1], theta[:, -1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.loss[:, -1], loss, rtol=1e-8, atol=1e-12)
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
    up, down = (
        value(*jax.tree.map(lambda a, d, s=s: a + s * STEP * d, point, direction)) for s in (1, -1)
    )
    np.testing.assert_allclose(found, (up - down) / (2 * STEP), rtol=2e-5)


def test_events_of_descents():
    layers, number, _, index = (leaf[POINT] for leaf in LANES)
    loss = data(index)
    level = loss(lanes_of("descent")[0][POINT, 0])
    event = ddln.LossBelow(level)
    stopped = run("descent", layers, number, loss, STEPS, index=index, event=event)
    assert stopped.result == ddln.RESULTS.event_occurred
    assert stopped.ts[-1] <= 6


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
