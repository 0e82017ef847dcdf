"""Bregman divergences of close points, from the metric instead of differences of potentials."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Theta


def short_divergence(metric: Callable[[Theta], Theta], step: Theta) -> Theta:
    """The Bregman divergence of theta from a close reference, elementwise, without cancellation.

    With xi = grad Q(theta) and step = xi - grad Q(reference),

        D_Q(theta, reference) = step^2 int_0^1 s M(xi_reference + s step) ds

    by Taylor's theorem for Q* at xi, since M = Q*''. Gauss-Legendre with 10 nodes, a sum of
    positive terms, is at rounding where log M changes by less than about 2.

    Args:
        metric: M(xi_reference + eta) as a function of eta.
        step: the difference of the dual coordinates, to relative accuracy.
    """
    nodes, weights = unit_gauss_legendre(10, step.dtype)
    terms = jax.vmap(lambda s, weight: weight * s * metric(s * step))(nodes, weights)
    return jnp.square(step) * jnp.sum(terms, axis=0)


def unit_gauss_legendre(
    count: int, dtype: jnp.dtype
) -> tuple[Float[Array, " count"], Float[Array, " count"]]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return jnp.asarray(0.5 + 0.5 * nodes, dtype), jnp.asarray(0.5 * weights, dtype)


def log_ratio(theta: Theta, reference: Theta) -> Theta:
    """log(theta / reference) of positive numbers, to relative accuracy when they are close."""
    near = jnp.abs(theta - reference) < 0.5 * reference
    change = jnp.where(near, (theta - reference) / reference, 0)
    return jnp.where(near, jnp.log1p(change), jnp.log(theta / reference))
