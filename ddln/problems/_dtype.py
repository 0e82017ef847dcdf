"""The dtype of a problem's arrays."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike


def float_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The given floating dtype, or JAX's default one.

    Raises:
        ValueError: if the dtype is not floating, or JAX has it switched off.
    """
    if dtype is None:
        return jnp.result_type(float)
    chosen = jnp.dtype(dtype)
    if not jnp.issubdtype(chosen, jnp.floating):
        raise ValueError(f"Argument `dtype` must be a floating dtype, but it is {chosen}.")
    if jax.dtypes.canonicalize_dtype(chosen) != chosen:
        raise ValueError(
            f"Argument `dtype` must be a dtype that JAX has switched on, but it is {chosen}. "
            "Call `jax.config.update('jax_enable_x64', True)` at startup."
        )
    return chosen
