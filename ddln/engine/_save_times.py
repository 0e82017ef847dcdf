"""Saving at given times, inside of the solver."""

import diffrax
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._types import Array, Float, PyTree
from ddln.engine._saving_solver import AbstractSavingSolver, rows_like


class SaveTimes(AbstractSavingSolver):
    """Wraps a solver so that its state carries the solution at given times.

    It does what `diffrax.SaveAt(ts=...)` does, with two differences that large sweeps need: it adds no
    check of its own to the program, so that the program has no host callback and can be exported, and
    the saved rows travel with the solver state, so that a solve can be stopped and resumed.

    Attributes:
        solver: the wrapped solver.
        ts: the times, increasing, shape [T].
    """

    solver: diffrax.AbstractSolver
    ts: Float[Array, " T"]

    def init(self, terms, t0, t1, y0, args):
        return self.solver.init(terms, t0, t1, y0, args), rows_like(y0, self.ts)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        inner_state, rows = solver_state
        y1, error, dense_info, inner_state, result = self.solver.step(
            terms, t0, t1, y0, args, inner_state, made_jump
        )
        # A finished lane takes steps of length zero, whose interpolation is 0 / 0.
        end = jnp.where(t1 > t0, t1, t0 + 1)
        interpolation = self.solver.interpolation_cls(t0=t0, t1=end, **dense_info)
        values = jax.vmap(interpolation.evaluate)(jnp.clip(self.ts, t0, end))
        due = (self.ts > t0) & (self.ts <= t1)
        return y1, error, dense_info, (inner_state, where_rows(due, values, rows)), result


def saved_rows(solution) -> PyTree[Array]:
    """The rows that a `SaveTimes` solver left in its state: of a solution, or of one under way."""
    _, rows = solution.solver_state
    return rows
