"""Saving after given numbers of steps, and stopping where a path is no longer finite."""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._types import Array, Bool, Float, PyTree
from ddln.engine._saving_solver import AbstractSavingSolver, rows_like


class SaveSteps(AbstractSavingSolver):
    """Wraps a solver with unit steps so that its state carries the rows to be saved.

    A step to a state that is not finite is not taken: the solve ends with the state before it.

    Attributes:
        solver: the wrapped solver.
        indices: after how many steps to save, shape [T].
        finite: whether a state is.
    """

    solver: diffrax.AbstractSolver
    indices: Float[Array, " T"]
    finite: Callable[[PyTree[Array]], Bool[Array, ""]]

    def init(self, terms, t0, t1, y0, args):
        rows = rows_like(y0, self.indices)
        return self.solver.init(terms, t0, t1, y0, args), rows, jnp.zeros_like(t0)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        inner_state, rows, last = solver_state
        y1, error, dense_info, inner_state, result = self.solver.step(
            terms, t0, t1, y0, args, inner_state, made_jump
        )
        finite = self.finite(y1)
        y1 = jax.tree.map(lambda new, old: jnp.where(finite, new, old), y1, y0)
        due = finite & (self.indices == t1)
        rows = where_rows(due, jax.tree.map(lambda leaf: leaf[None], y1), rows)
        result = diffrax.RESULTS.where(finite, result, diffrax.RESULTS.internal_error)
        return y1, error, dense_info, (inner_state, rows, jnp.where(finite, t1, last)), result
