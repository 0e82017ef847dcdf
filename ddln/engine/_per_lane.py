"""Values that differ between the lanes of a sweep."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Int, PyTree

T = TypeVar("T")


class PerLane(eqx.Module):
    """A value of a sweep that differs between its lanes: a loss, a time, a tolerance, an inertia, ...

    Example (a data set for each lane, made where it is used; an end for each lane):
        >>> def data(index):
        ...     X = jax.random.normal(jax.random.fold_in(key, index), (20, 50))
        ...     return ddln.LeastSquares(X, X @ truth)
        >>> ddln.sweep(starts, ddln.PerLane(data), t1=ddln.PerLane(jnp.geomspace(1.0, 100.0, 1000)))

    Args:
        values: a pytree whose arrays have a leading axis B, such as an array of B numbers or a
            `jax.vmap` of losses; or a function of the lane's index (a traced integer).

    Raises:
        ValueError: if the leading axes of a pytree differ, or there is none.
    """

    values: Any

    def __init__(self, values: Any):
        if isinstance(values, list | tuple) and all(np.ndim(v) == 0 for v in values):
            values = np.asarray(values)
        self.values = jax.tree.map(
            lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, values
        )
        sizes = {leaf.shape[:1] for leaf in self._arrays()}
        if not self.is_rule and (len(sizes) != 1 or sizes in ({()}, {(0,)})):
            raise ValueError(
                "Argument `values` of `ddln.PerLane` must be a function of the lane's index, or arrays "
                "with one leading axis of the same size, but the arrays have shapes "
                f"{[leaf.shape for leaf in self._arrays()]}."
            )

    def _arrays(self) -> list[Array]:
        return [leaf for leaf in jax.tree.leaves(self.values) if eqx.is_array(leaf)]

    @property
    def is_rule(self) -> bool:
        """True if the values are made by a function of the index."""
        return callable(self.values) and not self._arrays()

    @property
    def size(self) -> int | None:
        """The number of lanes, or None if a function makes the values."""
        return None if self.is_rule else self._arrays()[0].shape[0]

    def rows(self, size: int) -> PyTree[Array]:
        """The arrays from which `of_row` makes the value of each of `size` lanes, leading axis B."""
        return jnp.arange(size) if self.is_rule else eqx.filter(self.values, eqx.is_array)

    def of_row(self, row: PyTree[Array]) -> Any:
        """The value of one lane, made of one of `rows`."""
        if self.is_rule:
            return self.values(row)
        return eqx.combine(row, eqx.filter(self.values, eqx.is_array, inverse=True))


def take(value: PerLane, index: Int[Array, ""]) -> Any:
    """The value of the lane with this index."""
    if value.is_rule:
        return value.values(index)
    # No index is out of bounds, so nothing is to be filled in.
    return value.of_row(
        jax.tree.map(
            lambda leaf: jnp.take(leaf, index, axis=0, mode="clip") if eqx.is_array(leaf) else leaf,
            eqx.filter(value.values, eqx.is_array),
        )
    )


def per_lane_values(tree: Any) -> list[PerLane]:
    """All per-lane values of a tree, in the order of its leaves."""
    return [leaf for leaf in _leaves(tree) if isinstance(leaf, PerLane)]


def without_values(tree: T) -> T:
    """The tree with an empty place for each per-lane value."""
    return _map(lambda leaf: _EMPTY if isinstance(leaf, PerLane) else leaf, tree)


def with_values(tree: T, values: list[Any] | tuple[Any, ...]) -> T:
    """The tree with these values in its empty places, in the order of `per_lane_values`."""
    if not values:
        return tree
    left = iter(values)
    return _map(lambda leaf: next(left) if isinstance(leaf, PerLane) else leaf, tree)


def _is_per_lane(node: Any) -> bool:
    return isinstance(node, PerLane)


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=_is_per_lane)


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    return jax.tree.map(function, tree, is_leaf=_is_per_lane)


# A place without a value. Built without the checks of `PerLane`.
_EMPTY = object.__new__(PerLane)
object.__setattr__(_EMPTY, "values", None)
