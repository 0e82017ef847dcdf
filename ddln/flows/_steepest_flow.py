"""Steepest descent in other norms in continuous time: from sign flow to gradient flow and beyond."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import pull_back
from ddln._types import Array, Float, Loss, Scalar
from ddln._validation import require_finite, require_option, require_positive, require_real
from ddln.engine import Solve, integrate
from ddln.engine.internal import check_model, check_start, known
from ddln.flows._decay import integrated_decay
from ddln.flows._gradient_flow import AbstractWeightDynamics, check_decay
from ddln.flows._trajectory import Trajectory, weight_trajectory
from ddln.flows.states import DecayedSpace, FullSpace, ReducedSpace, Response
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    SmoothPower,
    SteepestForm,
)
from ddln.solvers import Rodas5P

# Width of the smoothing that is chosen for q = 1, and the least one for q below 2: with less of it steps at
# the default tolerance jump back and forth across the surfaces on which entries of grad L stay zero.
WIDEST, NARROWEST = 1e-4, 1e-6
# Width of the smoothing of derivatives of theta, for ties that come to rest at zero.
INNER = 1e-8


def steepest_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    exponent: float | Float[Array, ""],
    width: float | Float[Array, ""] | None = None,
    normalized: bool = False,
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
    """Integrates steepest descent w_j' = -sign(d_j) |d_j|^(q-1), d = grad_w L(h(w)), from 0 to t1.

    It is the steepest descent of the norm l_p of the weights, 1/p + 1/q = 1: gradient flow for q = 2, sign
    flow for q = 1 (the limit of Adam with small steps and no memory), and coordinate descent for large q. A
    deep diagonal network conserves |u_j|^q - |u_k|^q, and theta' = -M_q phi(grad L) with
    phi(x) = sign(x) |x|^(q-1) and M_q = sum_j |d theta / d u_j|^q. For q other than 2 it is no mirror flow,
    and its end no Bregman projection; see "Other optimizers" in the documentation.

    Powers below 1, and signs, have no derivative at zero: phi is smoothed where its argument is below
    `width` times its largest value at the start. For q = 1 the flow is a differential inclusion, to
    whose solution this one tends with the width. For separable maps phi(grad L) is smoothed, so that
    the weights of an entry of theta stop together and conservation laws stay; for other maps each
    weight by itself, which is one solution of several.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), 3, 4, 0.1)
        >>> flow = ddln.steepest_flow(network, loss, 10.0, exponent=1.0)
        >>> ddln.theory.steepest_gap(flow, loss).status
        'holds'

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        t1: the end of the integration, positive and finite.
        exponent: q, at least 1.
        width: of the smoothing, relative to the largest gradient at the start, positive; None takes
            1e-4^(1/(2-q)), at least 1e-6, which is 1e-4 for q = 1; and for q >= 2, where no smoothing is
            needed, the rounding unit, which is the least that counts. The path is off by an amount of
            the order of the width. For q = 1 keep it ten times above `rtol`, or the flow cannot follow
            the surfaces on which entries of grad L stay zero.
        normalized: True moves with speed one in the norm l_p, for q = 1 in that of the largest entry: the
            time is then another one, the same for all weights. The Jacobian has no structure.
        ts: the times to save at, increasing, within [0, t1], shape [T]; None saves the end only.
        coordinates: "reduced" for the smallest layers of a `DeepDiagonal` (d unknowns; conservation laws
            hold to rounding), "full" for the weights of any map; "auto" takes "reduced" for such a network.
        solver: any diffrax solver; None chooses as in `ddln.gradient_flow`, but never `ddln.RKC`.
        rtol: the relative tolerance.
        atol: the absolute tolerance, as in `ddln.gradient_flow`.
        max_steps: the most steps, accepted or not, before giving up.
        adjoint: as in `ddln.gradient_flow`.
        event: stop early, as in `ddln.gradient_flow`.
        dense: whether to keep dense output for `Trajectory.evaluate`.
        dual: False leaves out the dual xi' = -phi(grad L).
        weight_decay: lambda of decoupled decay, w_j' = -phi(d_j) - lambda w_j: a number, a function of
            time that can be traced, or a `ddln.PiecewiseConstant`. Conserved gaps decay like
            exp(-q Lambda), Lambda the integral of lambda.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `dual` is -int phi(grad L) ds, `record` a `ddln.flows.SteepestRecord`. `result` is
        `RESULTS.successful`, `event_occurred`, `max_steps_reached`, `nonfinite_initialization`,
        `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: "Other optimizers" in the documentation derives the law; Gunasekar et al. 2018 (steepest
    descent and its bias).
    """
    dynamics = SteepestDynamics(
        exponent,
        width=width,
        normalized=normalized,
        weight_decay=weight_decay,
        coordinates=coordinates,
        dual=dual,
    )
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    if throw:
        check_start(parameterization)
    return integrate(dynamics, parameterization, loss, solve, throw=throw)


class SteepestRecord(eqx.Module):
    """The record of a steepest flow, for the laws of its path.

    Attributes:
        exponent: q.
        width: the relative width of the smoothing of grad L; of grad_w L for maps that are not separable.
        inner_width: that of the derivatives of theta in the weights of separable maps.
        decay: Lambda at the saved times, shape [T]; a function of time is integrated as by
            `ddln.integrated_decay` in full coordinates.
    """

    exponent: Scalar
    width: Scalar
    inner_width: Scalar
    decay: Float[Array, " T"]


class SteepestDynamics(AbstractWeightDynamics):
    """Steepest descent w_j' = -sign(d_j) |d_j|^(q-1) - lambda w_j; the arguments are those of
    `ddln.steepest_flow`.

    Args:
        exponent: q, at least 1.
        width: of the smoothing, relative to the largest gradient at the start; None chooses.
        normalized: whether the weights move with speed one.
        weight_decay: lambda, as in `ddln.GradientDynamics`.
        coordinates: "reduced", "full" or "auto".
        dual: whether the dual xi is integrated along.

    Raises:
        ValueError: if an argument is out of its range.
    """

    exponent: Any
    width: Any
    weight_decay: Any
    normalized: bool = eqx.field(static=True)
    coordinates: str = eqx.field(static=True)
    dual: bool = eqx.field(static=True)

    def __init__(
        self,
        exponent: Any,
        *,
        width: Any = None,
        normalized: bool = False,
        weight_decay: Any = None,
        coordinates: str = "auto",
        dual: bool = True,
    ):
        if (value := known(exponent)) is not None:
            require_real("exponent", value)
            require_finite("exponent", np.asarray(value))
            if not np.all(np.asarray(value) >= 1):
                raise ValueError(
                    f"Argument `exponent` must be at least 1, but it is {value}. Exponent 1 is sign "
                    "flow, 2 is gradient flow."
                )
        if (value := known(width)) is not None:
            require_positive("width", value)
        check_decay(weight_decay)
        require_option("coordinates", coordinates, ("auto", "reduced", "full"))
        self.exponent, self.width, self.weight_decay = exponent, width, weight_decay
        self.normalized, self.coordinates, self.dual = normalized, coordinates, dual

    def states(self, start, loss):
        theta = check_model(start, loss)
        exponent, width = self._numbers(theta.dtype)
        response = self._response(start, loss, exponent, width)
        if not isinstance(start, DeepDiagonal) or self.coordinates == "full":
            if self.coordinates == "reduced":
                raise ValueError(
                    "Argument `coordinates` must be 'full' or 'auto' unless the parameterization is a "
                    f"`ddln.DeepDiagonal`, but it is 'reduced' for a {type(start).__name__}."
                )
            return FullSpace(start, response)
        form = SteepestForm.of(start.layers, start.factor, exponent, response.weights.width)
        decays = self.weight_decay is not None
        space = DecayedSpace if decays else ReducedSpace
        return space(start, coordinates=form, response=response)

    def _numbers(self, dtype: Any) -> tuple[Scalar, Scalar]:
        """The exponent and the relative width."""
        exponent = jnp.asarray(self.exponent, dtype)
        if self.width is None:
            below = exponent < 2
            # So that phi' at zero is at most 1 / WIDEST times its value at the scale.
            chosen = WIDEST ** (1 / jnp.where(below, 2 - exponent, 1))
            width = jnp.where(below, jnp.maximum(chosen, NARROWEST), 0)
        else:
            width = jnp.asarray(self.width, dtype)
        return exponent, jnp.maximum(width, float(jnp.finfo(dtype).eps))

    def _response(
        self, start: AbstractParameterization, loss: Loss, exponent: Scalar, width: Scalar
    ) -> Response:
        gradient = loss_gradient(loss, start.effective())
        pulled, inner = gradient, width
        if start.separable:
            # Derivatives of theta cross zero, and stay there only with ties, at |w| = 0.
            pulled, inner = jnp.ones_like(gradient), jnp.full_like(width, INNER)
        slopes = jax.tree.leaves(pull_back(start, pulled))
        return Response(
            effective=SmoothPower.of(exponent, width, gradient),
            weights=SmoothPower.of(exponent, inner, *slopes),
            normalized=self.normalized,
        )

    def default_solver(self, states, loss, *, reverse):
        # A smoothed sign is too stiff for a matrix-free method.
        structured = isinstance(loss, AbstractPredictionLoss) and states.structured
        if structured and not isinstance(states, FullSpace):
            return Rodas5P()
        return super().default_solver(states, loss, reverse=reverse)

    def trajectory(self, states, loss, saved):
        rows, duals, *total = saved.rows
        rows = (rows, *total) if total else rows
        record = SteepestRecord(
            exponent=states.response.effective.exponent,
            width=states.response.effective.width,
            inner_width=states.response.weights.width,
            decay=self._integrated_decay(saved.times, total),
        )
        return weight_trajectory(states, loss, saved, rows, duals, record)

    def _integrated_decay(self, times: Array, total: list[Array]) -> Float[Array, " T"]:
        decay = self.weight_decay
        if total:
            return total[0][:, 0]
        if decay is None:
            return jnp.zeros_like(times)
        return integrated_decay(decay, jnp.where(jnp.isfinite(times), times, 0))
