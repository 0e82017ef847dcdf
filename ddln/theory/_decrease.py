"""Quantities that do not increase along a trajectory."""

from collections.abc import Mapping

import jax.numpy as jnp

from ddln._types import Array, Bool, Float
from ddln.theory._law import Sides


def decrease(
    start: Float[Array, "1 *entries"],
    values: Float[Array, "T *entries"],
    start_error: Float[Array, "1 *entries"],
    errors: Float[Array, "T *entries"],
    compared: Bool[Array, "T *entries"],
    hypotheses: Mapping[str, Bool[Array, ""]] | None = None,
) -> Sides:
    """Each saved value against the one before it, the first against the start.

    Times after which a value changes by less than its numerical error, to the next time and to the
    end, are not compared: the flow has converged.
    """
    before = jnp.concatenate([start, values[:-1]])
    tolerance = errors + jnp.concatenate([start_error, errors[:-1]])
    ahead = jnp.maximum(jnp.abs(before - values), jnp.abs(before - values[-1:]))
    return Sides(values, before, tolerance, compared & (ahead > tolerance), hypotheses)
