"""Gradient flow of any parameterization and loss."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS
from ddln._types import Array, Float, Loss
from ddln._validation import require_not_negative
from ddln.engine import AbstractDynamics, PerLane, Solve, integrate
from ddln.engine.internal import check_model, check_start, known
from ddln.flows._decay import PiecewiseConstant
from ddln.flows._decay_fields import FullField, ReducedField
from ddln.flows._trajectory import Trajectory, weight_trajectory
from ddln.flows.states import (
    DecayedSpace,
    FullSpace,
    ReducedSpace,
    atol_factor,
    startable,
    weight_states,
)
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization
from ddln.solvers import RKC, Rodas5P, SeparableDualField

# A dense Jacobian is factorized once per step; beyond this many unknowns an explicit solver is chosen.
DENSE_JACOBIAN_LIMIT = 200
# A structured one needs a matrix of min(n, d) rows; beyond this many `RKC` is chosen, which needs none.
# It is of lower order, and faster from 300 rows on for mild starts; for stiff ones (benchmarks,
# "matrix-free") it is not up to 800.
FACTORIZATION_LIMIT = 1000


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
    weight_decay: float | Float[Array, ""] | Callable | None = None,
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
            w' = -grad_w L(h(w)) - lambda w: a number, a function of time that can be traced, or a
            `ddln.PiecewiseConstant`. In reduced coordinates the gaps of the layers are
            Delta exp(-2 Lambda), Lambda the integral of lambda. For theta = u * v and t1 -> inf this is
            the penalty lambda |theta|_1 on theta, for L layers that of the exponent 2/L (Hoff 2017).
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
    dynamics = GradientDynamics(coordinates=coordinates, weight_decay=weight_decay, dual=dual)
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    if throw:
        check_start(parameterization)
    return integrate(dynamics, parameterization, loss, solve, throw=throw)


class AbstractFullDynamics(AbstractDynamics):
    """A flow from the weights of a parameterization, in full coordinates."""

    def startable(self, states, loss):
        return startable(states.initial, states.initial.effective(), loss)

    def atol_factor(self, states):
        return atol_factor(states.initial)

    def name(self, states):
        return "full"


class AbstractWeightDynamics(AbstractFullDynamics):
    """A flow of weights by a response to grad L, with its dual and decoupled weight decay, in coordinates
    that may be reduced.

    Attributes:
        weight_decay: lambda, as in `GradientDynamics`.
        dual: whether the dual xi is integrated along.
    """

    weight_decay: eqx.AbstractVar[Any]
    dual: eqx.AbstractVar[bool]

    def initial_state(self, states, loss):
        theta = eqx.filter_eval_shape(lambda p: p.effective(), states.initial)
        dual = jnp.zeros(theta.shape, theta.dtype) if self.dual else None
        if not isinstance(states, DecayedSpace):
            return states.start(), dual
        # The blocks of a structured Jacobian have the shape of theta.
        structured = isinstance(loss, AbstractPredictionLoss)
        return states.start(), dual, jnp.zeros(theta.shape if structured else (1,), theta.dtype)

    def startable(self, states, loss):
        okay, refusal = super().startable(states, loss)
        decay = self.weight_decay
        rates = decay.values if isinstance(decay, PiecewiseConstant) else decay
        if rates is None or callable(rates):
            return okay, refusal
        rates = jnp.asarray(rates)
        usable = jnp.all(jnp.isfinite(rates) & (rates >= 0))
        return okay & usable, RESULTS.where(usable, refusal, RESULTS.unusable_weight_decay)

    def parameterization(self, states, state):
        return states.of_state(state)

    def field(self, states, loss):
        if isinstance(states, DecayedSpace):
            return ReducedField(states, loss, self.weight_decay)
        linear = isinstance(loss, AbstractPredictionLoss)
        if isinstance(states, ReducedSpace) and linear and states.structured:
            return SeparableDualField(states.coordinates, loss, states.field_response)
        return FullField(states, loss, self.weight_decay)

    def jumps(self):
        decay = self.weight_decay
        return decay.times if isinstance(decay, PiecewiseConstant) else None

    def default_solver(self, states, loss, *, reverse):
        if self.jumps() is not None:
            return Rodas5P()
        if not isinstance(states, FullSpace) and isinstance(loss, AbstractPredictionLoss):
            matrix_free = min(loss.design.shape) > FACTORIZATION_LIMIT
            return RKC(reverse=reverse) if matrix_free else Rodas5P()
        unknowns = sum(leaf.size for leaf in jax.tree.leaves(states.start()))
        size = unknowns + states.initial.effective().size
        return Rodas5P() if size <= DENSE_JACOBIAN_LIMIT else diffrax.Tsit5()

    def trajectory(self, states, loss, saved):
        rows, duals, *total = saved.rows
        rows = (rows, *total) if total else rows
        return weight_trajectory(states, loss, saved, rows, duals)

    def name(self, states):
        return "full" if isinstance(states, FullSpace) else "reduced"


class GradientDynamics(AbstractWeightDynamics):
    """Gradient flow with weight decay lambda: w' = -grad_w L(h(w)) - lambda w, xi' = -grad L(theta).

    Args:
        weight_decay: lambda, at least 0: a number, a function of time that can be traced, or a
            `ddln.PiecewiseConstant`; None has none.
        coordinates: "reduced", "full" or "auto", as in `ddln.gradient_flow`.
        dual: whether the dual xi is integrated along.

    Raises:
        ValueError: if `weight_decay` is a number that is negative or not finite, or a function that
            does not map a traced time to a scalar.
    """

    weight_decay: Any = None
    coordinates: str = eqx.field(static=True)  # pyright: ignore
    dual: bool = eqx.field(static=True)  # pyright: ignore

    def __init__(self, weight_decay: Any = None, *, coordinates: str = "auto", dual: bool = True):
        check_decay(weight_decay)
        self.weight_decay = weight_decay
        self.coordinates = coordinates
        self.dual = dual

    def states(self, start, loss):
        check_model(start, loss)
        return weight_states(start, self.coordinates, decays=self.weight_decay is not None)


def check_decay(weight_decay: Any) -> None:
    """Raises if a known weight decay is neither None, a number at least 0, nor a schedule."""
    if isinstance(weight_decay, PiecewiseConstant | PerLane) or not callable(weight_decay):
        if not isinstance(decay := known(weight_decay), PiecewiseConstant | None):
            require_not_negative("weight_decay", decay)
    else:
        _check_schedule(weight_decay)


def _check_schedule(schedule: Callable) -> None:
    """A weight decay as a function of time must map a traced time to a scalar."""
    time = jax.ShapeDtypeStruct((), jnp.result_type(float))
    try:
        value = eqx.filter_eval_shape(schedule, time)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise ValueError(
            "Argument `weight_decay` must be a function of time that can be traced, but it looks at the "
            "value of the time. Use `jnp.where` in place of `if`, or a `ddln.PiecewiseConstant`."
        ) from error
    if getattr(value, "shape", None) != () and not isinstance(value, int | float):
        raise ValueError(
            f"Argument `weight_decay` must map a time to a scalar, but it returns {value}."
        )
