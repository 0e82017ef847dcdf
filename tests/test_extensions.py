"""A dynamics, a loss, a map and a check from outside of the package, a class each, through every facility."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory
from ddln.flows import weight_trajectory
from ddln.flows.states import FullSpace, atol_factor, startable
from ddln.losses import loss_gradient

SIZE = 10
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 4)))
Y = jnp.asarray(RNG.normal(size=3))
LAYERS = jnp.asarray(RNG.choice([-1.0, 1.0], (SIZE, 2, 4)) * RNG.uniform(0.5, 1.5, (SIZE, 2, 4)))


class TemperedDynamics(ddln.AbstractDynamics):
    """Gradient flow at a speed that fades: w' = -exp(-rate t) grad_w L.

    In the time s = (1 - exp(-rate t)) / rate it is gradient flow.
    """

    rate: float | jax.Array | ddln.PerLane

    def states(self, start, loss):
        return FullSpace(start)

    def initial_state(self, states, loss):
        return (states.start(),)

    def startable(self, states, loss):
        return startable(states.initial, states.initial.effective(), loss)

    def field(self, states, loss):
        def velocity(t, y, args):
            theta, vjp = jax.vjp(states.effective, y[0])
            (direction,) = vjp(loss_gradient(loss, theta))
            speed = jnp.exp(-self.rate * t)
            return (jax.tree.map(lambda leaf: -speed * leaf, direction),)

        return velocity

    def default_solver(self, states, loss, *, reverse):
        return diffrax.Tsit5()

    def trajectory(self, states, loss, saved):
        return weight_trajectory(states, loss, saved, saved.rows[0], None)

    def atol_factor(self, states):
        return atol_factor(states.initial)


class Huber(ddln.AbstractPredictionLoss):
    """Pseudo-Huber loss: sqrt(1 + r^2) - 1 of the residual r."""

    X: jax.Array
    y: jax.Array
    scale: float = eqx.field(static=True, default=1.0)

    def pointwise(self, prediction, target):
        return jnp.sqrt(1 + jnp.square(prediction - target)) - 1

    def pointwise_gradient(self, prediction, target):
        return (prediction - target) / jnp.sqrt(1 + jnp.square(prediction - target))

    def pointwise_curvature(self, prediction, target):
        return (1 + jnp.square(prediction - target)) ** -1.5


class Sinh(ddln.AbstractParameterization):
    """theta = sinh(w)."""

    w: jax.Array
    separable = True

    def effective(self):
        return jnp.sinh(self.w)


RATES = jnp.linspace(0.1, 1.0, SIZE)
TIGHT = {"rtol": 1e-9, "atol": 1e-11}


def test_a_dynamics_from_outside_runs_in_every_facility(tmp_path):
    loss = Huber(X, Y)
    t1, starts = 2.0, jax.vmap(ddln.DeepDiagonal)(LAYERS)
    end = (1 - jnp.exp(-RATES * t1)) / RATES

    def run(**settings):
        return ddln.sweep(
            starts,
            loss,
            t1,
            dynamics=TemperedDynamics(ddln.PerLane(RATES)),
            progress=False,
            **TIGHT,
            **settings,
        )

    # In its own time it is gradient flow, which has other coordinates and another solver.
    plain = ddln.sweep(starts, loss, ddln.PerLane(end), progress=False, **TIGHT)
    result = run(store=tmp_path / "toy.zarr")
    assert result.method == "fullspace, Tsit5"
    np.testing.assert_allclose(result.theta[:], plain.theta[:], rtol=1e-6, atol=1e-8)
    ends = np.asarray(plain.loss)[:, 0]
    level = float(np.median(ends))
    stopped = run(event=ddln.LossBelow(level))
    np.testing.assert_array_equal(stopped.result == ddln.RESULTS.event_occurred, ends < level)
    fell = (ends < level) & (jax.vmap(lambda start: loss(start.effective()))(starts) > level)
    assert fell.any()
    np.testing.assert_allclose(stopped.loss[fell, 0], level, rtol=1e-6)

    def value(rates):
        result = ddln.sweep(
            starts,
            loss,
            t1,
            dynamics=TemperedDynamics(ddln.PerLane(rates)),
            progress=False,
            **TIGHT,
        )
        return jnp.sum(result.theta)

    def closed(rates):
        ends = (1 - jnp.exp(-rates * t1)) / rates
        result = ddln.sweep(starts, loss, ddln.PerLane(ends), progress=False, **TIGHT)
        return jnp.sum(result.theta)

    slope, expected = (jax.jit(jax.grad(f))(RATES) for f in (value, closed))
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-7)


def test_a_map_from_outside_flows_and_is_diagnosed():
    start = Sinh(jnp.asarray([0.1, -0.3, 0.5, 0.2]))
    flow = ddln.gradient_flow(start, Huber(X, Y), 3.0, **TIGHT)
    # theta' = -(1 + theta^2) g: the dual is arctan(theta), up to its start.
    moved = jnp.arctan(flow.theta[-1]) - jnp.arctan(start.effective())
    np.testing.assert_allclose(flow.dual[-1], moved, rtol=1e-6)
    assert theory.diagnose(start).mirror_flow == "yes"


@theory.law(source="the mean value theorem", relation="<=", axes=("time",), needs=())
def moves_slowly(trajectory, loss):
    """theta moves by no more than the rate allows: |theta(t) - theta_0| <= t."""
    moved = jnp.linalg.norm(trajectory.theta - trajectory.initial.effective()[None], axis=-1)
    return theory.Sides(moved, trajectory.ts, trajectory.rtol, jnp.isfinite(trajectory.ts))


@pytest.mark.parametrize(("speed", "status"), [(0.05, "holds"), (5.0, "violated")])
def test_a_check_from_outside_fails_where_it_should(speed, status):
    loss = ddln.LeastSquares(jnp.eye(2), jnp.ones(2), scale=0.5 * speed)
    flow = ddln.gradient_flow(ddln.Identity(jnp.zeros(2)), loss, 1.0, ts=[0.1, 1.0], **TIGHT)
    found = moves_slowly(flow, loss)
    assert (found.name, found.status) == ("moves_slowly", status)
    assert moves_slowly.law.applies(flow, loss)
