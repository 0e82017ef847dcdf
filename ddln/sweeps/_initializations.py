"""Many initializations: a stack of them, or a rule that makes them."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Int, PyTree
from ddln.parameterizations import AbstractParameterization


class Initializations(eqx.Module):
    """Initializations made when they are needed: `function(index)` for index = 0, ..., size - 1.

    Example (a million random starts that are never all in memory):
        >>> key = jax.random.key(0)
        >>> Initializations(lambda i: DeepDiagonal.random(jax.random.fold_in(key, i), 3, 50), 10**6)

    Args:
        function: from an index (a traced integer) to a parameterization.
        size: how many there are.

    Raises:
        ValueError: if `size` is not positive.
    """

    function: Callable[[Int[Array, ""]], AbstractParameterization]
    size: int = eqx.field(static=True)

    def __init__(self, function, size: int):
        if size < 1:
            raise ValueError(f"Argument `size` must be at least 1, but it is {size}.")
        self.function = function
        self.size = size

    def take(self, indices: Int[Array, " B"]) -> AbstractParameterization:
        """The initializations with these indices, stacked."""
        return eqx.filter_vmap(self.function)(indices)

    def rows(self) -> PyTree[Array]:
        """What the initializations are made of, with a leading axis: their weights, or indices."""
        if isinstance(self.function, _Row):
            return eqx.filter(self.function.stack, eqx.is_inexact_array)
        return jnp.arange(self.size)

    def of_row(self, row: PyTree[Array]) -> AbstractParameterization:
        """The initialization made of one of `rows()`."""
        if isinstance(self.function, _Row):
            rest = eqx.filter(self.function.stack, eqx.is_inexact_array, inverse=True)
            return eqx.combine(row, rest)
        return self.function(row)


def as_initializations(value: AbstractParameterization | Initializations) -> Initializations:
    """Views a stack of parameterizations (leaves with a leading axis B) as a rule.

    Raises:
        ValueError: if the leading axes differ or there is none.
    """
    if isinstance(value, Initializations):
        return value
    if not isinstance(value, AbstractParameterization):
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
    stack: AbstractParameterization

    def __call__(self, index):
        weights, rest = eqx.partition(self.stack, eqx.is_inexact_array)
        # No index is out of bounds, so nothing is to be filled in.
        row = jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0, mode="clip"), weights)
        return eqx.combine(row, rest)
