"""Saving after given numbers of steps, and stopping where a path is no longer finite."""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, PyTree


class SaveSteps(diffrax.AbstractWrappedSolver):
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

    @property
    def term_structure(self):
        return self.solver.term_structure

    @property
    def interpolation_cls(self):
        return self.solver.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self):
        return self.solver.term_compatible_contr_kwargs

    @property
    def scan_kind(self):
        # diffrax chooses the stage loop of a Runge-Kutta solver by the adjoint.
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    def order(self, terms):
        return self.solver.order(terms)

    def strong_order(self, terms):
        return self.solver.strong_order(terms)

    def func(self, terms, t0, y0, args):
        return self.solver.func(terms, t0, y0, args)

    def init(self, terms, t0, t1, y0, args):
        rows = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*self.indices.shape, *leaf.shape)), y0
        )
        return self.solver.init(terms, t0, t1, y0, args), rows, jnp.zeros_like(t0)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        inner_state, rows, last = solver_state
        y1, error, dense_info, inner_state, result = self.solver.step(
            terms, t0, t1, y0, args, inner_state, made_jump
        )
        finite = self.finite(y1)
        y1 = jax.tree.map(lambda new, old: jnp.where(finite, new, old), y1, y0)
        due = finite & (self.indices == t1)
        rows = jax.tree.map(
            lambda row, leaf: jnp.where(due.reshape(due.shape + (1,) * leaf.ndim), leaf[None], row),
            rows,
            y1,
        )
        result = diffrax.RESULTS.where(finite, result, diffrax.RESULTS.internal_error)
        return y1, error, dense_info, (inner_state, rows, jnp.where(finite, t1, last)), result
