"""Momentum flow: gradient descent with momentum in continuous time."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln._validation import require_option, require_positive
from ddln.engine import AbstractDynamics, Solve, integrate
from ddln.engine.internal import check_model, check_start, known
from ddln.flows._damping import AbstractDamping, ConstantDamping
from ddln.flows._gradient_flow import DENSE_JACOBIAN_LIMIT
from ddln.flows._trajectory import Trajectory, weight_trajectory
from ddln.flows.states._momentum import (
    AbstractMomentumStates,
    AngleSpace,
    MomentumRecord,
    Motion,
    PhaseSpace,
)
from ddln.flows.states._weights import FullSpace, atol_factor, startable
from ddln.losses import loss_gradient
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.solvers import Rodas5P


def momentum_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    inertia: float | Float[Array, ""],
    damping: AbstractDamping | None = None,
    ts: Any = None,
    coordinates: str = "auto",
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: Callable | None = None,
    dense: bool = False,
    throw: bool = True,
) -> Trajectory:
    """Integrates lambda w'' + d(t) w' + grad_w L(h(w)) = 0 from rest, w'(0) = 0, from time 0 to t1.

    With d = 1 it models gradient descent with momentum beta and step gamma for
    lambda = gamma (1 + beta) / (2 (1 - beta)^2), one step taking the time gamma / (1 - beta):
    `ddln.momentum_scaling`. With d = 3 lambda / t it models Nesterov's method.

    Example:
        >>> trajectory = ddln.momentum_flow(network, loss, 100.0, inertia=1.0)
        >>> ddln.theory.momentum_gap(trajectory, loss).status
        'holds'

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        t1: the end of the integration, positive and finite.
        inertia: lambda, positive: a time for constant damping, the square of one for vanishing damping.
        damping: `ddln.ConstantDamping()` (the default) or `ddln.VanishingDamping(alpha)`.
        ts: the times to save at, increasing, within [0, t1], shape [T]; None saves the end only.
        coordinates: "reduced" for the angles of a `DeepDiagonal` with two layers, which see every
            change of sign of u +- v and resolve tiny initializations; "full" for weights and
            velocities; "auto" takes "reduced" for such a network.
        solver: any diffrax solver. None takes Rodas5P for constant damping and up to 200 unknowns,
            integrals included, and else Tsit5, whose steps are at most a few times lambda long for
            constant damping.
        rtol: the relative tolerance.
        atol: the absolute tolerance: of angles and logarithms if "reduced", else for unknowns of
            size one, multiplied by min(1, largest |w| at the start).
        max_steps: the most steps, accepted or not, before giving up.
        adjoint: as in `ddln.gradient_flow`.
        event: stop early, as in `ddln.gradient_flow`.
        dense: whether to keep dense output for `Trajectory.evaluate`.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `dual` is the accumulated gradient -int (k / lambda) grad L ds, with
        k = lambda for constant damping (then it is -int grad L ds) and k = s / (alpha - 1) for
        vanishing damping. `record` is a `MomentumRecord`: velocities, and the integrals of the laws.
        `result` is `RESULTS.successful`, `event_occurred`, `max_steps_reached`, `nonfinite_initialization`,
        `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: Papazov et al. 2024; Su, Boyd and Candès 2016.
    """
    dynamics = MomentumDynamics(inertia, damping, coordinates=coordinates)
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    if throw:
        check_start(parameterization)
    return integrate(dynamics, parameterization, loss, solve, throw=throw)


class MomentumDynamics(AbstractDynamics):
    """Momentum flow lambda w'' + d(t) w' + grad_w L(h(w)) = 0 from rest.

    Args:
        inertia: lambda, positive.
        damping: d; None is `ddln.ConstantDamping()`.
        coordinates: "reduced", "full" or "auto", as in `ddln.momentum_flow`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    inertia: Any
    damping: AbstractDamping
    coordinates: str = eqx.field(static=True)

    def __init__(
        self, inertia: Any, damping: AbstractDamping | None = None, *, coordinates: str = "auto"
    ):
        if (value := known(inertia)) is not None:
            require_positive("inertia", value)
        damping = ConstantDamping() if damping is None else damping
        if not isinstance(damping, AbstractDamping):
            raise ValueError(
                "Argument `damping` must be `ddln.ConstantDamping()` or `ddln.VanishingDamping()`, "
                f"but it is {damping!r}."
            )
        require_option("coordinates", coordinates, ("auto", "reduced", "full"))
        self.inertia = inertia
        self.damping = damping
        self.coordinates = coordinates

    def states(self, start, loss):
        check_model(start, loss)
        pair = isinstance(start, DeepDiagonal) and start.depth == 2
        if pair and self.coordinates != "full":
            return AngleSpace(start)  # pyright: ignore[reportArgumentType]
        if self.coordinates == "reduced":
            raise ValueError(
                "Argument `coordinates` must be 'full' or 'auto' unless the parameterization is a "
                "`ddln.DeepDiagonal` with two layers, but it is 'reduced'."
            )
        return PhaseSpace(FullSpace(start))  # pyright: ignore

    def initial_state(self, states, loss):
        unknowns = states.start()
        theta = jax.eval_shape(states.effective, unknowns)
        zero = jnp.zeros(theta.shape, theta.dtype)
        one = jnp.ones((), theta.dtype)
        motion = Motion(jnp.zeros_like(one), zero, one, ConstantDamping())
        integrands = jax.eval_shape(states.integrands, unknowns, motion)
        integrals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), integrands)
        return unknowns, zero, integrals

    def startable(self, states, loss):
        return startable(states.initial, states.initial.effective(), loss)

    def field(self, states, loss):
        return _Field(states, loss, self.inertia, self.damping)

    def default_solver(self, states, loss, *, reverse):
        leaves = jax.tree.leaves(states.start())
        # The weights' integrals are half as many as weights and velocities.
        unknowns = 3 * sum(leaf.size for leaf in leaves) // 2 + states.initial.effective().size
        stiff = isinstance(self.damping, ConstantDamping) and unknowns <= DENSE_JACOBIAN_LIMIT
        return Rodas5P() if stiff else diffrax.Tsit5()

    def trajectory(self, states, loss, saved):
        rows, duals, integrals = saved.rows
        memory = self.damping.memory(saved.times, self.inertia)
        record = MomentumRecord(
            inertia=self.inertia,
            memory=jnp.broadcast_to(memory, saved.times.shape),
            velocity=jax.vmap(lambda row: states.velocity(row, self.inertia))(rows),
            kinetic=integrals[0],
            pair=states.pair(rows, integrals),
        )
        return weight_trajectory(states, loss, saved, rows, duals, record)

    def atol_factor(self, states):
        # Angles and logarithms do not scale with the initialization.
        return 1.0 if isinstance(states, AngleSpace) else atol_factor(states.initial)

    def name(self, states):
        return "reduced" if isinstance(states, AngleSpace) else "full"


class _Field(eqx.Module):
    """The vector field of the state (unknowns, accumulated gradient, integrals)."""

    states: AbstractMomentumStates
    loss: Loss
    inertia: Float[Array, ""]
    damping: AbstractDamping

    def __call__(self, t, y, args):
        state, _, _ = y
        gradient = loss_gradient(self.loss, self.states.effective(state))
        motion = Motion(t, gradient, self.inertia, self.damping)
        return (
            self.states.rates(state, motion),
            -(motion.memory / self.inertia) * gradient,
            self.states.integrands(state, motion),
        )
