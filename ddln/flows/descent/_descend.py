"""Training in discrete time, by any optax optimizer."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Bool, Float, Int, Loss, PRNGKeyArray, PyTree, Theta
from ddln._validation import is_known
from ddln.engine import AbstractFixedSteps, PerLane, Saved, Solve
from ddln.engine.internal import check_model, check_start, in_dtype
from ddln.flows._trajectory import Trajectory, fixed_steps, weight_trajectory
from ddln.flows.descent._factors import TwoLayerFactors, no_factors
from ddln.flows.descent._iterate import AbstractStep, Iterates, iterate
from ddln.flows.descent._minibatches import Minibatches, batch_gradient
from ddln.flows.descent._step_arguments import (
    accepted,
    check_optimizer,
    check_randomness,
    check_steps,
    converted_update,
)
from ddln.flows.states._weights import FullSpace, startable
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import AbstractParameterization


def descend(
    parameterization: AbstractParameterization,
    loss: Loss,
    optimizer: Any,
    steps: int,
    *,
    key: PRNGKeyArray | None = None,
    batch_size: int | None = None,
    replacement: bool = False,
    label_noise: float | Float[Array, ""] | None = None,
    ts: Any = None,
    dual: bool = True,
    event: Callable | None = None,
    throw: bool = True,
) -> Trajectory:
    """Trains the weights w of theta = h(w) with an optax optimizer, for a number of steps.

    Step k = 0, 1, ... has the gradient g_k of the loss in theta, all samples or a mini-batch B of them,

        g_k = scale * (n / |B|) * sum_{i in B} l'(<x_i, theta_k>, y_i + label_noise * epsilon_ik) x_i,

    and gives J(w_k)^T g_k to the optimizer; epsilon is standard normal, new at each step. The mean
    of g_k over the batches is the gradient of all samples.

    The dual xi_K is what the same optimizer, with a state of its own, makes of the g_k: the sum of the
    updates it returns for them, given zeros as weights. For `optax.sgd`, with any schedule, this is
    xi_K = -sum_{k < K} gamma_k g_k, and the flow's xi(t) at t = sum_k gamma_k as the rates tend to
    zero; with momentum beta it is the sum of the averaged gradients, -gamma / (1 - beta) sum_k
    (1 - beta^(K - k)) g_k; weight decay adds nothing. These are in the range of X^T. An optimizer
    that is not linear (Adam, clipping) does to g_k what it does to any gradient.

    Differentiable in the weights, in the loss's arrays and in what the optimizer is made of, in
    reverse and forward mode; reverse mode keeps some hundred states, not all of them. The step at
    which an event stops the descent is a constant to it. To be used under `jax.jit` and `jax.vmap`,
    also with an optimizer that is made inside, of a traced learning rate. An optimizer is compiled
    once: outside of `jax.jit`, make it once and not in a loop.

    Example:
        >>> network = ddln.DeepDiagonal.zero_last(jnp.ones(50), depth=2, scale=0.1)
        >>> run = ddln.descend(network, ddln.LeastSquares(X, y), optax.sgd(0.01), 10_000)
        >>> run.theta[-1]
        >>> rates = jnp.geomspace(1e-3, 1e-1, 64)
        >>> end = lambda rate: ddln.descend(network, loss, optax.sgd(rate), 10_000, throw=False).loss[-1]
        >>> jax.jit(jax.vmap(end))(rates)

    Args:
        parameterization: the start; its inexact leaves are the weights w.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        optimizer: any optax optimizer, with schedules and chains. One that asks for the loss or its gradient
            (line searches, `optax.contrib.sophia`, `optax.contrib.sam` in opaque mode) needs all
            samples and `dual=False`.
        steps: the number of steps, at least 1.
        key: a JAX random key, for mini-batches and label noise.
        batch_size: the number of samples of a mini-batch, 1 to n; None takes all. Needs a
            `ddln.AbstractPredictionLoss`.
        replacement: False shuffles the samples at each epoch of ceil(n / batch_size) steps and uses
            each once, the last batch having what is left; True draws each sample independently.
        label_noise: the standard deviation of the noise on the targets, in their unit; None has none.
        ts: the numbers of steps after which to save, increasing, within [0, steps], shape [T]; None
            saves the end only.
        dual: False leaves out the dual and the record: for maps with many more entries of theta than
            weights, and for optimizers that cannot be given g_k alone (line searches, labels or masks
            for each leaf).
        event: stop at the first iterate where `event(k, parameterization, loss)` is zero, negative or
            True: `ddln.LossBelow`, `ddln.GradientNormBelow` or any function. It is evaluated at each
            step, with all samples.
        throw: True raises if the descent diverges or cannot start, also under `jax.jit`; False leaves
            the reason in `Trajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `ts` are numbers of steps. Where the descent ends before one of those asked
        for, the first row that was not reached has its last iterate and that one's number, and the
        rows after it are NaN. `result` is `RESULTS.successful`, `event_occurred`, `diverged`,
        `nonfinite_initialization`, `nonfinite_initial_loss` or `underflowing_initialization`;
        `stats["num_steps"]` the number of steps taken; `rtol` the rounding unit; `record` what
        `ddln.theory.gain` needs of two layers (`ddln.flows.TwoLayerFactors`), None for other maps.

    Raises:
        ValueError: for arguments that do not fit, before the descent.
        RuntimeError: if `throw=True` and the descent diverges or cannot start.

    Warns:
        UserWarning: if coordinates of a deep diagonal network never move (two layers are zero there).

    Source: "Discrete steps" in the documentation has the laws of these steps.
    """
    check_steps(steps, ts)
    dynamics = DescentDynamics(
        optimizer, key, batch_size, replacement=replacement, label_noise=label_noise, dual=dual
    )
    if throw:
        check_start(parameterization)
    run = dynamics.run(parameterization, loss, Solve(steps, ts, event=event))
    if throw:
        run = run.result.error_if(run, ~is_okay(run.result))
    return run


class DescentDynamics(AbstractFixedSteps):
    """Training in discrete time by an optax optimizer; the arguments are those of `ddln.descend`.

    In a sweep `t1` is the number of steps. Lane i has the key `jax.random.fold_in(key, i)`, or the i-th of
    `ddln.PerLane(keys)`; a step size of its own comes from `ddln.PerLane(lambda i: optax.sgd(rates[i]))`.

    Args:
        optimizer: any optax optimizer.
        key: a JAX random key, for mini-batches and label noise.
        batch_size: the number of samples of a mini-batch; None takes all.
        replacement: whether the samples of a batch are drawn independently.
        label_noise: the standard deviation of the noise on the targets.
        dual: whether the dual is recorded.
    """

    optimizer: Any
    key: Any = None
    batch_size: int | None = eqx.field(static=True, default=None)
    replacement: bool = eqx.field(static=True, kw_only=True, default=False)
    label_noise: Any = eqx.field(kw_only=True, default=None)
    dual: bool = eqx.field(static=True, kw_only=True, default=True)
    takes: ClassVar[tuple[str, ...]] = ("event",)

    def for_lane(self, index):
        if self.key is None or isinstance(self.key, PerLane):
            return self
        return eqx.tree_at(lambda d: d.key, self, jax.random.fold_in(self.key, index))

    def run(self, start, loss, solve):
        """The trajectory of `ddln.descend`.

        Args:
            start: a parameterization.
            loss: L(theta).
            solve: the settings, of which `t1` (the number of steps), `ts` and `event` count.

        Raises:
            ValueError: for arguments that do not fit.
        """
        self.check_settings(solve)
        if not is_known(solve.t1) or isinstance(solve.t1, PerLane):
            raise ValueError(
                "Argument `t1` must be one number of steps for a descent, the same for all lanes, but it "
                f"is {solve.t1}. Save at several steps with `ts`."
            )
        check_steps(solve.t1, solve.ts)
        dtype = check_model(start, loss).dtype
        check_randomness(loss, self.key, self.batch_size, self.label_noise)
        check_optimizer(self.optimizer, eqx.filter(start, eqx.is_inexact_array))
        return _descend(
            start,
            loss,
            self.optimizer,
            self.key,
            *in_dtype((self.label_noise, solve.ts, solve.event), dtype),
            steps=int(solve.t1),
            dual=self.dual,
            batch_size=self.batch_size,
            replacement=self.replacement,
        )


class _State(eqx.Module):
    weights: PyTree[Array]
    optimizer: PyTree[Array]
    dual: Theta | None
    dual_optimizer: PyTree[Array]
    epoch: Int[Array, "batches size"] | None
    factors: TwoLayerFactors | None


class _DescentStep(AbstractStep):
    """One step of an optimizer."""

    space: FullSpace
    loss: Loss
    optimizer: "_Optimizer"
    batches: Minibatches | None
    noise_key: PRNGKeyArray | None
    label_noise: Float[Array, ""] | None
    event: Callable | None

    def __call__(self, k, state):
        theta, pull_back = jax.vjp(lambda w: self.space.rebuild(w).effective(), state.weights)
        g, epoch = self._gradient(k, theta, state.epoch)
        (slopes,) = pull_back(g)
        updates, optimizer = self.optimizer.update(slopes, state.optimizer, state.weights)
        # A converted update returns constants of its state as numbers and truth values of Python.
        optimizer = jax.tree.map(jnp.asarray, optimizer)
        dual, dual_optimizer, factors = state.dual, state.dual_optimizer, state.factors
        if dual is not None and self.optimizer.dual_update is not None:
            move, dual_optimizer = self.optimizer.dual_update(g, dual_optimizer)
            dual_optimizer = jax.tree.map(jnp.asarray, dual_optimizer)
            dual = dual + move
            if factors is not None:
                factors = factors.after(move)
        return _State(
            weights=eqx.apply_updates(state.weights, updates),
            optimizer=optimizer,
            dual=dual,
            dual_optimizer=dual_optimizer,
            epoch=epoch,
            factors=factors,
        )

    def _gradient(
        self, k: Int[Array, ""], theta: Theta, epoch: Int[Array, "batches size"] | None
    ) -> tuple[Theta, Int[Array, "batches size"] | None]:
        """The gradient in theta that step k uses."""
        if self.batches is None and self.label_noise is None:
            return loss_gradient(self.loss, theta), epoch
        assert isinstance(self.loss, AbstractPredictionLoss)
        chosen = factors = noise = None
        if self.batches is not None:
            chosen, factors, epoch = self.batches.draw(k, epoch, theta.dtype)
        if self.label_noise is not None:
            assert self.noise_key is not None
            shape = self.loss.y.shape if chosen is None else chosen.shape
            normal = jax.random.normal(jax.random.fold_in(self.noise_key, k), shape, theta.dtype)
            noise = self.label_noise * normal
        return batch_gradient(self.loss, theta, chosen, factors, noise), epoch

    def is_finite(self, state):
        finite = jnp.isfinite(self.loss(self.space.rebuild(state.weights).effective()))
        for leaf in jax.tree.leaves(state.weights):
            finite = finite & jnp.all(jnp.isfinite(leaf))
        return finite

    def is_last(self, k, state):
        if self.event is None:
            return None
        weights = jax.lax.stop_gradient(state.weights)
        dtype = jax.tree.leaves(weights)[0].dtype
        value = self.event(k.astype(dtype), self.space.rebuild(weights), self.loss)
        return value if value.dtype == bool else value <= 0

    def saved(self, state):
        return state.weights, state.dual, state.factors


@eqx.filter_jit
def _descend(
    parameterization: AbstractParameterization,
    loss: Loss,
    optimizer: Any,
    key: PRNGKeyArray | None,
    label_noise: Float[Array, ""] | None,
    ts: Float[Array, " T"] | None,
    event: Callable | None,
    *,
    steps: int,
    dual: bool,
    batch_size: int | None,
    replacement: bool,
) -> Trajectory:
    space = FullSpace(parameterization)
    dtype = eqx.filter_eval_shape(lambda p: p.effective(), parameterization).dtype
    theta = parameterization.effective()
    can_start, refusal = startable(parameterization, theta, loss)
    # An optimizer sees the weights in their own tree, which its masks may name.
    start = (
        eqx.filter(parameterization, eqx.is_inexact_array),
        jnp.zeros_like(theta) if dual else None,
    )
    # A descent that cannot start runs on zeros.
    weights, start_of_dual = jax.tree.map(lambda leaf: jnp.where(can_start, leaf, 0), start)
    noise_key = batches = None
    if key is not None:
        batch_key, noise_key = jax.random.split(key)
        if batch_size is not None:
            batches = Minibatches(batch_key, loss.X.shape[0], batch_size, replacement)
    full = batches is None and label_noise is None
    converted, states = _converted(optimizer, space, loss, weights, start_of_dual, full)
    step = _DescentStep(space, loss, converted, batches, noise_key, label_noise, event)
    state = _State(
        weights=weights,
        optimizer=states[0],
        dual=start_of_dual,
        dual_optimizer=states[1],
        epoch=None if batches is None else batches.start(),
        factors=no_factors(parameterization) if dual else None,
    )
    run = iterate(step, state, steps, ts, can_start)
    times = row_times(ts, run.count.astype(dtype))
    reached = can_start & (times <= run.count.astype(dtype))
    weights, duals, factors = run.rows
    weights = where_rows(reached, weights, jax.tree.map(lambda leaf: leaf[None], start[0]))
    saved = Saved(
        times=jnp.where(reached, times, jnp.inf),
        rows=weights,
        reached=reached,
        result=outcome(run, can_start, refusal),
        stats=fixed_steps(run.count),
        rtol=jnp.asarray(jnp.finfo(dtype).eps, dtype),
        atol=jnp.zeros((), dtype),
        method="descend",
    )
    return weight_trajectory(space, loss, saved, weights, duals, saved.blank(factors))


def row_times(ts: Float[Array, " T"] | None, count: Float[Array, ""]) -> Float[Array, " T"]:
    """The steps of the rows: those asked for, then the last one taken, then inf."""
    if ts is None:
        return count[None]
    before = jnp.concatenate([jnp.full((1,), -1, ts.dtype), ts[:-1]])
    return jnp.where(ts <= count, ts, jnp.where(before < count, count, jnp.inf))


def outcome(run: Iterates, startable: Bool[Array, ""], refusal: RESULTS) -> RESULTS:
    """The result code of a descent."""
    result = RESULTS.where(
        run.stopped,
        RESULTS.promote(diffrax.RESULTS.event_occurred),
        RESULTS.promote(diffrax.RESULTS.successful),
    )
    result = RESULTS.where(run.diverged, RESULTS.diverged, result)
    return RESULTS.where(startable, result, refusal)


class _Optimizer(eqx.Module):
    """An optimizer with all that it closes over as leaves: a learning rate may be traced, and what a
    step depends on must be known to the rule of its derivative.
    """

    update: Callable
    dual_update: Callable | None


def _converted(
    optimizer: Any,
    space: FullSpace,
    loss: Loss,
    weights: PyTree[Array],
    dual: Theta | None,
    full: bool,
) -> tuple[_Optimizer, tuple[PyTree[Array], PyTree[Array]]]:
    """The optimizer, and its states for the weights and for the dual."""

    def value_of(w):
        return loss(space.rebuild(w).effective())

    def gradient_of(w, index=None):
        return jax.grad(value_of)(w)

    def update(slopes, state, w, **functions):
        # For line searches; for others it is not computed.
        more = {"value": value_of(w), "grad": slopes, "value_fn": value_of, **functions}
        return optimizer.update(slopes, state, w, **(accepted(optimizer, more) if full else {}))

    def dual_update(g, state):
        return optimizer.update(g, state, jnp.zeros_like(g))

    state = jax.tree.map(jnp.asarray, optimizer.init(weights))
    convert = functools.partial(converted_update, "gradients of the weights")
    try:
        for_weights = convert(update, weights, state, weights)
    except ValueError:
        # For estimates of the Hessian and for ascents; line searches refuse what they do not know.
        update = functools.partial(update, obj_fn=value_of, grad_fn=gradient_of)
        for_weights = convert(update, weights, state, weights)
    if dual is None:
        return _Optimizer(for_weights, None), (state, None)
    try:
        dual_state = jax.tree.map(jnp.asarray, optimizer.init(dual))
        for_dual = converted_update("gradients in theta", dual_update, dual, dual_state)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            "Argument `optimizer` must accept the gradient in theta for the dual, but it does not. "
            "Pass `dual=False`."
        ) from error
    return _Optimizer(for_weights, for_dual), (state, dual_state)
