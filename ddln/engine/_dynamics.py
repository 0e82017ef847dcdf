"""The protocol by which the engine integrates a dynamics, and what it hands back."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import where_rows
from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Loss, PyTree
from ddln.parameterizations import AbstractParameterization
from ddln.solvers import AbstractRosenbrock

STATS = ("num_steps", "num_accepted_steps", "num_rejected_steps")


class Saved(eqx.Module):
    """An integration, saved at T times.

    Attributes:
        times: the saved times, shape [T]; inf where a row was not reached.
        rows: the states there, leading axis T; the initial state where a row was not reached, so that
            no NaN enters a derivative.
        reached: whether a row was reached, shape [T].
        result: a `ddln.RESULTS` code.
        stats: numbers of steps: `num_steps`, `num_accepted_steps`, `num_rejected_steps`.
        rtol: the relative tolerance.
        atol: the absolute tolerance, after scaling with the start.
        method: the coordinates and the solver.
        interpolation: dense output, if it was kept.
    """

    times: Float[Array, " T"]
    rows: PyTree[Array]
    reached: Bool[Array, " T"]
    result: RESULTS
    stats: dict[str, Array]
    rtol: Array
    atol: Array
    method: str = eqx.field(static=True)
    interpolation: diffrax.DenseInterpolation | None = None

    def blank(self, rows: PyTree[Array]) -> PyTree[Array]:
        """Rows of real arrays with NaN where they were not reached; None stays None."""
        return where_rows(self.reached, rows, jnp.nan)


class AbstractDynamics(eqx.Module):
    """An equation of motion, without a start: `ddln.sweep(..., dynamics=...)` takes one.

    With a start and a loss it is an initial value problem y' = f(t, y), whose state y determines theta.
    The state is a tuple. Its first entry holds the unknowns, whose error controls the steps; the others
    are integrals along the way, such as the dual.

    To define a dynamics, subclass this and give the six abstract methods. The fields are settings: real
    numbers among them may differ between the lanes of a sweep (`ddln.PerLane`), and be differentiated.
    """

    @abc.abstractmethod
    def states(self, start: Any, loss: Loss) -> Any:
        """The unknowns of the problem, as an `eqx.Module` that rebuilds from them what they stand for.

        Raises:
            ValueError: if the start or the loss does not fit.
        """

    @abc.abstractmethod
    def initial_state(self, states: Any, loss: Loss) -> tuple[PyTree[Array], ...]:
        """The state at time 0."""

    @abc.abstractmethod
    def startable(self, states: Any, loss: Loss) -> tuple[Bool[Array, ""], RESULTS]:
        """Test whether the flow can start; with the result code if it cannot."""

    @abc.abstractmethod
    def field(self, states: Any, loss: Loss) -> Callable[[Any, PyTree, Any], PyTree]:
        """f(t, y, args); a `ddln.solvers.AbstractStructuredField` if its Jacobian has structure."""

    @abc.abstractmethod
    def default_solver(self, states: Any, loss: Loss, *, reverse: bool) -> diffrax.AbstractSolver:
        """The solver that `solver=None` stands for; `reverse` says in which mode it is differentiated."""

    @abc.abstractmethod
    def trajectory(self, states: Any, loss: Loss, saved: Saved) -> Any:
        """The result of the public function: an `eqx.Module` with at least the fields `ts`, `theta`,
        `loss`, `result`, `stats` and `method`.
        """

    def parameterization(self, states: Any, state: PyTree[Array]) -> AbstractParameterization:
        """The parameterization in that state, for events."""
        return states.rebuild(state[0])

    def atol_factor(self, states: Any) -> Array | float:
        """The factor of the absolute tolerance: the size of the unknowns."""
        return 1.0

    def inside(self, states: Any) -> Callable[[PyTree[Array]], Bool[Array, ""]] | None:
        """A test whether a state is inside of the domain, or None. A step that leaves it is rejected."""
        return None

    def jumps(self) -> Float[Array, " K"] | None:
        """Increasing times at which the field jumps, or None. No step crosses one."""
        return None

    def name(self, states: Any) -> str:
        """The name of the coordinates, for `Trajectory.method`."""
        return type(states).__name__.lower()


class AbstractFixedSteps(eqx.Module):
    """A dynamics with a given number of steps, without a start: `ddln.sweep(..., dynamics=...)` takes one.

    Its lanes end together, so that they need no queue: a sweep vmaps `run`.

    Attributes:
        takes: the names of the settings among `solver`, `adjoint`, `event` and `dense` that count.
    """

    takes: ClassVar[tuple[str, ...]] = ()

    def check_settings(self, solve: Any) -> None:
        """Raises if a setting is given that does not count.

        Raises:
            ValueError: with the name of the setting.
        """
        for name, unset in (("solver", None), ("adjoint", None), ("event", None), ("dense", False)):
            if name not in self.takes and getattr(solve, name) is not unset:
                raise ValueError(
                    f"Argument `{name}` must be {unset} for `{type(self).__name__}`, which makes a given "
                    "number of steps of its own. Save at several of them with `ts`."
                )

    @abc.abstractmethod
    def run(self, start: Any, loss: Loss, solve: Any) -> Any:
        """The result of the public function, with a result code for a failure.

        Args:
            start: of a kind that the dynamics accepts.
            loss: L(theta).
            solve: the settings (`Solve`), of which the dynamics uses what it needs.
        """

    @abc.abstractmethod
    def for_lane(self, index: Array) -> "AbstractFixedSteps":
        """The dynamics of one lane of a sweep: with randomness of its own."""


def dtype_of(dynamics: AbstractDynamics, states: Any, loss: Loss) -> Any:
    """The dtype that a problem is integrated in: that of its state."""
    state = eqx.filter_eval_shape(dynamics.initial_state, states, loss)
    return jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves(state)))


def chosen_solver(
    dynamics: AbstractDynamics,
    states: Any,
    loss: Loss,
    solver: diffrax.AbstractSolver | None,
    *,
    reverse: bool,
) -> diffrax.AbstractSolver:
    """The solver that was asked for, or that of the dynamics.

    Raises:
        ValueError: if the dynamics has jumps and the solver looks at a jump from both of its sides.
    """
    if solver is None:
        return dynamics.default_solver(states, loss, reverse=reverse)
    if dynamics.jumps() is not None and not isinstance(solver, AbstractRosenbrock):
        raise ValueError(
            "Argument `solver` must be None or a Rosenbrock method as `ddln.Rodas5P()` for a dynamics that "
            f"jumps, as with `ddln.PiecewiseConstant`, but it is {solver!r}. Or pass a smooth function."
        )
    return solver
