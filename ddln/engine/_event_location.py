"""The time of an event within a step."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._types import Array, Float, Loss, PyTree, Scalar
from ddln.engine._dynamics import AbstractDynamics
from ddln.engine._saving_solver import inner_solver, reversible


def event_value(
    event: Callable,
    dynamics: AbstractDynamics,
    states: Any,
    loss: Loss,
    t: Scalar,
    state: PyTree[Array],
) -> Array:
    """`event(t, parameterization, loss)` in a state; a real number in the dtype of t."""
    value = jnp.asarray(event(t, dynamics.parameterization(states, state), loss))
    return value.astype(t.dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value


def is_real(
    event: Callable, dynamics: AbstractDynamics, states: Any, loss: Loss, state: PyTree[Array]
) -> bool:
    """Test whether an event is a number, whose zero is located, and not a truth value.

    Raises:
        ValueError: if it is not a scalar.
    """
    t = jnp.zeros((), jnp.result_type(*jax.tree.leaves(state)))
    value = eqx.filter_eval_shape(event_value, event, dynamics, states, loss, t, state)
    if value.shape != ():
        raise ValueError(
            f"Argument `event` must return a scalar, but it returns shape {value.shape}."
        )
    return jnp.issubdtype(value.dtype, jnp.floating)


def locate(
    value: Callable[[Scalar, PyTree[Array]], Scalar],
    term: diffrax.ODETerm,
    solver: diffrax.AbstractSolver,
    progress: Any,
    ts: Float[Array, " T"] | None,
    rows: PyTree[Array],
) -> tuple[Scalar, PyTree[Array], PyTree[Array]]:
    """The time and the state at which the event happens, and the rows saved before it.

    The step that crosses is made once more. On its dense output y(t) the root of c(t) = value(t, y(t)) is
    bracketed by its ends and found by bisection, to rounding; its derivative is the implicit one,
    dt = -dc / c'(t), so that it holds for every mode and order.

    Args:
        value: c, positive before the event.
        term: the term of the step.
        solver: the solver of the step.
        progress: a `StepperState`, which stands before the step if it is crossing.
        ts: the times to save at, if there are any.
        rows: the rows saved before the step.
    """
    crossing, t0, state = progress.crossing, progress.t, progress.state
    t1 = jnp.where(crossing, jax.lax.stop_gradient(progress.next_time), t0)
    inner = reversible(inner_solver(solver))
    solver_state = inner.init(term, t0, t1, state, None)
    _, _, dense, _, _ = inner.step(term, t0, t1, state, None, solver_state, made_jump=False)
    # Lanes without a crossing make a step of length zero, whose interpolation would be 0 / 0.
    far = jnp.where(t1 > t0, t1, t0 + 1)
    interpolation = inner.interpolation_cls(t0=t0, t1=far, **dense)

    def crossed(t):
        return jnp.where(crossing, value(t, interpolation.evaluate(t)), t1 - t)

    t = jax.lax.custom_root(
        crossed, t1, _bisected(t0), lambda slope, c: c / slope(jnp.ones_like(c))
    )
    t = jnp.where(crossing, t, t0)
    end = jax.tree.map(lambda a, b: jnp.where(crossing, a, b), interpolation.evaluate(t), state)
    if ts is not None:
        values = jax.vmap(interpolation.evaluate)(jnp.clip(ts, t0, t))
        due = crossing & (ts > t0) & (ts <= t)
        rows = where_rows(due, values, rows)
    return t, end, rows


def _bisected(lower: Scalar) -> Callable[[Callable, Scalar], Scalar]:
    """A root finder: bisection from `lower`, where the function is positive, to its argument."""

    def solve(function, upper):
        def halve(_, bracket):
            low, high = bracket
            middle = low + (high - low) / 2
            below = function(middle) <= 0
            return jnp.where(below, low, middle), jnp.where(below, middle, high)

        # Half of the bracket a trip, until it is a rounding error of its upper end.
        trips = jnp.finfo(upper.dtype).nmant + 4
        return jax.lax.fori_loop(0, trips, halve, (lower, upper))[1]

    return solve
