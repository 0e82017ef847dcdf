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
from ddln.solvers._structure import (
    AbstractSampledField,
    AbstractStructuredField,
    AbstractStructuredOperator,
    Time,
)
from ddln.solvers._tableau import RosenbrockTableau


class RosenbrockInterpolation(diffrax.AbstractLocalInterpolation):
    """Dense output of a Rosenbrock step, by the formula in `RosenbrockTableau`."""

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
    """A linearly implicit method with one factorization a step and no iteration.

    Subclasses give the `tableau`. The Jacobian is structured for an `AbstractStructuredField`, and
    dense, by forward-mode differentiation, for any other vector field. A step whose linear system
    cannot be solved has an infinite error estimate (an adaptive controller shrinks it) and the
    result code `RESULTS.singular` (the outcome if the controller keeps it).

    Attributes:
        reverse: True for derivatives in reverse mode only, with fewer products with a structured
            Jacobian; forward mode is then an error. `gradient_flow` sets it where possible.
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
        missed = _sampling_error(terms, t0, t1, y0)
        terms = _of_step(terms, t0, t1, y0)
        # The linear system I - gamma h J, with h the signed step of the original time: t0 and t1 increase.
        control = jnp.asarray(terms.contr(t0, t1))
        field, time = _vector_field(terms, t0)
        value, jacobian = _with_jacobian(field, time, y0, args)
        operator = _shifted(jacobian, self._scale(control, y0))
        if self.reverse and isinstance(operator, DiagonalPlusLowRank):
            state = factorized(operator, solver_state)
            # Traced once for all stages.
            solve, okay = functools.partial(jax.jit(solved), operator, state), state.okay
        else:
            if solver_state is not None:
                assert isinstance(operator, DiagonalPlusLowRank)
                solver_state = Woodbury().core(operator)
            solve, okay = _solve(operator, solver_state)

        # Traced once for all stages but the first, whose velocity is known.
        @jax.jit
        def velocity(t, y):
            return terms.vf_prod(t, y, args, control)

        if isinstance(field, AbstractStructuredField) and field.autonomous:
            drift = None
        else:
            t0 = jnp.asarray(t0, jnp.result_type(control))
            _, drift = jax.jvp(lambda t: velocity(t, y0), (t0,), (t1 - t0,))

        # The stages k_i, by the formula in `RosenbrockTableau`.
        ks = []
        for i, node in enumerate(tableau.nodes):
            if i == 0:
                stage = terms.prod(value, control)
            else:
                stage = velocity(t0 + node * (t1 - t0), _combine(tableau.stages[i], ks, y0))
            stage = _combine(tableau.couplings[i], ks, stage)
            if drift is not None:
                stage = _combine((tableau.time[i],), [drift], stage)
            ks.append(solve(jax.tree.map(lambda leaf: tableau.gamma * leaf, stage)))

        # The step, its error estimate and its dense output: combinations of the stages.
        y1 = _combine(tableau.weights, ks, y0)
        zero = jax.tree.map(jnp.zeros_like, y0)
        error = _combine(tableau.error, ks, zero)
        if missed is not None:
            error = jax.tree.map(lambda e, m: jnp.abs(e) + m, error, missed)
        # Every stage enters the last one, so an overflow anywhere shows here.
        for leaf in jax.tree.leaves(ks[-1]):
            okay = okay & jnp.all(jnp.isfinite(leaf))
        # Only the estimate is infinite: its cotangent is zero, so the reverse pass stays finite.
        error = jax.tree.map(lambda leaf: jnp.where(okay, leaf, jnp.inf), error)
        dense = [_combine(row, ks, zero) for row in tableau.dense]
        coefficients = jax.tree.map(lambda *rows: jnp.stack(rows), *dense)
        codes = diffrax.RESULTS
        result = codes.where(okay, codes.successful, codes.singular)  # pyright: ignore
        return y1, error, dict(y0=y0, y1=y1, coefficients=coefficients), solver_state, result

    def core(self, terms, t0, t1, y0, args) -> Array | None:
        """The factorized capacitance matrix of a step, most of its work; None without structure.

        A step takes it as `solver_state` in reverse mode, and otherwise returns its own in place of it.
        """
        field, time = _vector_field(_of_step(terms, t0, t1, y0), t0)
        _, jacobian = _with_jacobian(field, time, y0, args)
        operator = _shifted(jacobian, self._scale(jnp.asarray(terms.contr(t0, t1)), y0))
        return Woodbury().core(operator) if isinstance(operator, DiagonalPlusLowRank) else None

    def _scale(self, control: Array, y0: PyTree) -> Array:
        return control.astype(jnp.result_type(*jax.tree.leaves(y0))) * self.tableau.gamma


def _of_step(term: Any, t0: Any, t1: Any, y: PyTree) -> Any:
    """The term with the vector field of the step from (t0, y) to t1."""
    if not isinstance(term, diffrax.ODETerm):
        ends = t0 * term.direction, t1 * term.direction
        return eqx.tree_at(lambda t: t.term, term, _of_step(term.term, *ends, y))
    field = term.vector_field
    sampled = isinstance(field, AbstractSampledField)
    return diffrax.ODETerm(field.of_step(t0, t1, y)) if sampled else term


def _sampling_error(term: Any, t0: Any, t1: Any, y: PyTree) -> PyTree | None:
    """The error of the state that the vector field of the step does not see, or None."""
    if not isinstance(term, diffrax.ODETerm):
        return _sampling_error(term.term, t0 * term.direction, t1 * term.direction, y)
    field = term.vector_field
    sampled = isinstance(field, AbstractSampledField)
    return field.sampling_error(t0, t1, y) if sampled else None


def _vector_field(term: Any, t: Any) -> tuple[Callable, Any]:
    """The vector field of a term, and the time to call it with."""
    if isinstance(term, diffrax.ODETerm):
        return term.vector_field, t
    # `diffrax.diffeqsolve` wraps terms to make time increase.
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
    """The map from r to the solution k of A k = r, and whether A is nonsingular.

    `core` is the factorized capacitance matrix of A, or None to compute it.
    """
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
        # Not `lineax.linear_solve`, whose implicit derivative raises from a host callback if a solve
        # fails: a failed step is only to be rejected.
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
