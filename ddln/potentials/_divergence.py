"""The Bregman divergence of the potential of a deep diagonal network, to relative rounding."""

import jax
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.potentials._dual_coordinate import dual
from ddln.potentials._short_divergence import unit_gauss_legendre
from ddln.potentials._smallest_layer import density, is_zero, smallest_layer


def _near_divergence(v: Array, reference: Array, gaps: Array) -> Array:
    """The divergence from a close reference of the same sign, as a sum of positive terms.

    (v - v_0)^2 / 2 + v int_{v_0}^v (rho(v)/rho(r) - 1) dr, which is `divergence` with
    theta = v rho(v); the square of rho(v)/rho(r) minus one is accumulated factor by factor.
    """

    def excess(s: Array) -> Array:
        r = reference + s * (v - reference)
        total = jnp.zeros_like(v)
        for gap in gaps:
            part = (v - r) * (v + r) / (jnp.square(r) + gap)
            total = total + part + total * part
        return total / (1 + jnp.sqrt(1 + total))

    nodes, weights = unit_gauss_legendre(10, v.dtype)
    mean = jnp.tensordot(weights, jax.vmap(excess)(nodes), 1)
    return (v - reference) * (0.5 * (v - reference) + v * mean)


@jax.custom_jvp
@jax.jit
def divergence(
    theta: Float[Array, "*shape"],
    reference: Float[Array, "*shape"],
    gaps: Float[Array, "m *shape"],
) -> Float[Array, "*shape"]:
    """theta xi - (v^2 - v_0^2)/2 with v rho(v) = theta, xi = dual(v_0, v), v_0 = reference.

    This is the potential that starts at v_0, and so the Bregman divergence of theta from
    v_0 rho(v_0) for the potential of any start. At a tie theta = 0 is admitted: the value is the
    limit there.
    """
    depth = gaps.shape[0] + 1
    v = smallest_layer(theta, gaps)
    same = jnp.sign(v) == jnp.sign(reference)
    smaller = jnp.minimum(jnp.abs(v), jnp.abs(reference))
    near = same & (jnp.abs(v - reference) <= 2 / depth * smaller) & (smaller > 0)
    near_value = _near_divergence(
        jnp.where(near, v, 1), jnp.where(near, reference, 1), jnp.where(near, gaps, 1)
    )
    product = jnp.where(theta == 0, 0, theta * dual(reference, v, gaps))
    far_value = product - 0.5 * (v - reference) * (v + reference)
    return jnp.where(near, near_value, far_value)


def _divergence_jvp(primals, tangents):
    theta, reference, gaps = primals
    theta_dot, reference_dot, gaps_dot = tangents
    out = divergence(theta, reference, gaps)
    out_dot = jnp.zeros_like(out)
    v = smallest_layer(theta, gaps)
    if not is_zero(theta_dot):
        out_dot = out_dot + dual(reference, v, gaps) * theta_dot
    if not is_zero(reference_dot):
        speed = density(reference, gaps)
        out_dot = out_dot - (theta / speed - reference) * reference_dot
    if not is_zero(gaps_dot):
        # The smallest layer moves with the gaps too, but the potential is stationary in it.
        shift = jax.jvp(lambda g: dual(reference, v, g), (gaps,), (gaps_dot,))[1]
        out_dot = out_dot + jnp.where(theta == 0, 0, theta * shift)
    return out, out_dot


divergence.defjvp(_divergence_jvp, symbolic_zeros=True)
