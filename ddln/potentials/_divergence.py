"""Bregman divergences to relative rounding, however close the points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float, Theta
from ddln.potentials._dual_coordinate import dual, is_zero, rho, smallest_layer


def short_divergence(metric: Callable[[Theta], Theta], step: Theta) -> Theta:
    """Bregman divergence of theta from a close reference, elementwise, without cancellation.

    With xi = grad Q(theta) and step = xi - grad Q(reference),

        D_Q(theta, reference) = step^2 int_0^1 s M(xi_reference + s step) ds

    by Taylor's theorem for Q* at xi, since M = Q*''. Gauss-Legendre with 10 nodes, a sum of
    positive terms, is at rounding where log M changes by less than about 2.

    Args:
        metric: M(xi_reference + eta) as a function of eta.
        step: the difference of the dual coordinates, to relative accuracy.
    """
    nodes, weights = gauss_legendre(10, step.dtype)
    terms = jax.vmap(lambda s, weight: weight * s * metric(s * step))(nodes, weights)
    return jnp.square(step) * jnp.sum(terms, axis=0)


def log_ratio(theta: Theta, reference: Theta) -> Theta:
    """log(theta / reference) of positive numbers, to relative accuracy when they are close."""
    near = jnp.abs(theta - reference) < 0.5 * reference
    change = jnp.where(near, (theta - reference) / reference, 0)
    return jnp.where(near, jnp.log1p(change), jnp.log(theta / reference))


def _near_divergence(v: Array, reference: Array, gaps: Array) -> Array:
    """`divergence` from a close reference of the same sign, as a sum of positive terms.

    It equals (v - v_0)^2 / 2 + v int_{v_0}^v (rho(v)/rho(r) - 1) dr, with theta = v rho(v); the
    square of rho(v)/rho(r), minus one, is accumulated factor by factor.
    """

    def excess(s: Array) -> Array:
        r = reference + s * (v - reference)
        total = jnp.zeros_like(v)
        for gap in gaps:
            part = (v - r) * (v + r) / (jnp.square(r) + gap)
            total = total + part + total * part
        return total / (1 + jnp.sqrt(1 + total))

    nodes, weights = gauss_legendre(10, v.dtype)
    mean = product(jnp.asarray(weights), jax.vmap(excess)(jnp.asarray(nodes)))
    return (v - reference) * (0.5 * (v - reference) + v * mean)


@jax.custom_jvp
@jax.jit
def divergence(
    theta: Float[Array, "*shape"],
    reference: Float[Array, "*shape"],
    gaps: Float[Array, "m *shape"],
) -> Float[Array, "*shape"]:
    """theta xi - (v^2 - v_0^2)/2 with v rho(v) = theta, xi = dual(v_0, v), v_0 = reference.

    The potential of the start v_0, and therefore the Bregman divergence of theta from v_0 rho(v_0)
    for the potential of any start. At a tie theta = 0 is admitted, with the limit as the value.
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
        speed = rho(reference, gaps)
        out_dot = out_dot - (theta / speed - reference) * reference_dot
    if not is_zero(gaps_dot):
        # v depends on the gaps as well, but the potential is stationary in v.
        shift = jax.jvp(lambda g: dual(reference, v, g), (gaps,), (gaps_dot,))[1]
        out_dot = out_dot + jnp.where(theta == 0, 0, theta * shift)
    return out, out_dot


divergence.defjvp(_divergence_jvp, symbolic_zeros=True)
