"""Weights of the l1 norm that flows from vanishing initializations minimize."""

import jax
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.limits._ends import Ends, ends_of_blocks
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import SumPotential, mirror_geometry, potential


def l1_weights(parameterization: AbstractParameterization) -> Float[Array, "2 *theta"]:
    """W_+ and W_-: the flow from alpha * w_0 minimizes sum(W_+ theta^+ + W_- theta^-) as alpha -> 0.

    For L >= 3 they are the ends of the range (-W_-, W_+) of xi at alpha = 1, for `DeepDiagonal`

        W_+ = int_{s v_0}^infinity dr / |p(r)|,      W_- = int_{-s v_0}^infinity dr / |p(r)|,

    with v the smallest layer and s the sign of p: a weighted and asymmetric l1 norm. It is the plain
    one where v_0 = 0 and the gaps are equal, but not for random starts. For L = 2, where the range is
    infinite and grows like log(1/alpha), both are its growth, 1/|c|: the plain l1 norm from any start.
    A sign that theta cannot take, as at a tie, has an infinite weight.

    Source: the limit of alpha^(L-2) Q(theta), L >= 3, and Q(theta) / log(1/alpha), L = 2, Q the
    potential of the start alpha * w_0 (Woodworth et al. 2020 for L = 2).

    Example:
        >>> weights = ddln.l1_weights(network)
        >>> ddln.minimum_l1(X, y, weights)

    Args:
        parameterization: w_0, a `DeepDiagonal`, `Square`, `Power`, `PowerDifference`, `FourVector`, a
            `Sum` of these that has one degree, or a map of your own: a homogeneous one with a registered
            `ddln.potentials.MirrorGeometry`, or one that is zero with its derivative at w = 0 and has a
            block of weights for each entry of theta, with a Hessian there. Then W_+ and -W_- are the
            inverses of its extreme eigenvalues, the growth times of the entry.

    Returns:
        The weights of the positive and of the negative parts of theta.

    Raises:
        ValueError: for another parameterization.
    """
    return ends_of(parameterization).weights


def ends_of(parameterization: AbstractParameterization) -> Ends:
    """The ends of the range of xi.

    Raises:
        ValueError: for a parameterization without them.
    """
    degree = parameterization.homogeneity
    known = degree is not None and degree >= 2 and mirror_geometry(parameterization) is not None
    q = potential(parameterization) if known else None
    if q is None or degree is None or (degree == 2 and q.hyperbolic is None):
        ends = ends_of_blocks(parameterization)
        if ends is None:
            raise ValueError(
                "Argument `parameterization` must be a `ddln.DeepDiagonal`, `Square`, `Power`, "
                "`PowerDifference`, `FourVector`, a sum of these of one degree above 2, another homogeneous "
                "map with a registered `MirrorGeometry`, or a map that is zero with its derivative at w = 0 "
                "and has a block of weights with a Hessian for each entry of theta, but it is a "
                f"{type(parameterization).__name__}."
            )
        return ends
    if q.hyperbolic is None:
        lower, upper = q.dual_domain
        weights = jnp.stack([upper, -lower])
        # theta ~ (W - |xi|)^(-L/(L-2)) whatever the start, but for the factor of the term of a sum.
        shares = (
            _shares_of_sum(q, degree) if isinstance(q, SumPotential) else jnp.ones_like(weights)
        )
        return Ends(weights, shares, 1 - 2 / degree)
    # theta = A sinh(rate xi + k) with A sinh(k) = theta_0, or its limit theta_0 exp(rate xi), A = 0.
    start, (rate, width) = q.start, q.hyperbolic
    lower, upper = q.domain
    reached = jnp.stack([upper, -lower]) > 0
    # A exp(+-k) / 2, without cancellation.
    large = 0.5 * (jnp.abs(start) + jnp.hypot(start, width))
    small = 0.25 * jnp.square(width) / jnp.where(large > 0, large, 1)
    positive = start >= 0
    shares = jnp.stack([jnp.where(positive, large, small), jnp.where(positive, small, large)])
    return Ends(jnp.where(reached, 2 / rate[None], jnp.inf), shares, 0.0)


def _shares_of_sum(q: SumPotential, degree: int | float) -> Float[Array, "2 *theta"]:
    """The factors of theta ~ share (W - |xi|)^(-k), k = L/(L-2), on both sides, 1 where there is none.

    M = d theta / d xi = k share (W - |xi|)^(-k-1), so that share = (k theta^(1 + 1/k) / M)^k far out.
    """
    power = degree / (degree - 2)
    lower, upper = q.domain
    far = float(jnp.finfo(q.start.dtype).max) ** 0.25
    sides = []
    for reached, theta in ((upper > 0, far), (lower < 0, -far)):
        infinite = reached & jnp.isinf(jnp.where(theta > 0, upper, lower))
        metric = 1 / q.hessian_diagonal(jnp.where(infinite, theta, q.start))
        share = (power * far ** (1 + 1 / power) / jnp.where(infinite, metric, 1)) ** power
        sides.append(jnp.where(infinite, share, 1))
    return jax.lax.stop_gradient(jnp.stack(sides))
