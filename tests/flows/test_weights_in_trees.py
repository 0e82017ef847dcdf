"""Weights in trees with empty branches, as libraries of layers write them (`ddln.flows.states._weights`)."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln

START = np.array([1.0, 0.5, 2.0])
TARGET = np.array([0.3, 1.0, 2.0])
LOSS = ddln.LeastSquares(jnp.eye(3), jnp.asarray(TARGET))
T1 = 0.7


def squares(w, empty=True):
    branches = ((), {"scale": None, "layers": []}) if empty else ()
    return ddln.FromFunction(lambda tree: tree[0] ** 2, (jnp.asarray(w), *branches))


def closed_form(theta, t):
    """theta' = -4 theta (theta - y), as w' = -2 w (w^2 - y)."""
    return TARGET / (1 + (TARGET / theta - 1) * np.exp(-4 * TARGET * t))


def test_dense_output_of_empty_branches_is_the_closed_form():
    flow = ddln.gradient_flow(squares(START), LOSS, T1, dense=True, rtol=1e-9, atol=1e-12)
    weights = flow.evaluate(T1 / 2).weights
    assert jax.tree.structure(weights) == jax.tree.structure(squares(START).weights)
    np.testing.assert_allclose(weights[0] ** 2, closed_form(START**2, T1 / 2), rtol=1e-6)


def test_reverse_mode_through_another_solver_is_the_derivative_of_the_closed_form():
    def total(w):
        flow = ddln.gradient_flow(
            squares(w), LOSS, T1, solver=diffrax.Kvaerno5(), rtol=1e-9, atol=1e-12, max_steps=4096
        )
        return jnp.sum(flow.theta)

    h = 1e-5
    ends = [closed_form((START + shift) ** 2, T1) for shift in (-h, h)]
    found = jax.grad(total)(jnp.asarray(START))
    np.testing.assert_allclose(found, (ends[1] - ends[0]) / (2 * h), rtol=1e-6)


FLOWS = {
    "momentum": lambda start: ddln.momentum_flow(start, LOSS, T1, inertia=1.0, dense=True),
    "sharpness-aware": lambda start: ddln.sam_flow(start, LOSS, T1, radius=0.01, dense=True),
    "steepest": lambda start: ddln.steepest_flow(start, LOSS, T1, exponent=3.0, dense=True),
    "central": lambda start: ddln.central_flow(start, LOSS, T1, step_size=0.1, dense=True),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows_of_other_dynamics_pass_empty_branches_through(name):
    flow, known = (FLOWS[name](squares(START, empty)) for empty in (True, False))
    np.testing.assert_array_equal(flow.theta, known.theta)
    weights = flow.evaluate(T1 / 2).weights
    assert weights[1:] == ((), {"scale": None, "layers": []})
    np.testing.assert_array_equal(weights[0], known.evaluate(T1 / 2).weights[0])
    if name == "momentum":
        assert jax.tree.structure(flow.record.velocity.weights) == jax.tree.structure(weights)
