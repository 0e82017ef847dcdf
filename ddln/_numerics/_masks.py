"""Masks over the leading axes of arrays, and the test whether a tree is finite."""

from typing import Any

import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, PyTree


def expand_mask(mask: Bool[Array, "..."], ndim: int) -> Bool[Array, "..."]:
    """The mask with trailing axes of length 1, `ndim` axes in all, to broadcast over what a row holds."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def where_rows(mask: Bool[Array, "..."], new: PyTree[Array], old: Any) -> PyTree[Array]:
    """Select `new` where the mask over the leading axes holds, and `old` elsewhere.

    Args:
        mask: the mask, whose axes are the first axes of every leaf.
        new: a tree of arrays.
        old: a tree of the same structure with leaves that broadcast against those of `new`, or a number.
    """
    if isinstance(old, int | float):
        return jax.tree.map(lambda leaf: jnp.where(expand_mask(mask, leaf.ndim), leaf, old), new)
    return jax.tree.map(lambda a, b: jnp.where(expand_mask(mask, a.ndim), a, b), new, old)


def all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Test whether every entry of every leaf is finite."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]).all()
