"""The data of lanes: starts, as a stack or by a rule, and values that differ between lanes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Int, PyTree
from ddln.engine import PerLane
from ddln.engine.internal import per_lane_values, take
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import AbstractPotential
from ddln.sweeps.store import describe_function, describe_tree

# The start of a lane.
Start = AbstractParameterization | AbstractPotential


class Initializations(eqx.Module):
    """Initializations that are made when they are needed: `function(index)` for index = 0, ..., size - 1.

    Example (a million random starts that are never all in memory):
        >>> key = jax.random.key(0)
        >>> Initializations(lambda i: DeepDiagonal.random(jax.random.fold_in(key, i), 3, 50), 10**6)

    Args:
        function: from an index (a traced integer) to a parameterization, or to a potential for
            `ddln.MirrorDynamics`.
        size: the number of initializations.

    Raises:
        ValueError: if `size` is not positive.
    """

    function: Callable[[Int[Array, ""]], Start]
    size: int = eqx.field(static=True)

    def __init__(self, function, size: int):
        if isinstance(function, Start | type) or not callable(function):
            raise ValueError(
                "Argument `function` must be a function of an index, such as `lambda i: start`, but it is "
                f"a {type(function).__name__}."
            )
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise ValueError(
                f"Argument `size` must be a whole number, at least 1, but it is {size!r}."
            )
        self.function = function  # pyright: ignore[reportAttributeAccessIssue]
        self.size = size

    def take(self, indices: Int[Array, " B"]) -> Start:
        """The initializations with these indices, stacked."""
        return eqx.filter_vmap(self.function)(indices)

    def rows(self) -> PyTree[Array]:
        """The arrays from which `of_row` makes an initialization, leading axis B: weights, or indices."""
        if isinstance(self.function, _Row):
            return eqx.filter(self.function.stack, eqx.is_inexact_array)
        return jnp.arange(self.size)

    def of_row(self, row: PyTree[Array]) -> Start:
        """The initialization made of one of `rows()`."""
        if isinstance(self.function, _Row):
            rest = eqx.filter(self.function.stack, eqx.is_inexact_array, inverse=True)
            return eqx.combine(row, rest)
        return self.function(row)


def as_initializations(value: Start | Initializations) -> Initializations:
    """Views a stack of parameterizations (leaves with a leading axis B) as a rule.

    Raises:
        ValueError: if the leading axes differ or there is none.
    """
    if isinstance(value, Initializations):
        return value
    if not isinstance(value, Start):
        raise ValueError(
            "Argument `initializations` must be a parameterization whose leaves have a leading axis, or "
            f"`ddln.Initializations(function, size)`, but it is a {type(value).__name__}."
        )
    leaves = jax.tree.leaves(eqx.filter(value, eqx.is_inexact_array))
    sizes = {leaf.shape[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes in ({()}, {(0,)}):
        raise ValueError(
            "Argument `initializations` must have one leading axis, of the same size in all leaves, but "
            f"the leaves have shapes {[leaf.shape for leaf in leaves]}. "
            "Make such a stack with `jax.vmap` or `jnp.stack`."
        )
    return Initializations(_Row(value), leaves[0].shape[0])


class _Row(eqx.Module):
    stack: Start

    def __call__(self, index):
        weights, rest = eqx.partition(self.stack, eqx.is_inexact_array)
        # No index is out of bounds, so nothing is to be filled in.
        row = jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0, mode="clip"), weights)
        return eqx.combine(row, rest)


class LaneData(eqx.Module):
    """The start of each lane, and its per-lane values.

    Attributes:
        starts: the initializations.
        per_lane: the `PerLane` values of the dynamics, the loss and the settings.
    """

    starts: Initializations
    per_lane: tuple[PerLane, ...]

    def __check_init__(self):
        for value in self.per_lane:
            if value.size not in (None, self.starts.size):
                raise ValueError(
                    f"The values of `ddln.PerLane` must be as many as the {self.starts.size} "
                    f"initializations, but there are {value.size}."
                )

    @property
    def size(self) -> int:
        """The number of lanes."""
        return self.starts.size

    def take(self, index: Int[Array, ""]) -> tuple[Start, tuple[PyTree, ...]]:
        """The start and the values of the lane with this index."""
        return self.starts.function(index), tuple(take(value, index) for value in self.per_lane)

    def rows(self) -> PyTree[Array]:
        """The arrays from which `of_row` makes a lane, leading axis B."""
        return self.starts.rows(), tuple(value.rows(self.size) for value in self.per_lane)

    def of_row(self, row: PyTree[Array]) -> tuple[Start, tuple[PyTree, ...]]:
        """The start and the values of a lane, made of one of `rows()`."""
        start, values = row
        made = zip(self.per_lane, values, strict=True)
        return self.starts.of_row(start), tuple(value.of_row(row) for value, row in made)

    def first(self) -> tuple[Start, tuple[PyTree, ...]]:
        """The start and the values of lane 0."""
        return self.take(jnp.zeros((), int))

    def numbers(self) -> int:
        """The number of real numbers that make one lane."""
        one = eqx.filter_eval_shape(self.first)
        return sum(leaf.size for leaf in jax.tree.leaves(one) if hasattr(leaf, "size"))

    def describe(self) -> dict[str, Any]:
        """The data as plain text and numbers."""
        index = jax.ShapeDtypeStruct((), jnp.zeros((), int).dtype)
        starts = {"size": self.size, **describe_function(self.starts.function, index)}
        if not self.per_lane:
            return {"initializations": starts}
        values = [describe_tree(value, index) for value in self.per_lane]
        return {"initializations": starts, "per_lane": values}


def describe_loss(loss: Any, theta: jax.ShapeDtypeStruct) -> Any:
    """The loss of a sweep as plain text and numbers; `LaneData` describes what differs between lanes."""
    return describe_tree(loss) if per_lane_values(loss) else describe_function(loss, theta)
