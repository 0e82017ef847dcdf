"""Momentum flow: gradient descent with momentum in continuous time."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import is_okay
from ddln._types import Array, Float, Loss
from ddln._validation import require_option, require_positive
from ddln.flows._adjoint import after, before, check_adjoint
from ddln.flows._arguments import check_model, check_start, check_times, check_tolerances
from ddln.flows._damping import AbstractDamping, ConstantDamping
from ddln.flows._momentum_space import (
    AbstractMomentumSpace,
    AngleSpace,
    MomentumRecord,
    Motion,
    PhaseSpace,
)
from ddln.flows._save_times import SaveTimes, saved_rows
from ddln.flows._setup import DENSE_JACOBIAN_LIMIT, prepare, trajectory
from ddln.flows._state import FullSpace, loss_gradient
from ddln.flows._step_control import StepControl
from ddln.flows._trajectory import Trajectory
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
        adjoint: how to differentiate: None is reverse mode with checkpoints
            (`diffrax.RecursiveCheckpointAdjoint`); pass `diffrax.ForwardMode()` for `jax.jvp`.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `dual` is the accumulated gradient -int (k / lambda) grad L ds, with
        k = lambda for constant damping (then it is -int grad L ds) and k = s / (alpha - 1) for
        vanishing damping. `record` is a `MomentumRecord`: velocities, and the integrals of the laws.
        `result` is `RESULTS.successful`, `max_steps_reached`, `nonfinite_initialization`,
        `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: Papazov et al. 2024; Su, Boyd and Candès 2016.
    """
    check_times(t1, ts)
    check_tolerances(rtol, atol, max_steps)
    check_adjoint(adjoint)
    require_positive("inertia", inertia)
    damping = ConstantDamping() if damping is None else damping
    if not isinstance(damping, AbstractDamping):
        raise ValueError(
            "Argument `damping` must be `ddln.ConstantDamping()` or `ddln.VanishingDamping()`, "
            f"but it is {damping!r}."
        )
    theta = check_model(parameterization, loss)
    if throw:
        check_start(parameterization)
    space, name = _space(parameterization, coordinates)
    solver = _solver(space, theta.size, damping) if solver is None else solver
    made_of = (
        space,
        parameterization,
        loss,
        jnp.asarray(inertia, theta.dtype),
        jax.tree.map(lambda leaf: jnp.asarray(leaf, theta.dtype), damping),
        jnp.asarray(t1, theta.dtype),
        None if ts is None else jnp.asarray(ts, theta.dtype),
    )
    flow = _integrate(
        *before(adjoint, solver, made_of),
        jnp.asarray(rtol, theta.dtype),
        jnp.asarray(atol, theta.dtype),
        solver,
        diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        max_steps=max_steps,
        method=f"{name}, {type(solver).__name__}",
    )
    flow = after(adjoint, solver, flow)
    if throw:
        flow = flow.result.error_if(flow, ~is_okay(flow.result))
    return flow


class _Field(eqx.Module):
    """The vector field of the state (unknowns, accumulated gradient, integrals)."""

    space: AbstractMomentumSpace
    loss: Loss
    inertia: Float[Array, ""]
    damping: AbstractDamping

    def __call__(self, t, y, args):
        state, _, _ = y
        g = loss_gradient(self.loss, self.space.rebuild(state).effective())
        motion = Motion(t, g, self.inertia, self.damping)
        return (
            self.space.rates(state, motion),
            -(motion.memory / self.inertia) * g,
            self.space.integrands(state, motion),
        )


@eqx.filter_jit
def _integrate(
    space: AbstractMomentumSpace,
    initial: AbstractParameterization,
    loss: Loss,
    inertia: Float[Array, ""],
    damping: AbstractDamping,
    t1: Float[Array, ""],
    ts: Float[Array, " T"] | None,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    solver: diffrax.AbstractSolver,
    adjoint: diffrax.AbstractAdjoint,
    *,
    max_steps: int,
    method: str,
) -> Trajectory:
    full = FullSpace(initial)
    lane = prepare(full, loss, t1, atol, dual=True)
    # Angles and logarithms do not scale with the initialization.
    atol = atol if isinstance(space, AngleSpace) else lane.atol
    field = _Field(space, loss, inertia, damping)
    unknowns = space.start()
    motion = Motion(jnp.zeros_like(t1), lane.state[1], inertia, damping)
    integrals = jax.tree.map(jnp.zeros_like, space.integrands(unknowns, motion))
    start = jax.tree.map(
        lambda leaf: jnp.where(lane.startable, leaf, 0), (unknowns, lane.state[1], integrals)
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        solver if ts is None else SaveTimes(solver, ts),
        jnp.zeros_like(t1),
        lane.end,
        None,
        start,
        saveat=diffrax.SaveAt(t1=True, solver_state=ts is not None),
        stepsize_controller=StepControl(rtol, atol),
        adjoint=adjoint,
        max_steps=max_steps,
        throw=False,
    )
    assert solution.ts is not None  # `SaveAt(t1=True)` saves it
    times = solution.ts if ts is None else ts
    rows = solution.ys if ts is None else saved_rows(solution)
    assert rows is not None
    states, duals, integrals = rows
    weights = jax.vmap(lambda row: eqx.filter(space.rebuild(row), eqx.is_inexact_array))(states)
    record = MomentumRecord(
        inertia=inertia,
        memory=jnp.broadcast_to(damping.memory(times, inertia), times.shape),
        velocity=jax.vmap(lambda row: space.velocity(row, inertia))(states),
        kinetic=integrals[0],
        pair=space.pair(states, integrals),
    )
    return trajectory(
        full,
        loss,
        times,
        (weights, duals),
        last=solution.ts[-1],
        result=lane.outcome(solution.result),
        stats=solution.stats,
        startable=lane.startable,
        rtol=rtol,
        atol=atol,
        method=method,
        record=record,
    )


def _space(
    parameterization: AbstractParameterization, coordinates: str
) -> tuple[AbstractMomentumSpace, str]:
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    pair = isinstance(parameterization, DeepDiagonal) and parameterization.depth == 2
    if pair and coordinates != "full":
        return AngleSpace(parameterization), "reduced"  # pyright: ignore[reportArgumentType]
    if coordinates == "reduced":
        raise ValueError(
            "Argument `coordinates` must be 'full' or 'auto' unless the parameterization is a "
            "`ddln.DeepDiagonal` with two layers, but it is 'reduced'."
        )
    return PhaseSpace(FullSpace(parameterization)), "full"


def _solver(
    space: AbstractMomentumSpace, size: int, damping: AbstractDamping
) -> diffrax.AbstractSolver:
    leaves = jax.tree.leaves(space.start())
    # The weights' integrals are half as many as weights and velocities.
    unknowns = 3 * sum(leaf.size for leaf in leaves) // 2 + size
    stiff = isinstance(damping, ConstantDamping) and unknowns <= DENSE_JACOBIAN_LIMIT
    return Rodas5P() if stiff else diffrax.Tsit5()
