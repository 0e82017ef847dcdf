"""Rosenbrock methods as diffrax solvers."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import ArrayLike, PyTree

from ddln._types import Array, Bool
from ddln.solvers._diagonal_plus_low_rank import DiagonalPlusLowRank, Woodbury
from ddln.solvers._reverse_solve import factorized, solved
from ddln.solvers._structure import AbstractStructuredField, AbstractStructuredOperator, Time
from ddln.solvers._tableau import RosenbrockTableau


class RosenbrockInterpolation(diffrax.AbstractLocalInterpolation):
    """Dense output of a Rosenbrock step: `RosenbrockTableau` has the formula."""

    t0: Time
    t1: Time
    y0: PyTree[Array]
    y1: PyTree[Array]
    coefficients: PyTree[Array]

    def evaluate(self, t0, t1=None, left=True):
        del left
        if t1 is not None:
            return jax.tree.map(jnp.subtract, self.evaluate(t1), self.evaluate(t0))
        length = jnp.subtract(self.t1, self.t0)
        x = jnp.where(length == 0, 0, t0 - self.t0) / jnp.where(length == 0, 1, length)

        def at(y0, y1, coefficients):
            s = x.astype(y0.dtype)
            bend = jnp.polyval(coefficients[::-1], s)
            return (1 - s) * y0 + s * (y1 + (1 - s) * bend)

        return jax.tree.map(at, self.y0, self.y1, self.coefficients)


class AbstractRosenbrock(diffrax.AbstractAdaptiveSolver):
    """A Rosenbrock method: linearly implicit, so one factorization a step and no iteration.

    Subclasses give the `tableau`. The Jacobian is that of an `AbstractStructuredField`, for any
    other vector field a dense one by forward-mode differentiation. A step whose linear system
    cannot be solved has an infinite error estimate (an adaptive controller shrinks it) and the
    result code `RESULTS.singular` (the outcome if the controller keeps it).

    Attributes:
        reverse: whether steps are differentiated in reverse mode alone, which then takes fewer products
            with a structured Jacobian. Forward mode is an error. `gradient_flow` sets it where it can.
    """

    tableau: eqx.AbstractClassVar[RosenbrockTableau]
    reverse: bool = eqx.field(default=False, static=True, kw_only=True)

    term_structure: ClassVar = diffrax.ODETerm
    interpolation_cls: ClassVar = RosenbrockInterpolation

    def order(self, terms):
        return self.tableau.order

    def init(self, terms, t0, t1, y0, args):
        return None

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del made_jump
        tableau = self.tableau
        # The signed step of the original time; t0 and t1 always increase.
        control = jnp.asarray(terms.contr(t0, t1))
        field, time = _vector_field(terms, t0)
        value, jacobian = _with_jacobian(field, time, y0, args)
        operator = _shifted(jacobian, self._scale(control, y0))
        if self.reverse and isinstance(operator, DiagonalPlusLowRank):
            state = factorized(operator, solver_state)
            # Traced once, for all stages.
            solve, okay = functools.partial(jax.jit(solved), operator, state), state.okay
        else:
            if solver_state is not None:
                assert isinstance(operator, DiagonalPlusLowRank)
                solver_state = Woodbury().core(operator)
            solve, okay = _solve(operator, solver_state)

        # Traced once, for all stages but the first, which is at t0 and y0.
        @jax.jit
        def velocity(t, y):
            return terms.vf_prod(t, y, args, control)

        if isinstance(field, AbstractStructuredField) and field.autonomous:
            drift = None
        else:
            t0 = jnp.asarray(t0, jnp.result_type(control))
            _, drift = jax.jvp(lambda t: velocity(t, y0), (t0,), (t1 - t0,))

        ks = []
        for i, node in enumerate(tableau.nodes):
            if i == 0:
                slope = terms.prod(value, control)
            else:
                slope = velocity(t0 + node * (t1 - t0), _combine(tableau.stages[i], ks, y0))
            slope = _combine(tableau.couplings[i], ks, slope)
            if drift is not None:
                slope = _combine((tableau.time[i],), [drift], slope)
            ks.append(solve(jax.tree.map(lambda leaf: tableau.gamma * leaf, slope)))

        y1 = _combine(tableau.weights, ks, y0)
        zero = jax.tree.map(jnp.zeros_like, y0)
        error = _combine(tableau.error, ks, zero)
        # Every stage enters the last one, so an overflow anywhere shows here.
        for leaf in jax.tree.leaves(ks[-1]):
            okay = okay & jnp.all(jnp.isfinite(leaf))
        # Only the estimate is spoilt: its cotangent is zero, so the reverse pass stays finite.
        error = jax.tree.map(lambda leaf: jnp.where(okay, leaf, jnp.inf), error)
        dense = [_combine(row, ks, zero) for row in tableau.dense]
        coefficients = jax.tree.map(lambda *rows: jnp.stack(rows), *dense)
        codes = diffrax.RESULTS
        result = codes.where(okay, codes.successful, codes.singular)  # pyright: ignore
        return y1, error, dict(y0=y0, y1=y1, coefficients=coefficients), solver_state, result

    def core(self, terms, t0, t1, y0, args) -> Array | None:
        """The largest part of the work of a step, which it takes as its `solver_state` in reverse mode.

        Other steps return it in place of another one. None if the Jacobian has no structure.
        """
        field, time = _vector_field(terms, t0)
        _, jacobian = _with_jacobian(field, time, y0, args)
        operator = _shifted(jacobian, self._scale(jnp.asarray(terms.contr(t0, t1)), y0))
        return Woodbury().core(operator) if isinstance(operator, DiagonalPlusLowRank) else None

    def _scale(self, control: Array, y0: PyTree) -> Array:
        return control.astype(jnp.result_type(*jax.tree.leaves(y0))) * self.tableau.gamma


def _vector_field(term: Any, t: Any) -> tuple[Callable, Any]:
    """The vector field of a term and the time it is to be called with."""
    if isinstance(term, diffrax.ODETerm):
        return term.vector_field, t
    # `diffrax.diffeqsolve` wraps terms such that time increases.
    return _vector_field(term.term, t * term.direction)


def _with_jacobian(
    field: Callable, t: Any, y: PyTree, args: Any
) -> tuple[PyTree, lx.AbstractLinearOperator]:
    """The vector field in the dtypes of the state, and its Jacobian."""
    if isinstance(field, AbstractStructuredField):
        value, jacobian = field.with_jacobian(t, y, args)
        return jax.tree.map(lambda f, leaf: f.astype(leaf.dtype), value, y), jacobian
    # The term's own `vf` casts to the dtypes of the state.
    matrix, value = jax.jacfwd(
        lambda y: (diffrax.ODETerm(field).vf(t, y, args),) * 2, has_aux=True
    )(y)
    return value, lx.PyTreeLinearOperator(matrix, jax.eval_shape(lambda: y))


def _shifted(jacobian: lx.AbstractLinearOperator, scale: Array) -> lx.AbstractLinearOperator:
    """I - scale * J."""
    if isinstance(jacobian, AbstractStructuredOperator):
        return jacobian.identity_minus(scale)
    # Not `lx.IdentityLinearOperator`, whose diagonal has the default dtype.
    return lx.DiagonalLinearOperator(_full(jacobian, 1)) - jacobian * scale


def _solve(
    operator: lx.AbstractLinearOperator, core: Array | None
) -> tuple[Callable[[PyTree], PyTree], Bool[ArrayLike, ""]]:
    """The map from r to the solution k of A k = r, and whether it is usable; the core of A may be known."""
    structured = isinstance(operator, AbstractStructuredOperator)
    solver: Any = operator.solver() if structured else lx.AutoLinearSolver(well_posed=True)
    values, rest = eqx.partition(operator, eqx.is_array)
    fixed = eqx.combine(jax.lax.stop_gradient(values), rest)
    if core is not None:
        core = jax.lax.stop_gradient(core)
    state = solver.init(fixed, {}) if core is None else solver.checked(fixed, core)
    transposed = solver.transpose(state, {})

    @jax.jit
    def solve(vector):
        # The implicit derivative of `lineax.linear_solve` raises from a host callback where a solve
        # fails, but a failed step is only to be rejected.
        return jax.lax.custom_linear_solve(
            operator.mv,
            vector,
            lambda _, vector: solver.compute(state, vector, {})[0],
            lambda _, vector: solver.compute(transposed[0], vector, transposed[1])[0],
        )

    _, result, _ = solver.compute(state, _full(operator, 0), {})
    return solve, result == lx.RESULTS.successful


def _full(operator: lx.AbstractLinearOperator, value: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), operator.in_structure())


def _combine(coefficients: tuple[float, ...], terms: list[PyTree], start: PyTree) -> PyTree:
    """start + sum_i coefficients[i] * terms[i], without the terms whose coefficient is zero."""
    for coefficient, term in zip(coefficients, terms, strict=True):
        if coefficient != 0:
            start = jax.tree.map(lambda s, x, c=coefficient: s + c * x, start, term)
    return start
