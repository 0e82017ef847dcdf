"""One task after another from the same weights."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS, is_okay
from ddln._types import Array, Float, Loss
from ddln.engine.internal import check_model
from ddln.flows import gradient_flow
from ddln.limits._limit import limit
from ddln.parameterizations import AbstractParameterization


class TaskSequence(eqx.Module):
    """The weights and losses of K tasks that were trained one after another.

    Attributes:
        starts: the weights from which each task was trained, K parameterizations.
        ends: the weights at the end of each task, K parameterizations.
        theta: theta at the end of each task, shape [K, *theta].
        losses: row 0 has the loss of each task at the start, row k + 1 that after task k, shape [K+1, K].
        transferred: the loss of each task at the start of its own training, shape [K].
        result: a `ddln.RESULTS` code, of the first task that was not solved.
    """

    starts: tuple[AbstractParameterization, ...]
    ends: tuple[AbstractParameterization, ...]
    theta: Float[Array, "K *theta"]
    losses: Float[Array, "rows K"]
    transferred: Float[Array, " K"]
    result: RESULTS

    @property
    def forgetting(self) -> Float[Array, " K"]:
        """The rise of the loss of each task from the end of its training to the end of the sequence."""
        own = jnp.diagonal(self.losses[1:])
        return self.losses[-1] - own


def train_sequence(
    start: AbstractParameterization,
    tasks: Sequence[Loss],
    *,
    between: Callable[[AbstractParameterization, int], AbstractParameterization] | None = None,
    t1: float | Float[Array, ""] = math.inf,
    throw: bool = True,
    **settings: Any,
) -> TaskSequence:
    """Train one task after another by gradient flow, each from the weights that the last one left.

    theta alone does not say where the next task ends: the weights do, by their potential. Along a flow
    of a `DeepDiagonal` the gaps u_j^2 - u_k^2 stay, so that pretraining moves the point theta_0 at which
    the next potential is least, and what `between` does to the layers changes the gaps: the scale of
    the next task, rich or lazy. To be used under `jax.jit`, `jax.vmap` and `jax.grad`.

    Example (pretraining, then one layer drawn anew):
        >>> def redraw(network, number):
        ...     layer = 0.1 * jax.random.normal(jax.random.key(number), (50,))
        ...     return eqx.tree_at(lambda p: p.layers, network, network.layers.at[-1].set(layer))
        >>> run = ddln.train_sequence(network, [source, target], between=redraw)
        >>> run.theta[-1], run.forgetting

    Args:
        start: the weights before the first task.
        tasks: the losses, in order; all of the same theta.
        between: the weights with which task number k >= 1 starts, as a function of those that the task
            before it left and of k; None keeps them. `jax.tree.map` rescales, `equinox.tree_at` replaces.
        t1: the time of each task; inf takes the limits of `ddln.limit`, for least squares.
        throw: True raises if a task is not solved; False leaves the reason in `TaskSequence.result`.
        **settings: the other settings of `ddln.limit` or of `ddln.gradient_flow`.

    Returns:
        The weights at both ends of each task, and the loss of every task at each end.

    Raises:
        ValueError: if there is no task, a task does not fit the parameterization, or `between` does not
            return the same map.
        RuntimeError: if `throw=True` and a task is not solved.
    """
    tasks = tuple(tasks)
    if not tasks:
        raise ValueError("Argument `tasks` must have at least one loss.")
    for number, task in enumerate(tasks):
        try:
            check_model(start, task)
        except ValueError as error:
            raise ValueError(
                f"Argument `tasks` must have losses of one theta, but task {number} does not fit: {error}"
            ) from error
    limits = isinstance(t1, float | int) and math.isinf(t1)
    starts, ends, results, now = [], [], [], start
    for number, task in enumerate(tasks):
        if number and between is not None:
            now = _changed(between, now, number)
        starts.append(now)
        if limits:
            end = limit(now, task, throw=throw, **settings)
            now, result = end.parameterization, end.result
        else:
            flow = gradient_flow(now, task, t1, throw=throw, **settings)
            now, result = flow.final, flow.result
        ends.append(now)
        results.append(result)
    first = results[-1]
    for result in results[-2::-1]:
        first = RESULTS.where(is_okay(result), first, result)
    rows = [jnp.stack([task(one.effective()) for task in tasks]) for one in (start, *ends)]
    return TaskSequence(
        starts=tuple(starts),
        ends=tuple(ends),
        theta=jnp.stack([one.effective() for one in ends]),
        losses=jnp.stack(rows),
        transferred=jnp.stack(
            [task(one.effective()) for task, one in zip(tasks, starts, strict=True)]
        ),
        result=first,
    )


def _changed(
    between: Callable, before: AbstractParameterization, number: int
) -> AbstractParameterization:
    """The weights after a change, checked to be weights of the same map."""
    after = between(before, number)
    if jax.tree.structure(after) != jax.tree.structure(before) or any(
        new.shape != old.shape or new.dtype != old.dtype
        for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
    ):
        raise ValueError(
            "Argument `between` must return a parameterization of the same class, shapes and dtypes, but "
            f"before task {number} it returns another. Replace leaves by `equinox.tree_at`."
        )
    return after
