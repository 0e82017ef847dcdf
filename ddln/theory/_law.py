"""Statements as data: `law` makes a check of a function that evaluates both sides."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, ParamSpec, Protocol, cast, runtime_checkable

import equinox as eqx

from ddln._types import Array, Bool, Float, Loss
from ddln.flows import Trajectory
from ddln.theory._check import Check

P = ParamSpec("P")

Need = type | Callable[[Trajectory], bool]


class Sides(NamedTuple):
    """Both sides of a statement, evaluated: the result of a function below `law`.

    Its attributes are those of `Check` with the same names; shapes are broadcast.
    """

    lhs: Float[Array, "..."]
    rhs: Float[Array, "..."]
    tolerance: Float[Array, "..."] | float
    compared: Bool[Array, "..."]
    hypotheses: Mapping[str, Bool[Array, ""]] | None = None
    remarks: Mapping[str, Bool[Array, ""]] | None = None


@dataclass(frozen=True)
class Law:
    """The metadata of a statement; a check has it as its attribute `law`.

    Attributes:
        name: the name of the check.
        source: the reference of the statement.
        statement: the claim in words and formulas.
        relation: "<=", "<" or "==".
        axes: the names of the axes of the entries.
        needs: the conditions under which `checks` evaluates the statement, None for never.
        arguments: the arguments of the check, from a trajectory and its loss.
        check: the check.
    """

    name: str
    source: str
    statement: str
    relation: str
    axes: tuple[str, ...]
    needs: tuple[Need, ...] | None
    arguments: Callable[[Trajectory, Loss], tuple[Any, ...]]
    check: Callable[..., Check]

    def applies(self, trajectory: Trajectory, loss: Loss) -> bool:
        """True if all needs are met. Types decide, so that traced values are enough."""
        return self.needs is not None and all(
            isinstance(trajectory.initial, need) or isinstance(loss, need)
            if isinstance(need, type)
            else need(trajectory)
            for need in self.needs
        )


@runtime_checkable
class LawCheck(Protocol[P]):
    """A check with its metadata."""

    law: Law

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Check: ...


def law(
    *,
    source: str,
    relation: str,
    axes: tuple[str, ...],
    needs: tuple[Need, ...] | None = None,
    arguments: Callable[[Trajectory, Loss], tuple[Any, ...]] = lambda *both: both,
    jit: bool = False,
) -> Callable[[Callable[P, Sides]], LawCheck[P]]:
    """Make a check of a function that returns the `Sides` of a statement.

    The function's name becomes the name of the check, and the first paragraph of its docstring the
    statement.

    Example:
        >>> @law(source="the chain rule", relation="<=", axes=("time",), needs=())
        ... def below_the_start(trajectory, loss):
        ...     \"\"\"The loss is never above its value at the start.\"\"\"
        ...     first = loss(trajectory.initial.effective())
        ...     reached = jnp.isfinite(trajectory.ts)
        ...     return Sides(trajectory.loss, first[None], trajectory.rtol * first, reached)
        >>> below_the_start.law.statement
        'The loss is never above its value at the start'

    Args:
        source: the reference of the statement.
        relation: "<=", "<" or "==": the claim is `lhs <relation> rhs` at every compared entry.
        axes: the names of the axes of the entries.
        needs: the conditions under which `checks` evaluates the statement: classes, of which the
            start or the loss must be an instance, and functions of the trajectory that look at
            types alone. None leaves the statement out of `checks`.
        arguments: the arguments of the check, from a trajectory and its loss; for `checks`.
        jit: True compiles the function with the check that it returns, as `equinox.filter_jit`.

    Returns:
        a decorator. The check has the parameters of the function, and the attribute `law`.
    """

    def decorate(function: Callable[P, Sides]) -> LawCheck[P]:
        name = function.__name__
        paragraph = (inspect.getdoc(function) or name).split("\n\n")[0]
        statement = " ".join(paragraph.split()).removesuffix(".")

        def evaluate(*args: P.args, **kwargs: P.kwargs) -> Check:
            return Check(name, source, statement, relation, axes, *function(*args, **kwargs))

        compiled = eqx.filter_jit(evaluate) if jit else evaluate

        @functools.wraps(function)
        def check(*args: P.args, **kwargs: P.kwargs) -> Check:
            return compiled(*args, **kwargs)

        signature = inspect.signature(function).replace(return_annotation=Check)
        check.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        described = cast(LawCheck[P], check)
        described.law = Law(name, source, statement, relation, axes, needs, arguments, check)
        return described

    return decorate
