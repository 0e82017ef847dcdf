"""Bregman divergences of close points, from the metric instead of differences of potentials."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Theta


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
    nodes, weights = np.polynomial.legendre.leggauss(10)
    total: Array = jnp.zeros_like(step)
    for node, weight in zip((0.5 + 0.5 * nodes).tolist(), (0.5 * weights).tolist(), strict=True):
        total = total + weight * node * metric(node * step)
    return jnp.square(step) * total
