"""Chunks at once in threads of this process: `ddln.sweeps._engine` and `_plan`; `_widths`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.sweeps import _plan
from ddln.sweeps._sweep import lanes_of
from ddln.sweeps._widths import checked_devices, widths_for, widths_of

RNG = np.random.default_rng(0)
LOSS = ddln.LeastSquares(RNG.normal(size=(4, 6)), RNG.normal(size=4))
KEYS = jax.random.split(jax.random.key(2), 96)
STACK = jax.vmap(lambda key: ddln.DeepDiagonal.random(key, 3, 6))(KEYS)


def on(cores, monkeypatch, *arguments, **settings):
    """A sweep as on a machine of so many cores."""
    monkeypatch.setattr(_plan, "usable_cores", lambda: cores)
    return ddln.sweep(*arguments, chunk_size=2, progress=False, **settings)


@pytest.mark.parametrize("t1", [2.0, jnp.inf])
def test_many_chunks_at_once_are_those_of_one_core_bit_for_bit(t1, monkeypatch):
    one = on(1, monkeypatch, STACK, LOSS, t1)
    for _ in range(5):
        four = on(4, monkeypatch, STACK, LOSS, t1)
        np.testing.assert_array_equal(four.theta, one.theta)
        np.testing.assert_array_equal(four.stats["num_steps"], one.stats["num_steps"])
    assert one.okay.all()


def test_threads_have_the_settings_of_their_caller(monkeypatch):
    """Also a sweep in float32 while float64 is enabled elsewhere."""
    with jax.enable_x64(False), jax.default_device(jax.devices("cpu")[0]):
        loss = ddln.LeastSquares(np.float32(LOSS.X), np.float32(LOSS.y))
        stack = jax.vmap(ddln.DeepDiagonal)(jnp.asarray(np.float32(STACK.layers)))
        result = on(3, monkeypatch, stack, loss, 2.0, rtol=1e-3, atol=1e-6)
    assert result.theta.dtype == np.float32
    assert result.okay.all()


def test_an_error_ends_all_threads_and_is_raised(monkeypatch):
    compute = _plan.Computer.__call__

    def broken(self, start, stop):
        if start == 40:
            raise OSError("disk full")
        return compute(self, start, stop)

    monkeypatch.setattr(_plan.Computer, "__call__", broken)
    with pytest.raises(OSError, match="disk full") as told:
        on(3, monkeypatch, STACK, LOSS, 2.0)
    assert "lanes were done" in told.value.__notes__[0]


@pytest.mark.parametrize(("coordinates", "alone"), [("auto", False), ("full", True)])
def test_programs_with_batched_lapack_calls_run_one_after_the_other(
    coordinates, alone, monkeypatch
):
    monkeypatch.setattr(_plan, "usable_cores", lambda: 5)
    widths = widths_for(None)
    lanes = lanes_of(STACK, LOSS, 2.0, widths=widths, coordinates=coordinates)
    program = _plan.Plan.of(lanes, widths, 4, None).compile()
    assert (program.alone, program.at_once) == (alone, 1 if alone else 5)


def test_widths_follow_the_platform():
    cpu, card = widths_of("cpu"), widths_of("gpu")
    assert cpu.queue.width(10**5) == 32
    assert card.queue.width(10**5) == 8192
    assert card.queue.width(100) == 100
    assert card == widths_of("tpu")
    assert cpu.with_lanes(7).queue.width(10**5) == cpu.with_lanes(7).limits == 7
    lanes = lanes_of(STACK, LOSS, 2.0, widths=cpu)
    # Two chunks of the same size, not one of 64 and a short one.
    assert _plan.Plan.of(lanes, cpu, None, None).width == 48
    assert _plan.Plan.of(lanes, card, None, None).width == 96


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("lanes", [0, -1, 2.5, True])
def test_bad_numbers_of_lanes(lanes):
    with pytest.raises(ValueError, match="Argument `lanes` must be a whole number, at least 1"):
        ddln.sweep(STACK, LOSS, 2.0, lanes=lanes)


def test_devices_of_several_platforms():
    class Card:
        platform = "gpu"

    with pytest.raises(ValueError, match=r"devices of one platform.* cpu, gpu"):
        checked_devices([*jax.devices("cpu"), Card()])


@pytest.mark.parametrize(
    "cost",
    [
        lambda lane: 1 + 9 * (lane % 8 == 0),  # a scale in eight is expensive, scales first
        lambda lane: np.where(lane // 2048 == 7, 10, 1),  # the same, scales last
        lambda lane: np.linspace(1, 10, 16384)[lane],
        lambda lane: np.random.default_rng(0).choice([1, 10], 16384)[lane],
    ],
)
def test_no_device_waits_long_for_lanes_that_cost_ten_times_as_much(cost):
    order, back = (np.asarray(places) for places in _plan.deal(16384, 8))
    np.testing.assert_array_equal(order[back], np.arange(16384))
    work = cost(order).reshape(8, -1).sum(axis=1)
    assert work.max() <= 1.06 * work.mean()


def test_float64_on_a_tpu_is_refused_before_anything_is_compiled():
    class Chip:
        platform = "tpu"

    with pytest.raises(ValueError, match=r"A TPU emulates float64.*float32"):
        ddln.sweep(STACK, LOSS, 2.0, devices=[Chip()], progress=False)
