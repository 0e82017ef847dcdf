"""The one place where a dynamics is integrated: guard, prepare, solve, fill unreached rows, raise."""

from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from ddln._results import RESULTS, is_okay
from ddln._types import Loss
from ddln.engine._adjoint import forbid_forward, forbid_reverse
from ddln.engine._dynamics import STATS, AbstractDynamics, chosen_solver, dtype_of
from ddln.engine._event_location import event_value
from ddln.engine._recorded import integrate_recorded, is_recordable
from ddln.engine._save_times import SaveTimes, saved_rows
from ddln.engine._settings import Solve, in_dtype
from ddln.engine._stepper import FlowStepper, StepperInputs, StepperState, filled


def integrate(
    dynamics: AbstractDynamics, start: Any, loss: Loss, solve: Solve, *, throw: bool
) -> Any:
    """Integrates a dynamics from one start.

    With `solve.adjoint=None` a solver whose steps have no memory (Rosenbrock and explicit Runge-Kutta
    methods) is driven by `FlowStepper` and differentiated by the recorded adjoint. Other adjoints,
    other solvers and dense output go through `diffrax.diffeqsolve`, with the same steps.

    Args:
        dynamics: the equation of motion.
        start: of a kind that the dynamics accepts.
        loss: L(theta).
        solve: the settings, checked.
        throw: whether a failure raises, or is a result code.

    Returns:
        The trajectory of the dynamics.

    Raises:
        ValueError: if the start or the loss does not fit the dynamics.
        RuntimeError: if `throw=True` and the integration fails.
    """
    states = dynamics.states(start, loss)
    adjoint = solve.adjoint
    reverse = not isinstance(adjoint, diffrax.ForwardMode)
    solver = chosen_solver(dynamics, states, loss, solve.solver, reverse=reverse)
    dtype = dtype_of(dynamics, states, loss)
    solve = eqx.tree_at(lambda s: s.solver, solve, solver, is_leaf=lambda leaf: leaf is None)
    dynamics, solve = in_dtype(dynamics, dtype), solve.in_dtype(dtype)
    # Forward mode through a tolerance is zero in either mode.
    free = dynamics, states, loss, solve.t1, solve.ts, solve.event
    *parts, t1, ts, event = forbid_forward(adjoint, solver, free)
    solve = eqx.tree_at(
        lambda s: (s.t1, s.ts, s.event), solve, (t1, ts, event), is_leaf=lambda leaf: leaf is None
    )
    trajectory = forbid_reverse(adjoint, solver, _integrate(*parts, solve))  # pyright: ignore
    if throw:
        result = trajectory.result
        trajectory = result.error_if(trajectory, ~is_okay(result))
    return trajectory


@eqx.filter_jit
def _integrate(dynamics: AbstractDynamics, states: Any, loss: Loss, solve: Solve) -> Any:
    stepper = FlowStepper(dynamics, loss, solve)
    inputs, progress = stepper.begin_in(states)
    if solve.adjoint is None and not solve.dense and is_recordable(solve.solver):  # pyright: ignore
        return stepper.finish(inputs, integrate_recorded(stepper, inputs, progress))
    return _by_diffrax(stepper, inputs, progress)


def _by_diffrax(stepper: FlowStepper, inputs: StepperInputs, progress: StepperState) -> Any:
    """The trajectory by `diffrax.diffeqsolve`, which has dense output and other adjoints."""
    dynamics, loss, solve = stepper.dynamics, stepper.loss, stepper.solve
    states, ts = inputs.states, solve.ts
    method = stepper.method(inputs)
    event = None
    if solve.event is not None:

        def condition(t, y, args, **_):
            return event_value(solve.event, dynamics, states, loss, t, y)  # pyright: ignore

        # `flip`: an event is positive before it is met. (Detecting that would add a host callback.)
        # diffrax finds the root in the default float dtype; for any other the step's end must do.
        default = progress.crossing is not None and inputs.end.dtype == jnp.result_type(float)
        finder = optx.Bisection(rtol=1e-10, atol=1e-10, flip=True) if default else None
        event = diffrax.Event(condition, finder, direction=False)
    solution = diffrax.diffeqsolve(
        method.term,
        solve.solver if ts is None else SaveTimes(solve.solver, ts),  # pyright: ignore
        jnp.zeros_like(inputs.end),
        inputs.end,
        None,
        progress.state,
        saveat=diffrax.SaveAt(t1=True, dense=solve.dense, solver_state=ts is not None),
        stepsize_controller=method.control,
        adjoint=diffrax.RecursiveCheckpointAdjoint() if solve.adjoint is None else solve.adjoint,
        event=event,
        max_steps=solve.max_steps,
        throw=False,
    )
    assert solution.ts is not None  # `SaveAt(t1=True)` saves it, and the state
    # A problem that cannot start, or whose event is met at the start, ran for no time.
    ran = inputs.end > 0
    return filled(
        dynamics,
        states,
        loss,
        solution.ts if ts is None else ts,
        solution.ys if ts is None else saved_rows(solution),
        last=solution.ts[-1],
        startable=inputs.startable,
        result=RESULTS.where(ran, RESULTS.promote(solution.result), progress.result),
        stats={key: jnp.asarray(solution.stats[key]) for key in STATS},
        rtol=solve.rtol,
        atol=inputs.atol,
        method=method.name,
        interpolation=solution.interpolation,
    )
