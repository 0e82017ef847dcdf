"""Sharpness-aware minimization in continuous time."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import pull_back
from ddln._types import Array, Float, Loss, PyTree, Scalar, Theta
from ddln._validation import require_option, require_positive
from ddln.engine import Solve, integrate
from ddln.engine.internal import check_model, check_start, known
from ddln.flows._gradient_flow import DENSE_JACOBIAN_LIMIT, AbstractFullDynamics
from ddln.flows._trajectory import Trajectory, weight_trajectory
from ddln.flows.states import AbstractStates, FullSpace
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.solvers import Rodas5P


def sam_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    radius: float | Float[Array, ""],
    norm: str = "l2",
    mode: str = "full",
    width: float | Float[Array, ""] = 1e-4,
    ts: Any = None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: float | Float[Array, ""] = 1e-6,
    atol: float | Float[Array, ""] = 1e-9,
    max_steps: int = 16384,
    adjoint: diffrax.AbstractAdjoint | None = None,
    event: Callable | None = None,
    dense: bool = False,
    throw: bool = True,
) -> Trajectory:
    """Integrates w' = -grad_w L(h(w~)) from time 0 to t1, with w~ the ascent of L from w by a radius rho:
    sharpness-aware minimization.

    With d = grad_w L(h(w)) the ascended point is w~ = w + rho d / |d| in the ball of the norm l2, and
    w + rho sign(d) in that of the largest entry. For theta = c u v the differences of squared layers
    shrink: with g and g~ the gradients in theta at w and at w~,

        d/dt log|u^2 - v^2| = -2 rho c^2 g g~ / |d|   for l2,   -2 rho |c| sign(g) g~ / (|u| + |v|)   else,

    whose integral is the gain of the flow. For l2 the flow ends where gradient flow from layers with
    these smaller gaps ends (`ddln.theory.effective_start`). Three and more layers have no such law.

    Directions have no derivative where d vanishes: |d| is smoothed to sqrt(|d|^2 + eps^2), and sign(d_j)
    likewise, with eps the `width` times its value at the start. So the flow can follow the minimizers.

    Example:
        >>> flow = ddln.sam_flow(network, loss, 10.0, radius=0.05)
        >>> ddln.theory.sam_gain(flow, loss).status
        'holds'

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        t1: the end of the integration, positive and finite.
        radius: rho, positive, in units of the weights.
        norm: "l2" or "linf", the norm of the ball.
        mode: "full" ascends the loss; "sample" ascends the loss of each sample by itself, and follows the
            sum of their gradients, the mean of steps with batches of one sample. Needs a loss of linear
            predictions.
        width: of the smoothing, relative to |d| (or the largest |d_j|) at the start, positive. Keep it ten
            times above `rtol`.
        ts: the times to save at, increasing, within [0, t1], shape [T]; None saves the end only.
        solver: any diffrax solver. None takes Rodas5P with a dense Jacobian up to 200 unknowns, theta and
            the gain included, and beyond them Tsit5.
        rtol: the relative tolerance.
        atol: the absolute tolerance, as in `ddln.gradient_flow`.
        max_steps: the most steps, accepted or not, before giving up.
        adjoint: as in `ddln.gradient_flow`.
        event: stop early, as in `ddln.gradient_flow`.
        dense: whether to keep dense output for `Trajectory.evaluate`.
        throw: True raises if the solve fails, also under `jax.jit`; False leaves the reason in
            `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory, in full coordinates. `dual` is -int g~ ds, `record` a `ddln.flows.SamRecord`. `result`
        is `RESULTS.successful`, `event_occurred`, `max_steps_reached`, `nonfinite_initialization`,
        `nonfinite_initial_loss` or another code of diffrax.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the solve fails.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: Foret et al. 2021 (the steps); "Other optimizers" in the documentation derives the gain.
    """
    dynamics = SamDynamics(radius, norm=norm, mode=mode, width=width)
    solve = Solve(t1, ts, rtol, atol, solver, adjoint, event, max_steps, dense).checked()
    if throw:
        check_start(parameterization)
    return integrate(dynamics, parameterization, loss, solve, throw=throw)


class SamRecord(eqx.Module):
    """The record of a sharpness-aware flow.

    Attributes:
        gain: -log|u^2 - v^2| relative to its start, by its law, of a `DeepDiagonal` with two layers, shape
            [T, d]; None for other maps.
        norm: "l2" or "linf".
    """

    gain: Float[Array, "T d"] | None
    norm: str = eqx.field(static=True)


class SamDynamics(AbstractFullDynamics):
    """Sharpness-aware flow w' = -grad_w L(h(w~)); the arguments are those of `ddln.sam_flow`.

    Args:
        radius: rho, positive.
        norm: "l2" or "linf".
        mode: "full" or "sample".
        width: of the smoothing of directions, relative to the gradient at the start.

    Raises:
        ValueError: if an argument is out of its range.
    """

    radius: Any
    width: Any
    norm: str = eqx.field(static=True)
    mode: str = eqx.field(static=True)

    def __init__(self, radius: Any, *, norm: str = "l2", mode: str = "full", width: Any = 1e-4):
        for name, value in (("radius", radius), ("width", width)):
            if (number := known(value)) is not None:
                require_positive(name, number)
        require_option("norm", norm, ("l2", "linf"))
        require_option("mode", mode, ("full", "sample"))
        self.radius, self.width, self.norm, self.mode = radius, width, norm, mode

    def states(self, start, loss):
        theta = check_model(start, loss)
        if self.mode == "sample" and not isinstance(loss, AbstractPredictionLoss):
            raise ValueError(
                "Argument `loss` must be a `ddln.AbstractPredictionLoss` for mode='sample', but it is a "
                f"{type(loss).__name__}: only a loss of samples has any to ascend."
            )
        slopes = pull_back(start, loss_gradient(loss, start.effective()))
        size = _size(slopes, self.norm)
        usable = jnp.isfinite(size) & (size > 0)
        least = jnp.where(usable, size, 1) * jnp.asarray(self.width, theta.dtype)
        return SamStates(FullSpace(start), least)

    def initial_state(self, states, loss):
        theta = eqx.filter_eval_shape(lambda p: p.effective(), states.initial)
        zero = jnp.zeros(theta.shape, theta.dtype)
        return states.start(), zero, zero if _has_gain(states.initial) else None

    def field(self, states, loss):
        return _Field(states, loss, self.radius, self.norm, self.mode)

    def default_solver(self, states, loss, *, reverse):
        unknowns = sum(leaf.size for leaf in jax.tree.leaves(states.start()))
        size = unknowns + 2 * states.initial.effective().size
        return Rodas5P() if size <= DENSE_JACOBIAN_LIMIT else diffrax.Tsit5()

    def trajectory(self, states, loss, saved):
        rows, duals, gain = saved.rows
        return weight_trajectory(states, loss, saved, rows, duals, SamRecord(gain, self.norm))


class SamStates(AbstractStates):
    """The weights, and the size at which the direction of a gradient is smoothed."""

    full: FullSpace
    least: Scalar

    @property
    def initial(self):
        return self.full.initial

    def start(self):
        return self.full.start()

    def rebuild(self, state):
        return self.full.rebuild(state)


def _has_gain(parameterization: AbstractParameterization) -> bool:
    return isinstance(parameterization, DeepDiagonal) and parameterization.depth == 2


def _size(tree: PyTree[Array], norm: str) -> Scalar:
    leaves = jax.tree.leaves(tree)
    if norm == "linf":
        return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]).max()
    total = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in leaves]).sum()
    # The root has no finite derivative at zero, of which a Jacobian would be NaN.
    return jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total)))


class _Field(eqx.Module):
    """The vector field of the state (weights, dual, gain)."""

    states: SamStates
    loss: Loss
    radius: Scalar
    norm: str = eqx.field(static=True)
    mode: str = eqx.field(static=True)

    def __call__(self, t, y, args):
        if self.mode == "full":
            return self._velocity(y, lambda theta: loss_gradient(self.loss, theta))
        loss: Any = self.loss

        def of_sample(x, target):
            def gradient(theta):
                prediction = jnp.sum(x * theta)
                return loss.scale * loss.pointwise_gradient(prediction, target) * x

            return self._velocity(y, gradient)

        each = jax.vmap(of_sample)(loss.X, loss.y)
        return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), each)

    def _velocity(self, y: Any, gradient: Callable[[Theta], Theta]) -> Any:
        """The velocity for one ascended loss."""
        weights, _, gain = y
        theta, vjp = jax.vjp(self.states.effective, weights)
        here = gradient(theta)
        (slopes,) = vjp(here)
        square = jnp.square(self.states.least)
        if self.norm == "l2":
            length = jnp.sqrt(jnp.square(_size(slopes, "l2")) + square)
            steps = jax.tree.map(lambda leaf: leaf / length, slopes)
        else:
            length = jnp.sqrt(square)
            steps = jax.tree.map(lambda leaf: leaf / jnp.sqrt(jnp.square(leaf) + square), slopes)
        moved = jax.tree.map(lambda w, step: w + self.radius * step, weights, steps)
        theta, vjp = jax.vjp(self.states.effective, moved)
        there = gradient(theta)
        (direction,) = vjp(there)
        if gain is not None:
            gain = self._gain(weights, here, there, length)
        return jax.tree.map(jnp.negative, direction), -there, gain

    def _gain(self, weights: Any, here: Theta, there: Theta, length: Scalar) -> Theta:
        """-d/dt log|u^2 - v^2|.

        With a = c g and phi the smoothed sign, the ascent in the largest entry has the rate
        2 rho c g~ (u phi(a u) - v phi(a v)) / (u^2 - v^2), written without a division by the gap.
        """
        factor = self.states.initial.factor  # pyright: ignore
        push, a = 2 * self.radius * factor * there, factor * here
        if self.norm == "l2":
            return push * a / length
        (layers,) = weights
        u2, v2 = jnp.square(layers)
        a2, w2 = jnp.square(a), jnp.square(length)
        first, second = jnp.sqrt(a2 * u2 + w2), jnp.sqrt(a2 * v2 + w2)
        top = a * (a2 * u2 * v2 + w2 * (u2 + v2))
        # Zero if both layers are.
        bottom = first * second * (u2 * second + v2 * first)
        return jnp.where(bottom == 0, 0, push * top / jnp.where(bottom == 0, 1, bottom))
