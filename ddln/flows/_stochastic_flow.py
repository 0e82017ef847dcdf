"""Stochastic gradient flow: stochastic gradient descent in continuous time."""

from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

from ddln._numerics import all_finite, where_rows
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Bool, Float, Loss
from ddln._validation import require_not_negative, require_option
from ddln.engine import AbstractFixedSteps, PerLane, Saved, Solve
from ddln.engine.internal import (
    BrownianSteps,
    SaveSteps,
    UnitSteps,
    check_model,
    check_start,
    forbid_forward,
    forbid_reverse,
    in_dtype,
    known,
)
from ddln.flows._noise import AbstractNoise
from ddln.flows._trajectory import Trajectory, fixed_steps, weight_trajectory
from ddln.flows.states._noisy import AbstractNoisyStates, LayerSpace, LogSpace, WeightSpace
from ddln.flows.states._weights import FullSpace, startable
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization, DeepDiagonal

# Steps are counted in the floating-point time of the solver: float32 holds no larger whole numbers.
MOST_STEPS = 2**24


class StochasticRecord(eqx.Module):
    """The record of a stochastic flow, for the laws of its path. Rows not reached hold zeros.

    Attributes:
        loss_integral: int_0^t L(theta(s)) ds, shape [T].
        shrinkage: gamma c^2 int_0^t C_ii prod_{l != j, k} (u^l)^2 ds, k the layer that is smallest at
            the start, for the other layers j in the order of `DeepDiagonal.canonical().permutation`,
            shape [T, L-1, d]: log|(u^j)^2 - (u^k)^2| falls by as much. None for other maps.
        error: what discretization adds to that fall: an estimate of the most, shape [T, L-1, d].
    """

    loss_integral: Float[Array, " T"]
    shrinkage: Float[Array, "T gaps d"] | None
    error: Float[Array, "T gaps d"] | None


def stochastic_flow(
    parameterization: AbstractParameterization,
    loss: Loss,
    t1: float | Float[Array, ""],
    *,
    key: Any,
    noise: AbstractNoise,
    step_size: float | Float[Array, ""],
    steps: int,
    ts: Any = None,
    coordinates: str = "auto",
    solver: diffrax.AbstractSolver | None = None,
    brownian_steps: int | None = None,
    adjoint: diffrax.AbstractAdjoint | None = None,
    throw: bool = True,
) -> Trajectory:
    """Integrates one path of stochastic gradient flow, an Ito equation, from time 0 to t1:

        dw = -J^T (grad L(theta) dt + sqrt(gamma) C(theta)^(1/2) dB),   theta = h(w).

    It models stochastic gradient descent with step gamma: k steps are the time t = gamma k. Its mean
    step and the covariance of a step are those of the descent, to first order in gamma. For many
    paths use `jax.vmap` over keys: memory does not grow with the number of steps.

    A deep diagonal network is integrated in logarithmic coordinates, in which the law of the gaps
    (`ddln.theory.stochastic_gap`) holds to rounding for every step of the solver. With two layers
    that is the exponentiated stochastic gradient: log|w_+-| moves by -+ c dZ - (c^2/2) gamma C_ii dt.

    Example (1000 paths of SGD with batches of one):
        >>> def end(key):
        ...     path = ddln.stochastic_flow(
        ...         network, loss, 100.0, key=key, noise=ddln.SampleNoise(), step_size=0.01, steps=10_000
        ...     )
        ...     return path.theta[-1]
        >>> ends = jax.vmap(end)(jax.random.split(jax.random.key(0), 1000))

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: a loss of linear predictions, `ddln.LeastSquares` for `IsotropicNoise` and `LabelNoise`.
        t1: the end of the integration, positive and finite.
        key: a JAX random key. Equal keys give equal paths.
        noise: the covariance C of one stochastic gradient: `ddln.SampleNoise` (exact for mini-batches),
            `ddln.IsotropicNoise` (the model of the literature), `ddln.LabelNoise`, or your own.
        step_size: gamma, the step of the descent, in units of time; 0 is gradient flow.
        steps: the number of equal steps of the solver, dt = t1 / steps. There is no error control:
            the error of a path falls like dt^(1/2), that of means like dt.
        ts: the times to save at, increasing, within [0, t1], shape [T]; rounded to the nearest whole
            step, which `Trajectory.ts` has. None saves the end only.
        coordinates: "reduced" for the logarithmic coordinates of a `DeepDiagonal`, "full" for the
            weights; "auto" takes "reduced" for a `DeepDiagonal`.
        solver: a diffrax solver for fixed steps and noise that does not commute; None is
            `diffrax.Euler`. The equation stays that of Ito: for a solver that converges to the
            Stratonovich solution, such as `diffrax.Heun`, half of sum_k (D g_k) g_k is taken from
            the drift, g_k the columns of the diffusion, at the cost of one derivative per column.
        brownian_steps: the number of steps of the Brownian path, a multiple of `steps`; None is
            `steps`. Runs with the same key and the same `brownian_steps` follow the same Brownian
            path, which separates the error of the solver from chance. Costs as many random numbers.
        adjoint: how to differentiate along a path: None is reverse mode with checkpoints
            (`diffrax.RecursiveCheckpointAdjoint`); pass `diffrax.ForwardMode()` for `jax.jvp`.
        throw: True raises if the path becomes infinite or NaN, also under `jax.jit`; False leaves the
            code in `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `dual` is the accumulated stochastic gradient, -int dZ with
        dZ = grad L dt + sqrt(gamma) C^(1/2) dB. `record` is a `StochasticRecord`: int L ds and the
        integrals of the law of the gaps. `result` is `RESULTS.successful`, `diverged` (then rows
        up to the last finite state are kept; with `ts=None` the row is that state),
        `nonfinite_initialization`, `nonfinite_initial_loss` or `underflowing_initialization`.

    Raises:
        ValueError: for arguments that do not fit, before the integration.
        RuntimeError: if `throw=True` and the path does not stay finite.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: Pesme et al. 2021, for theta = w_+^2 - w_-^2; the laws for every depth and
    every covariance are derived in the documentation, "Noise and momentum".
    """
    dynamics = StochasticDynamics(
        key, noise, step_size, steps, coordinates=coordinates, brownian_steps=brownian_steps
    )
    solve = Solve(t1, ts, solver=solver, adjoint=adjoint).checked()
    if throw:
        check_start(parameterization)
    path = dynamics.run(parameterization, loss, solve)
    if throw:
        path = path.result.error_if(path, ~is_okay(path.result))
    return path


class StochasticDynamics(AbstractFixedSteps):
    """Stochastic gradient flow dw = -J^T (grad L(theta) dt + sqrt(gamma) C(theta)^(1/2) dB).

    In a sweep lane i has the key `jax.random.fold_in(key, i)`, or the i-th of `ddln.PerLane(keys)`.

    Args:
        key: as in `ddln.stochastic_flow`, as the other arguments.
        noise: C.
        step_size: gamma.
        steps: the number of equal steps of the solver.
        coordinates: "reduced", "full" or "auto".
        brownian_steps: the number of steps of the Brownian path; None is `steps`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    key: Any
    noise: AbstractNoise
    step_size: Any
    steps: int = eqx.field(static=True)
    coordinates: str = eqx.field(static=True)
    refinement: int = eqx.field(static=True)
    takes: ClassVar[tuple[str, ...]] = ("solver", "adjoint")

    def __init__(
        self,
        key: Any,
        noise: AbstractNoise,
        step_size: Any,
        steps: int,
        *,
        coordinates: str = "auto",
        brownian_steps: int | None = None,
    ):
        if (value := known(step_size)) is not None:
            require_not_negative("step_size", value)
        if not isinstance(key, PerLane):
            _check_key(key)
        if not isinstance(noise, AbstractNoise):
            raise ValueError(
                f"Argument `noise` must be a noise such as `ddln.SampleNoise()`, but it is {noise!r}."
            )
        _check_steps(steps)
        require_option("coordinates", coordinates, ("auto", "reduced", "full"))
        self.key = key
        self.noise = noise
        self.step_size = step_size
        self.steps = steps
        self.coordinates = coordinates
        self.refinement = _refinement(steps, brownian_steps)

    def for_lane(self, index):
        if isinstance(self.key, PerLane):
            return self
        return eqx.tree_at(lambda d: d.key, self, jax.random.fold_in(self.key, index))

    def run(self, start, loss, solve):
        """The trajectory of `ddln.stochastic_flow`.

        Args:
            start: a parameterization.
            loss: a loss of linear predictions.
            solve: the settings, of which `t1`, `ts`, `solver` and `adjoint` count.

        Raises:
            ValueError: for arguments that do not fit.
        """
        self.check_settings(solve)
        if not isinstance(loss, AbstractPredictionLoss):
            raise ValueError(
                "Argument `loss` must be a `ddln.AbstractPredictionLoss`, whose samples make the noise, "
                f"but it is a {type(loss).__name__}."
            )
        self.noise.check(loss)
        dtype = check_model(start, loss).dtype
        solver = diffrax.Euler() if solve.solver is None else solve.solver
        _check_solver(solver)
        _require_coordinates(start, self.coordinates)
        adjoint = solve.adjoint
        step_size, t1, ts = in_dtype((self.step_size, solve.t1, solve.ts), dtype)
        free = start, loss, self.noise, step_size, t1, ts
        brownian = BrownianSteps(self.key, self.noise.channels(loss), dtype, self.refinement)  # pyright: ignore
        path = _integrate(
            *forbid_forward(adjoint, solver, free),
            brownian,
            solver,
            diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint,
            steps=self.steps,
            coordinates=self.coordinates,
        )
        return forbid_reverse(adjoint, solver, path)


class _Field(eqx.Module):
    """Drift and diffusion of the state (unknowns, accumulated gradient, int L), in steps of time dt."""

    states: AbstractNoisyStates
    loss: AbstractPredictionLoss
    noise: AbstractNoise
    step_size: Float[Array, ""]
    dt: Float[Array, ""]

    def drift(self, t, y, args):
        state, _, _ = y
        theta = self.states.effective(state)
        g = self.loss.gradient(theta)
        variance = self.step_size * self.noise.variance(self.loss, theta)
        rates = (self.states.drift(state, g, variance), -g, self.loss(theta))
        return jax.tree.map(lambda rate: self.dt * rate, rates)

    def diffuse(self, y, brownian):
        state, _, integral = y
        theta = self.states.effective(state)
        size = jnp.sqrt(self.step_size * self.dt)
        noise = size * self.noise.increment(self.loss, theta, brownian)
        return self.states.move(state, noise), -noise, jnp.zeros_like(integral)

    def diffusion(self, t, y, args):
        like = jax.ShapeDtypeStruct((self.noise.channels(self.loss),), self.dt.dtype)
        return lx.FunctionLinearOperator(lambda brownian: self.diffuse(y, brownian), like)

    def stratonovich_drift(self, t, y, args):
        """The drift with which a Stratonovich equation has the solution of the Ito equation."""

        def correction(brownian):
            column = self.diffuse(y, brownian)
            return jax.jvp(lambda point: self.diffuse(point, brownian), (y,), (column,))[1]

        columns = jnp.eye(self.noise.channels(self.loss), dtype=self.dt.dtype)
        return jax.tree.map(
            lambda drift, terms: drift - jnp.sum(terms, axis=0) / 2,
            self.drift(t, y, args),
            jax.vmap(correction)(columns),
        )

    def finite(self, y) -> Bool[Array, ""]:
        theta = self.states.effective(y[0])
        return all_finite((y, theta, self.loss(theta)))


@eqx.filter_jit
def _integrate(
    initial: AbstractParameterization,
    loss: AbstractPredictionLoss,
    noise: AbstractNoise,
    step_size: Float[Array, ""],
    t1: Float[Array, ""],
    ts: Float[Array, " T"] | None,
    brownian: BrownianSteps,
    solver: diffrax.AbstractSolver,
    adjoint: diffrax.AbstractAdjoint,
    *,
    steps: int,
    coordinates: str,
) -> Trajectory:
    states = _states(initial, coordinates)
    last = jnp.full_like(t1, steps)
    indices = last[None] if ts is None else jnp.round(ts / t1 * steps)
    can_start, refusal = startable(initial, initial.effective(), loss)
    unknowns = states.start()
    zero = jnp.zeros_like(states.effective(unknowns))
    first = unknowns, zero, jnp.zeros_like(t1)
    field = _Field(states, loss, noise, step_size, t1 / steps)
    ito = isinstance(solver, diffrax.AbstractItoSolver)
    solution = diffrax.diffeqsolve(
        diffrax.MultiTerm(
            diffrax.ODETerm(field.drift if ito else field.stratonovich_drift),
            diffrax.ControlTerm(field.diffusion, brownian),
        ),
        SaveSteps(solver, indices, field.finite),
        jnp.zeros_like(t1),
        # A path that cannot start runs on zeros, for no time.
        jnp.where(can_start, last, 0),
        None,
        jax.tree.map(lambda leaf: jnp.where(can_start, leaf, 0), first),
        saveat=diffrax.SaveAt(t1=True, solver_state=True),
        stepsize_controller=UnitSteps(),
        adjoint=adjoint,
        max_steps=steps,
        throw=False,
    )
    _, rows, done = solution.solver_state  # pyright: ignore[reportGeneralTypeIssues]
    if ts is None:
        indices, rows = done[None], solution.ys
    result = RESULTS.promote(solution.result)
    result = RESULTS.where(can_start & (done < last), RESULTS.diverged, result)
    reached = can_start & (indices <= done)
    rows = where_rows(reached, rows, jax.tree.map(lambda leaf: leaf[None], first))
    saved = Saved(
        times=jnp.where(reached, t1 * (indices / steps), jnp.inf),
        rows=rows,
        reached=reached,
        result=RESULTS.where(can_start, result, refusal),
        stats=fixed_steps(done.astype(int)),
        rtol=jnp.zeros_like(t1),
        atol=jnp.zeros_like(t1),
        method=f"{_name(states)}, {type(solver).__name__}",
    )
    unknowns, duals, loss_integral = rows
    shrinkage, error = states.shrinkage(unknowns, t1 / steps)
    record = StochasticRecord(loss_integral, shrinkage, jax.lax.stop_gradient(error))
    weights = jax.vmap(lambda row: eqx.filter(states.rebuild(row), eqx.is_inexact_array))(unknowns)
    return weight_trajectory(FullSpace(initial), loss, saved, weights, duals, record)


def _require_coordinates(parameterization: AbstractParameterization, coordinates: str) -> None:
    if coordinates == "reduced" and not isinstance(parameterization, DeepDiagonal):
        raise ValueError(
            "Argument `coordinates` must be 'full' or 'auto' for "
            f"{type(parameterization).__name__}, but it is 'reduced'."
        )


def _states(parameterization: AbstractParameterization, coordinates: str) -> AbstractNoisyStates:
    if not isinstance(parameterization, DeepDiagonal):
        return WeightSpace(FullSpace(parameterization))
    kind = LayerSpace if coordinates == "full" else LogSpace
    return kind(parameterization, parameterization.canonical())


def _name(states: AbstractNoisyStates) -> str:
    return "reduced" if isinstance(states, LogSpace) else "full"


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"Argument `steps` must be from 1 to {MOST_STEPS}, but it is {steps}.")


def _refinement(steps: int, brownian_steps: int | None) -> int:
    if brownian_steps is None:
        return 1
    if brownian_steps < 1 or brownian_steps % steps:
        raise ValueError(
            f"Argument `brownian_steps` must be a multiple of `steps` = {steps}, "
            f"but it is {brownian_steps}."
        )
    return brownian_steps // steps


def _check_key(key: Any) -> None:
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = getattr(key, "dtype", None) == np.uint32 and getattr(key, "shape", None) == (2,)
    if not raw and not (typed and key.shape == ()):
        raise ValueError(
            "Argument `key` must be one JAX random key, such as `jax.random.key(0)`, but it is "
            f"{getattr(key, 'aval', None) or repr(key)}. For many paths use `jax.vmap` over keys."
        )


def _check_solver(solver: diffrax.AbstractSolver) -> None:
    kinds = (diffrax.AbstractItoSolver, diffrax.AbstractStratonovichSolver)
    # The first family needs Levy areas; Milstein's methods need noise that commutes, or are no better.
    excluded = (diffrax.AbstractSRK, diffrax.ItoMilstein, diffrax.StratonovichMilstein)
    if not isinstance(solver, kinds) or isinstance(solver, excluded):
        raise ValueError(
            "Argument `solver` must be a diffrax solver for noise that does not commute, without Levy "
            "areas, such as `diffrax.Euler()` or `diffrax.Heun()`, but it is "
            f"{type(solver).__name__}."
        )
