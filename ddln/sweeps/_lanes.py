"""The lanes of a sweep."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax

from ddln._results import is_okay
from ddln._types import Array, Int, PyTree


class Lane(eqx.Module):
    """The fields of `SweepResult` for one lane; stacked for many. `make` fills in `okay`."""

    ts: Any
    theta: Any
    loss: Any
    stats: Any
    values: Any
    okay: Any
    codes: Any
    method: str = eqx.field(static=True)

    @classmethod
    def make(cls, *, ts, theta, loss, result, stats, values, method: str) -> "Lane":
        """A lane from what a flow or a limit returns."""
        return cls(
            ts=ts,
            theta=theta,
            loss=loss,
            stats=stats,
            values=values,
            okay=is_okay(result),
            codes=jax.tree.leaves(result)[0],
            method=method,
        )


class AbstractLanes(eqx.Module):
    """All lanes of a sweep, by index."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of lanes."""

    @abstractmethod
    def compute(self, indices: Int[Array, " lanes"]) -> Lane:
        """The lanes with these indices, stacked."""

    @abstractmethod
    def rows(self) -> PyTree[Array]:
        """The arrays that the lanes are made of, with a leading axis."""

    @abstractmethod
    def of_rows(self, rows: PyTree[Array]) -> Lane:
        """The lanes made of some of `rows()`, stacked; differentiable."""

    @abstractmethod
    def one(self) -> Lane:
        """Shapes and dtypes of one lane."""

    @abstractmethod
    def weights(self) -> int:
        """The number of real numbers that one lane works on, about."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Everything that determines the results, as plain text and numbers."""
