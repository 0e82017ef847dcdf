"""The smallest layer of a deep diagonal network as a function of the effective parameter."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ddln._types import Array, Float


def is_zero(tangent: Any) -> bool:
    """Whether a tangent is known to vanish while tracing, so that its derivative is not needed."""
    return isinstance(tangent, SymbolicZero)


def density(v: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]) -> Float[Array, "*shape"]:
    """rho(v) = prod_j sqrt(v^2 + Delta_j)."""
    return jnp.prod(jnp.sqrt(jnp.square(v)[None] + gaps), axis=0)


def exponent(v: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]) -> Float[Array, "*shape"]:
    """The logarithmic slope d log theta / d log v = 1 + sum_j v^2 / (v^2 + Delta_j), in [1, L]."""
    squares = jnp.square(v)[None]
    return 1 + jnp.sum(squares / (squares + gaps), axis=0)


@jax.custom_jvp
@jax.jit
def smallest_layer(
    theta: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """The v with v rho(v) = theta: the smallest layer at theta.

    Newton's method for log(v rho(v)) as a function of log v, which is convex with slopes in [1, L]:
    from above, where it starts, it converges monotonically.
    """
    count = gaps.shape[0]
    zero = theta == 0
    size = jnp.where(zero, 1, jnp.abs(theta))
    # v rho(v) >= v^(k+1) prod_{j > k} sqrt(Delta_j) bounds v from above, k = 0, ..., m.
    roots = 0.5 * jnp.log(gaps)
    bounds = [(jnp.log(size) - jnp.sum(roots[k:], axis=0)) / (k + 1) for k in range(count + 1)]
    bound = jnp.exp(jnp.min(jnp.stack(bounds), axis=0))
    # (theta / size)^2 as a product of ratios to its value at the bound: one logarithm and one division
    # a step, for any number of layers. The last step, without ratios, is accurate to rounding.
    top = jnp.square(bound * density(bound, gaps) / size)
    shift = gaps / (jnp.square(bound)[None] + gaps)

    def newton(_, ratio):
        square = jnp.square(ratio)
        product, slope = jnp.ones_like(ratio), jnp.zeros_like(ratio)
        for j in range(count):
            moving = square * (1 - shift[j])
            slope = slope * (moving + shift[j]) + product * moving
            product = product * (moving + shift[j])
        step = jnp.log(top * square * product) * product / (product + slope)
        return ratio * jnp.exp(-0.5 * step)

    steps = 5 if theta.dtype == jnp.float64 else 4
    v = bound * jax.lax.fori_loop(0, steps, newton, jnp.ones_like(bound))
    v = v * jnp.exp(-jnp.log(v * density(v, gaps) / size) / exponent(v, gaps))
    return jnp.where(zero, 0, jnp.sign(theta) * v)


def _smallest_layer_jvp(primals, tangents):
    theta, gaps = primals
    theta_dot, gaps_dot = tangents
    v = smallest_layer(theta, gaps)
    moved = jnp.zeros_like(v) if is_zero(theta_dot) else theta_dot / density(v, gaps)
    if not is_zero(gaps_dot):
        moved = moved - v * jnp.sum(gaps_dot / (2 * (jnp.square(v)[None] + gaps)), axis=0)
    return v, moved / exponent(v, gaps)


smallest_layer.defjvp(_smallest_layer_jvp, symbolic_zeros=True)
