"""Gradient flow of any parameterization and loss."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix as optx

from ddln._results import RESULTS, is_okay
from ddln._types import Array, Float, Loss
from ddln._validation import require_not_negative
from ddln.flows._adjoint import after, before, check_adjoint
from ddln.flows._arguments import check_model, check_start, check_times, check_tolerances
from ddln.flows._recorded import run_to_end
from ddln.flows._save_times import SaveTimes, saved_rows
from ddln.flows._segments import SegmentedFlow
from ddln.flows._setup import choose_solver, prepare, state_space, term, trajectory
from ddln.flows._state import AbstractStateSpace
from ddln.flows._step_control import StepControl
from ddln.flows._trajectory import Trajectory
from ddln.parameterizations import AbstractParameterization
from ddln.solvers import AbstractRosenbrock


def gradient_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    ts: Any = None,
    coordinates: str = "auto",
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: Callable | None = None,
    dense: bool = False,
    dual: bool = True,
    weight_decay: float | Float[Array, ""] | None = None,
    throw: bool = True,
) -> Trajectory:
    """Integrates the gradient flow w' = -grad_w L(h(w)) from time 0 to t1.

    The dual xi' = -grad L(theta) is integrated along with it. Differentiable in the weights, in the
    loss's arrays, in `t1` and in `ts`; to be used under `jax.jit` and `jax.vmap`.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=3, dim=50, scale=0.1)
        >>> trajectory = ddln.gradient_flow(network, ddln.LeastSquares(X, y), t1=100.0)
        >>> trajectory.theta[-1]

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        t1: the end of the integration, positive and finite. For t1 = inf see `ddln.limit`.
        ts: the times to save at, increasing, within [0, t1], shape [T]; None saves the end only.
        coordinates: "reduced" integrates the reduced coordinates of a separable parameterization (d
            unknowns; conservation laws hold to rounding), "full" the weights; "auto" takes "reduced"
            wherever the parameterization has it.
        solver: any diffrax solver. Where the coordinates are reduced and the loss is a
            `ddln.AbstractPredictionLoss`, None takes Rodas5P with the structured Jacobian, or the
            matrix-free `ddln.RKC`, of lower order, if min(n, d) > 1000; else Rodas5P with a dense
            Jacobian up to 200 unknowns, and beyond them Tsit5. `Trajectory.method` names the choice.
        rtol: the relative tolerance.
        atol: the absolute tolerance, for unknowns of size one: it is multiplied by
            min(1, largest |w| at the start), so that a tiny initialization is resolved too.
        max_steps: the most steps, accepted or not, before giving up.
        adjoint: how to differentiate: None is reverse mode, through the recorded steps of `ddln.Rodas5P`
            and else with checkpoints (`diffrax.RecursiveCheckpointAdjoint`); pass
            `diffrax.ForwardMode()` for `jax.jvp` and `jax.jacfwd`. The wrong mode is an error that
            says which to pass.
        event: stop early where `event(t, parameterization, loss)` reaches zero from above, or after
            the first step at whose end it is True: `ddln.LossBelow`, `ddln.GradientNormBelow` or any
            function. A condition met at the start stops the flow there. For a float32 flow with
            float64 enabled the flow stops at the end of that step.
        dense: whether to keep dense output for `Trajectory.evaluate`; takes memory for `max_steps`.
        dual: False leaves out the dual, and `Trajectory.dual` is None: for maps with many more
            entries of theta than weights, as low-rank factorizations, the flow is faster without.
        weight_decay: lambda of the penalty (lambda/2) |w|^2 on the weights:
            w' = -grad_w L(h(w)) - lambda w, in the coordinates "full". For theta = u * v and t1 -> inf
            this is the penalty lambda |theta|_1 on theta, for L layers that of the exponent 2/L
            (Hoff 2017).
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory; `result` is `RESULTS.successful`, `event_occurred`, `max_steps_reached`,
        `nonfinite_initialization`, `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).
    """
    check_times(t1, ts)
    check_tolerances(rtol, atol, max_steps)
    check_adjoint(adjoint)
    theta = check_model(parameterization, loss)
    if throw:
        check_start(parameterization)
    dtype = theta.dtype
    space = state_space(parameterization, coordinates, _decay(weight_decay, dtype))
    reverse = not isinstance(adjoint, diffrax.ForwardMode)
    solver, method = choose_solver(space, loss, solver, reverse=reverse)
    times = jnp.asarray(t1, dtype), None if ts is None else jnp.asarray(ts, dtype)
    flow = _integrate(
        *before(adjoint, solver, (space, loss, *times)),
        jnp.asarray(rtol, dtype),
        jnp.asarray(atol, dtype),
        solver,
        adjoint,
        event,
        dense=dense,
        dual=dual,
        max_steps=max_steps,
        method=method,
    )
    flow = after(adjoint, solver, flow)
    if throw:
        flow = flow.result.error_if(flow, ~is_okay(flow.result))
    return flow


def _decay(value: Any, dtype: Any) -> Float[Array, ""] | None:
    if value is None:
        return None
    require_not_negative("weight_decay", value)
    return jnp.asarray(value, dtype)


@eqx.filter_jit
def _integrate(
    space: AbstractStateSpace,
    loss: Loss,
    t1: Float[Array, ""],
    ts: Float[Array, " T"] | None,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    solver: diffrax.AbstractSolver,
    adjoint: diffrax.AbstractAdjoint | None,
    event: Callable | None,
    *,
    dense: bool,
    dual: bool,
    max_steps: int,
    method: str,
) -> Trajectory:
    stateless = isinstance(solver, AbstractRosenbrock)
    if adjoint is None and event is None and stateless and not dense:
        flow = SegmentedFlow(
            loss=loss,
            t1=t1,
            ts=ts,
            rtol=rtol,
            atol=atol,
            solver=solver,
            coordinates="auto",
            dual=dual,
            max_steps=max_steps,
        )
        start, progress = flow.begin_in(space)
        return flow.finish(start, run_to_end(flow, start, progress))
    lane = prepare(space, loss, t1, atol, dual=dual)
    end = lane.end
    stop = None
    if event is not None:
        met = (
            event(jnp.zeros_like(t1), space.initial, loss) <= 0
            if _is_real(event, space.initial, loss)
            else False
        )
        end = jnp.where(met, 0, end)
        condition = _Condition(event, space, loss)
        # `flip`: an event is positive before it is met. (Detecting that would add a host callback.)
        # diffrax finds the root in the default float dtype; for any other the step's end must do.
        default = t1.dtype == jnp.result_type(float)
        root_finder = optx.Bisection(rtol=1e-10, atol=1e-10, flip=True) if default else None
        stop = diffrax.Event(condition, root_finder, direction=False)
    solution = diffrax.diffeqsolve(
        term(space, loss),
        solver if ts is None else SaveTimes(solver, ts),
        jnp.zeros_like(t1),
        end,
        None,
        lane.state,
        saveat=diffrax.SaveAt(t1=True, dense=dense, solver_state=ts is not None),
        stepsize_controller=StepControl(rtol, lane.atol),
        adjoint=diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
        event=stop,
        max_steps=max_steps,
        throw=False,
    )
    result = lane.outcome(solution.result)
    if event is not None:
        occurred = RESULTS.promote(diffrax.RESULTS.event_occurred)
        result = RESULTS.where(lane.startable & met, occurred, result)
    assert solution.ts is not None  # `SaveAt(t1=True)` saves it
    saved = (solution.ts, solution.ys) if ts is None else (ts, saved_rows(solution))
    return trajectory(
        space,
        loss,
        *saved,
        last=solution.ts[-1],
        result=result,
        stats=solution.stats,
        startable=lane.startable,
        rtol=rtol,
        atol=lane.atol,
        method=method,
        interpolation=solution.interpolation,
    )


class _Condition(eqx.Module):
    """An event as diffrax calls it."""

    event: Callable
    space: AbstractStateSpace
    loss: Loss

    def __call__(self, t, y, args, **kwargs):
        return self.event(t, self.space.rebuild(y[0]), self.loss)


def _is_real(event: Callable, initial: AbstractParameterization, loss: Loss) -> bool:
    value = eqx.filter_eval_shape(event, jnp.zeros(()), initial, loss)
    if value.shape != ():
        raise ValueError(
            f"Argument `event` must return a scalar, but it returns shape {value.shape}."
        )
    return jnp.issubdtype(value.dtype, jnp.floating)
