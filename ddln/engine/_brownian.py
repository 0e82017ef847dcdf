"""Brownian motion on the grid of a solver with fixed steps."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ddln._types import Array, Float


class BrownianSteps(diffrax.AbstractBrownianPath):
    """Increments over unit steps, each drawn from the key and the number of the step.

    Nothing is stored. `diffrax.UnsafeBrownianPath` draws in the same way but allows no reverse mode;
    `diffrax.VirtualBrownianTree` draws once per level of its tree, and its range check is a host callback.

    Attributes:
        key: a JAX random key.
        channels: the number of Brownian motions.
        refinement: each increment is the sum of so many, those of a path with as many times the steps.
    """

    key: Array
    channels: int = eqx.field(static=True)
    dtype: DTypeLike = eqx.field(static=True)
    refinement: int = eqx.field(static=True)
    levy_area: type = eqx.field(static=True, default=diffrax.BrownianIncrement)

    @property
    def t0(self):
        return 0

    @property
    def t1(self):
        return jnp.inf

    def evaluate(self, t0, t1=None, left=True, use_levy=False) -> Float[Array, " m"]:
        first = jnp.asarray(t0).astype(int) * self.refinement

        def draw(index):
            key = jax.random.fold_in(self.key, index)
            return jax.random.normal(key, (self.channels,), self.dtype)

        if self.refinement == 1:
            return draw(first)
        parts = jax.vmap(draw)(first + jnp.arange(self.refinement))
        return jnp.sum(parts, axis=0) / self.refinement**0.5
