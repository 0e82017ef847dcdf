"""Matrix products at full precision."""

import jax

from ddln._types import Array


def product(left: Array, right: Array) -> Array:
    """A matrix product that no device rounds to less than its dtype."""
    return jax.lax.dot(left, right, precision="highest")
