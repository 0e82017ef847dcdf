"""The slots of kept states (`ddln/engine/_checkpoints.py`) against a plain list."""

import jax.numpy as jnp
import numpy as np
import pytest

from ddln.engine import _checkpoints
from ddln.engine._checkpoints import Checkpoints, Slots, kept_factor, record_bytes


@pytest.mark.parametrize(("count", "max_steps"), [(1, 9), (2, 37), (4, 64), (8, 200), (8, 5)])
def test_every_state_that_is_needed_is_in_its_slot(count, max_steps):
    slots = Slots(count, max_steps)
    steps = jnp.arange(max_steps)
    strides, keeps, places = (np.asarray(f(steps)) for f in (slots.stride, slots.keeps, slots.slot))
    held = [None] * count
    for k in range(max_steps):
        # As few are dropped as the memory needs: the stride is the smallest power of two that fits.
        stride = 1
        while k // stride >= count:
            stride *= 2
        assert strides[k] == stride
        assert keeps[k] == (k % stride == 0)
        if keeps[k]:
            assert 0 <= places[k] < count
            held[places[k]] = k
        needed = range(0, k + 1, stride)
        assert [held[places[j]] for j in needed] == list(needed)
    assert slots.largest_stride == strides[-1]


def test_records_of_steps_that_are_not_accepted_are_dropped():
    slots = Slots(4, 8)
    states = jnp.asarray([[10.0, 20.0], [11.0, 21.0]])
    record = Checkpoints.empty(3, slots, jnp.float64, states[0], None)
    lanes, k = jnp.asarray([2, 0]), jnp.asarray([0, 1])
    accepted = jnp.asarray([True, False])
    found = record.record(slots, lanes, k, accepted, jnp.asarray([0.5, 0.7]), states, None)
    assert found.factors is None
    np.testing.assert_array_equal(found.times[2], [0.5, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found.states[2, 0], states[0])
    assert float(jnp.abs(found.times[:2]).max()) == 0
    assert float(jnp.abs(found.states[:2]).max()) == 0


def test_memory_is_bounded(monkeypatch):
    state = jnp.zeros(100)
    assert record_bytes(state, 1000) == 1000 * 8 + 512 * 800
    monkeypatch.setattr(_checkpoints, "SLOT_BYTES", 10_000)
    slots = Slots.of(state, 1000)
    assert slots.count == 8  # the largest power of two whose states fit
    # A factor is kept if it is at most eight states large, and all of them fit.
    assert kept_factor(jnp.zeros((10, 10)), state, slots) is not None
    assert kept_factor(jnp.zeros((20, 20)), state, slots) is None
    assert kept_factor(None, state, slots) is None
