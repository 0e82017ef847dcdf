"""Mirror descent on any potential, in discrete time."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._results import is_okay
from ddln._types import Array, Float, Loss, Theta
from ddln._validation import require_positive
from ddln.engine.internal import check_loss
from ddln.flows._mirror_flow import MirrorTrajectory, mirror_startable, require_potential
from ddln.flows._trajectory import fixed_steps
from ddln.flows.descent._descend import outcome, row_times
from ddln.flows.descent._iterate import AbstractStep, iterate
from ddln.flows.descent._step_arguments import check_steps
from ddln.losses import loss_gradient
from ddln.potentials import AbstractPotential


def mirror_descent(
    potential: AbstractPotential,
    loss: Loss,
    step_size: float | Float[Array, ""],
    steps: int,
    *,
    ts: Any = None,
    throw: bool = True,
) -> MirrorTrajectory:
    """Mirror descent: grad Q(theta_{k+1}) = grad Q(theta_k) - gamma grad L(theta_k).

    It starts at theta_0, where Q and its gradient vanish, and is carried out in the dual variable,

        xi_{k+1} = xi_k - gamma grad L(theta_k),    theta_k = grad Q*(xi_k),

    so that no step leaves the domain of theta. On an `EntropyPotential` this is the exponentiated
    gradient step theta_{k+1} = theta_k exp(-rate gamma g_k). As gamma tends to zero, at a fixed time
    gamma k, it tends to `ddln.mirror_flow` with an error of order gamma, and so does gradient descent
    on the weights of a parameterization that Q is the potential of; the two differ by that order.

    Differentiable in the arrays of the potential and of the loss, and in `step_size`, in reverse and
    forward mode; to be used under `jax.jit` and `jax.vmap`.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=2, dim=50, scale=0.1)
        >>> run = ddln.mirror_descent(ddln.potential(network), ddln.LeastSquares(X, y), 0.01, 1000)
        >>> run.theta[-1]

    Args:
        potential: Q; `ddln.potential` gives that of a parameterization.
        loss: L(theta), a `ddln` loss or any function of theta to a scalar.
        step_size: gamma, positive; may be traced.
        steps: the number of steps, at least 1.
        ts: the numbers of steps after which to save, increasing, within [0, steps], shape [T]; None
            saves the end only.
        throw: True raises if the descent diverges or cannot start, also under `jax.jit`; False leaves
            the reason in `MirrorTrajectory.result`, and no host callback in the program.

    Returns:
        The trajectory. `ts` are numbers of steps, and the dual is xi_k = -gamma sum_{j < k} g_j. Where
        the descent ends before one of the steps asked for, the first row that was not reached has
        its last iterate and that one's number, and the rows after it are NaN. `result` is
        `RESULTS.successful`, `diverged` (also where xi leaves its domain, `potential.dual_domain`),
        `nonfinite_initialization` or `nonfinite_initial_loss`.

    Raises:
        ValueError: for arguments that do not fit, before the descent.
        RuntimeError: if `throw=True` and the descent diverges or cannot start.

    Source: Beck and Teboulle 2003.
    """
    require_potential(potential)
    require_positive("step_size", step_size)
    check_steps(steps, ts)
    theta = eqx.filter_eval_shape(lambda q: q.start, potential)
    check_loss(loss, theta, "potential")
    run = _mirror_descent(
        potential,
        loss,
        jnp.asarray(step_size, theta.dtype),
        None if ts is None else jnp.asarray(ts, theta.dtype),
        steps=int(steps),
    )
    if throw:
        run = run.result.error_if(run, ~is_okay(run.result))
    return run


class _MirrorStep(AbstractStep):
    """xi' = xi - gamma grad L(theta)."""

    potential: AbstractPotential
    loss: Loss
    step_size: Float[Array, ""]

    def __call__(self, k, state):
        theta, xi = state
        xi = xi - self.step_size * loss_gradient(self.loss, theta)
        return self.potential.inverse_mirror_map(xi), xi

    def is_finite(self, state):
        theta, _ = state
        return jnp.all(jnp.isfinite(theta)) & jnp.isfinite(self.loss(theta))

    def is_last(self, k, state):
        return None

    def saved(self, state):
        return state


@eqx.filter_jit
def _mirror_descent(
    potential: AbstractPotential,
    loss: Loss,
    step_size: Float[Array, ""],
    ts: Float[Array, " T"] | None,
    *,
    steps: int,
) -> MirrorTrajectory:
    startable, refusal = mirror_startable(potential, loss)
    start: Theta = jnp.where(startable, potential.start, 0)
    step = _MirrorStep(potential, loss, step_size)
    run = iterate(step, (start, jnp.zeros_like(start)), steps, ts, startable)
    theta, dual = run.rows
    times = row_times(ts, run.count.astype(start.dtype))
    reached = startable & jnp.isfinite(times)
    return MirrorTrajectory(
        potential=potential,
        ts=jnp.where(reached, times, jnp.inf),
        theta=where_rows(reached, theta, jnp.nan),
        loss=where_rows(reached, jax.vmap(loss)(theta), jnp.nan),
        dual=where_rows(reached, dual, jnp.nan),
        result=outcome(run, startable, refusal),
        stats=fixed_steps(run.count),
        rtol=jnp.finfo(start.dtype).eps * jnp.ones_like(step_size),
        atol=jnp.zeros_like(step_size),
        method="mirror descent",
    )
