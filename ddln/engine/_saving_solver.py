"""The common part of solvers that save rows in their state."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, PyTree


class AbstractSavingSolver(diffrax.AbstractWrappedSolver):
    """Wraps a solver and, but for `init` and `step`, is like it."""

    solver: eqx.AbstractVar[diffrax.AbstractSolver]

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
    def root_finder(self):
        # diffrax passes the tolerances of the step size controller on to an implicit solver's.
        return self.solver.root_finder  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def scan_kind(self):
        # diffrax chooses the stage loop of a Runge-Kutta solver by the adjoint.
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    def order(self, terms):
        return self.solver.order(terms)

    def error_order(self, terms):
        return self.solver.error_order(terms)

    def strong_order(self, terms):
        return self.solver.strong_order(terms)

    def func(self, terms, t0, y0, args):
        return self.solver.func(terms, t0, y0, args)


def rows_like(state: PyTree[Array], places: Float[Array, " T"]) -> PyTree[Array]:
    """A row for each place, all with this state."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*places.shape, *leaf.shape)), state)


def with_scan(solver: diffrax.AbstractRungeKutta, kind: str) -> diffrax.AbstractRungeKutta:
    """A Runge-Kutta method with its loop over stages of this kind: "lax", or "bounded" for reverse mode."""
    return eqx.tree_at(lambda s: s.scan_kind, solver, kind, is_leaf=lambda leaf: leaf is None)


def inner_solver(solver: Any) -> Any:
    """The solver that a saving solver wraps, or the solver itself."""
    return solver.solver if isinstance(solver, AbstractSavingSolver) else solver


def reversible(solver: Any) -> Any:
    """An inner solver whose step can be differentiated in reverse mode."""
    return (
        with_scan(solver, "bounded") if isinstance(solver, diffrax.AbstractRungeKutta) else solver
    )
