"""Values that differ between lanes (`ddln/engine/_per_lane.py`), and the settings that take them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.engine import PerLane, Solve
from ddln.engine.internal import per_lane_values, take, with_values, without_values


def test_a_stack_and_a_rule_give_the_same_values():
    numbers = jnp.asarray([1.0, 4.0, 9.0])
    stack, rule = PerLane(numbers), PerLane(lambda i: (i.astype(float) + 1) ** 2)
    assert (stack.size, stack.is_rule, rule.size, rule.is_rule) == (3, False, None, True)
    for value in (stack, rule, PerLane([1.0, 4.0, 9.0]), PerLane(np.asarray([1.0, 4.0, 9.0]))):
        found = jax.vmap(lambda i, v=value: take(v, i))(jnp.arange(3))
        np.testing.assert_array_equal(found, numbers)
        rows = value.rows(3)
        np.testing.assert_array_equal(jax.vmap(value.of_row)(rows), numbers)


def test_a_stack_of_losses_keeps_what_is_static():
    X, y = np.ones((4, 2, 3)), np.ones((4, 2))
    losses = eqx.filter_vmap(lambda X, y: ddln.LeastSquares(X, y, scale=2.0))(X, y)
    value = PerLane(losses)
    assert value.size == 4
    one = take(value, jnp.asarray(2))
    assert one.scale == 2.0
    assert one.X.shape == (2, 3)


def test_values_leave_a_tree_and_come_back_in_order():
    tree = {"a": PerLane([1.0, 2.0]), "b": (3.0, PerLane([4.0, 5.0]))}
    values = per_lane_values(tree)
    assert [v.values.tolist() for v in values] == [[1.0, 2.0], [4.0, 5.0]]
    template = without_values(tree)
    assert jax.tree.leaves(template) == [3.0]
    assert with_values(template, ["x", "y"]) == {"a": "x", "b": (3.0, "y")}


@pytest.mark.parametrize("values", [jnp.asarray(1.0), (jnp.ones(2), jnp.ones(3)), jnp.ones((0, 2))])
def test_values_without_a_common_leading_axis_are_refused(values):
    with pytest.raises(ValueError, match="must be a function of the lane's index"):
        PerLane(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"t1": PerLane([1.0, -1.0])}, "`t1` must be finite and positive"),
        ({"t1": PerLane([1.0, np.nan])}, "`t1` must be finite and positive"),
        ({"t1": 1.0, "rtol": PerLane([1e-6, 0.0])}, "`rtol` must be finite and positive"),
        ({"t1": PerLane([1.0, 3.0]), "ts": [0.5, 2.0]}, r"`ts` must lie in \[0, t1\] = \[0, 1.0\]"),
        ({"t1": 1.0, "ts": PerLane([1.0, 2.0])}, "`ts` must be a list of times"),
        ({"t1": 1.0, "ts": PerLane(np.asarray([[0.5], [2.0]]))}, "`ts` must lie in"),
        ({"t1": 1.0, "ts": PerLane(np.asarray([[0.5, 0.1]]))}, "`ts` must be increasing"),
    ],
)
def test_settings_of_every_lane_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Solve(**settings).checked()


def test_inertia_and_decay_of_every_lane_are_checked():
    with pytest.raises(ValueError, match="`inertia` must be finite and positive"):
        ddln.MomentumDynamics(PerLane([1.0, 0.0]))
    with pytest.raises(ValueError, match="`weight_decay` must be finite and not negative"):
        ddln.GradientDynamics(PerLane([1.0, -0.1]))
