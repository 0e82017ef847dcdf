"""The mirror geometry of a deep diagonal linear network of any depth."""

import math
from functools import partial
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import gauss_legendre
from ddln._types import Array, Bool, Float
from ddln._validation import float_array
from ddln.potentials._base import AbstractCurve
from ddln.potentials._divergence import divergence
from ddln.potentials._dual_coordinate import (
    dual,
    dual_tail,
    log_slope,
    primal,
    rho,
    smallest_layer,
)
from ddln.potentials._separable import AbstractSeparablePotential


@partial(jax.jit, static_argnums=3)
def _movable(
    smallest: Array, gaps: Array, signs: Array, factor: float
) -> tuple[Array, Array, Array]:
    """v_0, the gaps and c s, with frozen coordinates encoded as c s = 0 and unit gaps.

    A frozen coordinate then needs no case of its own: theta = c s v rho(v) is 0, and v stays at 0.
    """
    frozen = (gaps[0] == 0) & (smallest == 0)
    # A layer at zero has sign 0, but only in a frozen coordinate.
    sign = jnp.where(jnp.prod(signs, axis=0) < 0, -1, 1).astype(signs.dtype)
    unit = jnp.where(frozen, 0, factor * sign)
    return jnp.where(frozen, 0, smallest), jnp.where(frozen[None], 1, gaps), unit


class DeepDiagonalPotential(AbstractSeparablePotential, AbstractCurve):
    """The potential of theta = c u^1 * ... * u^L for any depth L >= 2 and any start.

    With the smallest layer v, its start v_0, the gaps Delta_j, and the product s of the signs of
    the other layers, let p(v) = c s prod_j sqrt(v^2 + Delta_j), so that theta = v p(v). Then, per
    coordinate and summed,

        xi = grad Q(theta) = int_{v_0}^v dr / p(r),
        Q(theta) = theta xi - (v^2 - v_0^2)/2,      Q*(xi) = (v^2 - v_0^2)/2.

    For L = 2 this is the hyperbolic entropy, xi is an arcsinh and unbounded. For L >= 3 xi is an
    elliptic or hyperelliptic integral with a bounded range, `dual_domain`, at whose ends theta is
    infinite. Relative accuracy is kept near the start, at large theta, and near the ends of the
    range; the ratios of the gaps do not matter.

    Where the smallest gap is zero and v_0 is not (a tie, as in a balanced start), theta keeps its
    sign: the domain is the open half line of theta_0, on which Q_i is Legendre; `value`, and
    `bregman` in its first argument, admit the end theta_i = 0, where Q_i = v_0^2/2.

    Where the smallest gap and v_0 are zero (two layers are zero) the coordinate never moves: its
    domain is the point 0, Q_i = Q_i* = 0 there, the mirror map is 0, the inverse mirror map 0 for
    every xi, and the Hessian infinite.

    As a curve, the coordinate is v, with v = sqrt(Delta_1) sinh(z): far from the start theta is
    exponential in z, and the useful range of theta is a few tens of units long. At a tie z is
    log |v|.

    Source: Labarrière et al. 2024, Theorem 1, shows that Q exists. The formula follows: grad Q is
    the inverse of theta(xi), dv/dxi = p(v) along the flow, and Q* integrates theta dxi = v dv. For
    v_0 = 0 and equal gaps it is the potential of Yun, Krishnan and Mobahi 2021, Corollary 5.

    Example:
        >>> potential = DeepDiagonalPotential([0.5], gaps=[[1.0], [2.0]], signs=[[1.0], [1.0]])
        >>> xi = potential.mirror_map(jnp.array([3.0]))
        >>> potential.inverse_mirror_map(xi)
        Array([3.], dtype=float64)

    Args:
        smallest: v_0, the smallest layer at the start, shape [d].
        gaps: Delta_j = (u^j)^2 - v_0^2 >= 0 of the other layers, ascending along the first axis,
            shape [L-1, d].
        signs: the signs of the other layers, shape [L-1, d].
        factor: the constant c.

    Attributes:
        unit: c s, in units of which theta and 1/xi are those of a network with positive signs; 0
            where the coordinate is frozen, shape [d].

    Raises:
        ValueError: if the shapes do not match, or a known value is not finite.
    """

    smallest: Float[Array, " d"]
    gaps: Float[Array, "L-1 d"]
    unit: Float[Array, " d"]
    factor: float = eqx.field(static=True)
    reach: ClassVar[float] = 1.0

    def __init__(self, smallest, gaps, signs, factor: float = 1.0):
        smallest = float_array("smallest", smallest, "d")
        gaps, signs = (float_array("gaps", gaps, "L-1 d"), float_array("signs", signs, "L-1 d"))
        if gaps.shape != signs.shape or gaps.shape[1:] != smallest.shape:
            raise ValueError(
                "Arguments `smallest`, `gaps` and `signs` must be [d], [L-1, d] and [L-1, d], "
                f"but they are {smallest.shape}, {gaps.shape} and {signs.shape}."
            )
        self.factor = float(factor)
        self.smallest, self.gaps, self.unit = _movable(smallest, gaps, signs, self.factor)

    @property
    def tied(self) -> Bool[Array, " d"]:
        """The coordinates with a zero gap, where theta keeps its sign."""
        return self.gaps[0] == 0

    @property
    def frozen(self) -> Bool[Array, " d"]:
        """The coordinates with two layers at zero, which never move."""
        return self.unit == 0

    @property
    def sign(self) -> Float[Array, " d"]:
        """s, the product of the signs of the other layers; 0 where the coordinate is frozen."""
        return jnp.sign(self.unit) * (1 if self.factor > 0 else -1)

    @property
    def _divisor(self) -> Float[Array, " d"]:
        return jnp.where(self.frozen, 1, self.unit)

    @property
    def origin(self) -> Float[Array, " d"]:
        return self.smallest

    @property
    def start(self) -> Float[Array, " d"]:
        return self.at(self.smallest)

    @property
    def domain(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The whole line; the half line of the sign of theta_0 at a tie; 0 where nothing moves."""
        side = jnp.where(self.tied, jnp.sign(self.unit * self.smallest), 0)
        infinite = jnp.where(self.frozen, 0, jnp.inf).astype(side.dtype)
        return jnp.where(side > 0, 0, -infinite), jnp.where(side < 0, 0, infinite)

    @property
    def dual_domain(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The open range of xi: (-W_-, W_+), the whole line for L = 2.

        W_+ = int dr/|p(r)| from s v_0 and W_- from -s v_0 to infinity, s the sign of p. Infinite
        where theta tends to 0 at a tie, and where nothing moves.
        """
        toward = jnp.sign(self.unit) * self.smallest
        upper, lower = (dual_tail(v, self.gaps) / abs(self.factor) for v in (toward, -toward))
        return jnp.where(self.frozen, -jnp.inf, -lower), jnp.where(self.frozen, jnp.inf, upper)

    @property
    def hyperbolic(self) -> tuple[Float[Array, " d"], Float[Array, " d"]] | None:
        if len(self.gaps) > 1:
            return None
        rate = jnp.full_like(self.smallest, 2 * abs(self.factor))
        return rate, 0.5 * abs(self.factor) * self.gaps[0]

    def confined(self) -> Bool[Array, ""]:
        return jnp.any(self.tied | self.frozen)

    # The curve.

    def at(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.unit * v * rho(v, self.gaps)

    def metric(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.square(self.unit * rho(v, self.gaps)) * log_slope(v, self.gaps)

    def slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self._divisor * rho(v, self.gaps) * log_slope(v, self.gaps)

    def scale(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.sqrt(jnp.square(v) + self.gaps[0])

    def steepness(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return log_slope(v, self.gaps)

    def _change(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.scale(v) * jnp.sinh(dz) + 2 * v * jnp.square(jnp.sinh(dz / 2))

    def advance(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return v + self._change(v, dz)

    def travel(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        # sqrt(Delta_1) sinh(z + dz) by its two exponentials, which are known to rounding at v. Across the
        # start of the scale, at v = 0, their difference is exact to rounding in z; elsewhere it would cancel.
        sign = jnp.where(v < 0, -1, 1).astype(v.dtype)
        larger = self.scale(v) + jnp.abs(v)
        smaller = self.gaps[0] / larger
        far = 0.9 * math.log(jnp.finfo(v.dtype).max)
        more = jnp.expm1(jnp.minimum(jnp.abs(dz), far))
        shrunk = 1 / (1 + more)
        inward = sign * dz < 0
        change = more * jnp.where(inward, -larger * shrunk - smaller, larger + smaller * shrunk)
        apart = larger * shrunk - smaller * (1 + more)
        near = sign * (2 * jnp.abs(v) + change)
        return 0.5 * jnp.where(inward & (more > 1), sign * apart, near)

    def step(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        if len(self.gaps) == 1:
            return dz / self._divisor
        change = self._change(v, dz)
        # 12 nodes are at rounding where v changes by a factor of at most e.
        nodes, weights = (x[:, None] for x in gauss_legendre(12, v.dtype))
        squares = jnp.square(v[None] + nodes * change[None])
        inverse = jnp.prod(jax.lax.rsqrt(squares[None] + self.gaps[:, None]), axis=0)
        return change * jnp.sum(weights * inverse, axis=0) / self._divisor

    def dual(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return dual(self.smallest, v, self.gaps) / self._divisor

    # The potential.

    def _positive(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """v rho(v) at theta."""
        return jnp.where(self.frozen, 0, theta / self._divisor)

    def _v(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        return smallest_layer(self._positive(theta), self.gaps)

    def _v_at(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        return primal(self.smallest, self.unit * xi, self.gaps)

    def _value(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        return divergence(self._positive(theta), self.smallest, self.gaps)

    def _mirror_map(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.dual(self._v(theta))

    def _inverse_mirror_map(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.at(self._v_at(xi))

    def _conjugate(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        v, v_0, gaps = self._v_at(xi), self.smallest, self.gaps
        # Close to the start v - v_0 has lost digits that xi still has.
        near = jnp.abs(v - v_0) < 0.1 * jnp.abs(v_0)
        theta = jnp.where(near, v * rho(v, gaps), v_0 * rho(v_0, gaps))
        by_xi = self.unit * xi * theta - divergence(theta, v_0, gaps)
        return jnp.where(near, by_xi, 0.5 * (v - v_0) * (v + v_0))

    def _hessian(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        v = self._v(theta)
        metric = jnp.square(self.factor * rho(v, self.gaps)) * log_slope(v, self.gaps)
        return jnp.where(self.frozen, jnp.inf, 1 / metric)

    def _bregman(
        self, theta: Float[Array, " d"], reference: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        return divergence(self._positive(theta), self._v(reference), self.gaps)
