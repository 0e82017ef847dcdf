"""The recorded adjoint (`ddln/engine/_recorded.py`): one step, and whole backward runs."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.engine import Solve
from ddln.engine.internal import FlowStepper, is_recordable

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4)))
Y = jnp.asarray(RNG.normal(size=3))
LAYERS = jnp.asarray(RNG.choice([-1.0, 1.0], (2, 4)) * RNG.uniform(0.5, 1.5, (2, 4)))
DIRECTION = jnp.asarray(RNG.normal(size=(2, 4)))
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "throw": False}


def test_recordable_solvers_are_those_without_memory():
    solvers = ddln.Rodas5P(), diffrax.Tsit5(), diffrax.Heun(), diffrax.Kvaerno5(), ddln.RKC()
    assert [is_recordable(s) for s in solvers] == [True, True, True, False, False]


def test_one_step_pulls_back_as_the_step_itself(monkeypatch):
    """A flow that ends within its first step: its derivative is that of one step of the solver."""
    loss = ddln.LeastSquares(X, Y)
    dynamics = ddln.GradientDynamics(coordinates="full", dual=False)
    stepper = FlowStepper(dynamics, loss, Solve(1e-3, rtol=1e-2, atol=1e-2))

    def by_engine(layers):
        flow = ddln.gradient_flow(
            ddln.DeepDiagonal(layers),
            loss,
            1e-3,
            coordinates="full",
            rtol=1e-2,
            atol=1e-2,
            dual=False,
            throw=False,
        )
        return flow.theta[-1], flow.stats["num_steps"]

    def by_solver(layers):
        inputs, _ = stepper.begin(ddln.DeepDiagonal(layers))
        term, solver = stepper.step_parts(inputs)
        first = dynamics.initial_state(inputs.states, loss)
        after, *_ = solver.step(term, 0.0, 1e-3, first, None, None, made_jump=False)
        return inputs.states.effective(after[0])

    weights = jnp.asarray([1.0, -2.0, 3.0, 0.5])

    @jax.jit
    def both(layers):
        _, vjp, steps = jax.vjp(by_engine, layers, has_aux=True)
        return steps, vjp(weights)[0], jax.vjp(by_solver, layers)[1](weights)[0]

    steps, found, expected = both(LAYERS)
    assert steps == 1
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def momentum(layers, **settings):
    loss = ddln.LeastSquares(X, Y)
    return ddln.momentum_flow(
        ddln.DeepDiagonal(layers), loss, 2.0, inertia=0.5, **settings, **TIGHT
    )


def mirror(layers, **settings):
    q, loss = ddln.potential(ddln.DeepDiagonal(layers)), ddln.LeastSquares(X, Y)
    return ddln.mirror_flow(q, loss, 2.0, **settings, **TIGHT)


def nesterov(layers, **settings):
    loss = ddln.LeastSquares(X, Y)
    return ddln.momentum_flow(
        ddln.DeepDiagonal(layers),
        loss,
        2.0,
        inertia=0.5,
        damping=ddln.VanishingDamping(),
        **settings,
        **TIGHT,
    )


@pytest.mark.parametrize(
    ("flow", "settings"),
    [
        (momentum, {"coordinates": "full", "event": ddln.LossBelow(0.3)}),
        (nesterov, {"ts": [0.0, 0.5, 2.0]}),
        (mirror, {}),
    ],
)
def test_backward_runs_against_differences(flow, settings, monkeypatch):
    """Primal coordinates of mirror flows are in `test_mirror_flow.py`."""
    # Few slots, so that most states are replayed.
    monkeypatch.setattr("ddln.engine._checkpoints.SLOTS", 4)

    def value(layers):
        return jnp.sum(jnp.sin(flow(layers, **settings).theta))

    # One program for the gradient and the differences.
    run = jax.jit(jax.value_and_grad(value))
    found = jnp.vdot(run(LAYERS)[1], DIRECTION)
    h = 1e-5
    up, down = (run(LAYERS + sign * h * DIRECTION)[0] for sign in (1, -1))
    np.testing.assert_allclose(found, (up - down) / (2 * h), rtol=1e-5)
