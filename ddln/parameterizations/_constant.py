"""Constants, the terms of a sum that are not trained."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Theta
from ddln._validation import float_array, is_known
from ddln.parameterizations._base import AbstractParameterization


class Constant(AbstractParameterization):
    """theta = a constant without weights, to be a term of a `Sum`. M = 0.

    Example (a residual network, theta = 1 + u v):
        >>> Sum(Constant(jnp.ones(2)), DeepDiagonal([[1.0, 2.0], [3.0, -1.0]])).effective()
        Array([ 4., -1.], dtype=float64)

    Args:
        theta: the constant, of any shape. It is part of the program: compilation caches compare it by
            value, and all lanes of a sweep share it.

    Raises:
        ValueError: if `theta` is traced, empty, not real, or not finite.
    """

    values: tuple[float, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: str = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, theta):
        if any(not is_known(leaf) for leaf in jax.tree.leaves(theta)):
            raise ValueError(
                "Argument `theta` must be known, but it is being traced or differentiated. "
                "A term that varies is `ddln.Identity(theta)`, which is trained too."
            )
        # Under `jax.vmap` and `jax.jit` even an operation on known arrays would be traced.
        with jax.ensure_compile_time_eval():
            known = np.asarray(float_array("theta", theta, "..."))
        self.values = tuple(known.reshape(-1).tolist())
        self.shape = known.shape
        self.dtype = str(known.dtype)

    def effective(self) -> Theta:
        return jnp.asarray(np.asarray(self.values, self.dtype).reshape(self.shape))

    def metric_diagonal(self) -> Theta:
        return jnp.zeros(self.shape, self.dtype)
