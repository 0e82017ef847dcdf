import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.sweeps._initializations import as_initializations


def test_take_makes_the_lanes_asked_for():
    rule = ddln.Initializations(lambda i: ddln.Identity(jnp.full(2, i, float)), 5)
    np.testing.assert_array_equal(rule.take(jnp.array([4, 0]))(), [[4, 4], [0, 0]])


def test_a_stack_is_a_rule():
    stack = jax.vmap(ddln.Identity)(jnp.arange(6.0).reshape(3, 2))
    rule = as_initializations(stack)
    assert rule.size == 3
    np.testing.assert_array_equal(rule.take(jnp.array([2]))(), [[4.0, 5.0]])


def test_size_must_be_positive():
    with pytest.raises(ValueError, match="`size` must be a whole number, at least 1"):
        ddln.Initializations(lambda i: ddln.Identity(jnp.ones(2)), 0)
