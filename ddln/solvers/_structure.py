"""Vector fields and linear operators that give an implicit solver the structure of the Jacobian."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import ArrayLike, PyTree, Real

from ddln._types import Scalar

# A time, as diffrax passes it: a traced scalar or a Python number.
Time = Real[ArrayLike, ""]


class AbstractStructuredField(eqx.Module):
    """A vector field f(t, y, args) with its Jacobian df/dy.

    Wrap it in `diffrax.ODETerm` like any other vector field. `ddln.solvers.Rodas5P` uses the
    Jacobian; solvers without one use the field alone.

    Attributes:
        autonomous: whether f does not depend on t; df/dt is then not computed.
    """

    autonomous: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def __call__(self, t: Time, y: PyTree, args: Any) -> PyTree:
        """f(t, y, args), with the structure of y."""

    @abc.abstractmethod
    def jacobian(self, t: Time, y: PyTree, args: Any) -> lx.AbstractLinearOperator:
        """df/dy at (t, y): any lineax operator from the structure of y to itself.

        An `AbstractStructuredOperator` is solved by its own linear solver, any other operator by
        `lineax.AutoLinearSolver`.
        """

    def with_jacobian(
        self, t: Time, y: PyTree, args: Any
    ) -> tuple[PyTree, lx.AbstractLinearOperator]:
        """f and df/dy; override to share their work."""
        return self(t, y, args), self.jacobian(t, y, args)


class AbstractSampledField(eqx.Module):
    """A vector field f(t, y, args) that a Rosenbrock method replaces in each step by another one.

    What f depends on may jump at the ends of a step, or be an integral over time up to y's: a step
    wants a smooth function of t and y, with all that is an integral as a function of t.
    """

    @abc.abstractmethod
    def __call__(self, t: Time, y: PyTree, args: Any) -> PyTree:
        """f(t, y, args), with the structure of y."""

    @abc.abstractmethod
    def of_step(self, t0: Time, t1: Time, y: PyTree) -> Any:
        """The vector field for the step from (t0, y) to t1."""

    def sampling_error(self, t0: Time, t1: Time, y: PyTree) -> PyTree | None:
        """The error of y in a step whose vector field has lost what f does inside of it; None for none.

        A step's own estimate does not see it. Zero where the step resolves f.
        """
        return None


class AbstractStructuredOperator(lx.AbstractLinearOperator):
    """A square operator A whose structure I - scale * A shares, with a solver for it."""

    @abc.abstractmethod
    def identity_minus(self, scale: Scalar) -> "AbstractStructuredOperator":
        """I - scale * A."""

    @abc.abstractmethod
    def solver(self) -> lx.AbstractLinearSolver:
        """A solver for operators of this structure.

        The state must be finite: for an operator that cannot be solved, `compute` returns finite
        values and a result other than successful, so that the derivative of a rejected step is finite.
        """


def register_plain(cls: type[lx.AbstractLinearOperator]) -> None:
    """Register a real operator with lineax, without any property that its own solvers use."""
    properties = (
        lx.is_symmetric,
        lx.is_diagonal,
        lx.is_tridiagonal,
        lx.is_lower_triangular,
        lx.is_upper_triangular,
        lx.is_positive_semidefinite,
        lx.is_negative_semidefinite,
        lx.has_unit_diagonal,
    )
    for check in properties:
        check.register(cls, lambda operator: False)
    lx.linearise.register(cls, lambda operator: operator)
    lx.conj.register(cls, lambda operator: operator)
    lx.materialise.register(cls, lambda operator: lx.MatrixLinearOperator(operator.as_matrix()))
    lx.diagonal.register(cls, lambda operator: jnp.diag(operator.as_matrix()))
