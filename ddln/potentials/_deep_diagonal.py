"""The potential of a deep diagonal linear network of any depth."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Bool, Float
from ddln._validation import float_array
from ddln.potentials._divergence import divergence
from ddln.potentials._dual_coordinate import dual, dual_tail, primal
from ddln.potentials._separable import AbstractSeparablePotential
from ddln.potentials._smallest_layer import density, exponent, smallest_layer


class DeepDiagonalPotential(AbstractSeparablePotential):
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

    Source: Labarrière et al. 2024, Theorem 1, shows that Q exists; the formula follows from it:
    grad Q is the inverse of theta(xi), dv/dxi = p(v) along the flow, and Q* integrates theta dxi =
    v dv. For v_0 = 0 and equal gaps it is the potential of Yun, Krishnan and Mobahi 2021,
    Corollary 5.

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

    Raises:
        ValueError: if the shapes do not match, or a known value is not finite.
    """

    smallest: Float[Array, " d"]
    gaps: Float[Array, "L-1 d"]
    sign: Float[Array, " d"]
    factor: float = eqx.field(static=True)

    def __init__(self, smallest, gaps, signs, factor: float = 1.0):
        self.smallest = float_array("smallest", smallest, "d")
        self.gaps = float_array("gaps", gaps, "L-1 d")
        signs = float_array("signs", signs, "L-1 d")
        if self.gaps.shape != signs.shape or self.gaps.shape[1:] != self.smallest.shape:
            raise ValueError(
                "Arguments `smallest`, `gaps` and `signs` must be [d], [L-1, d] and [L-1, d], "
                f"but they are {self.smallest.shape}, {self.gaps.shape} and {signs.shape}."
            )
        # A layer at zero has sign 0; it makes the coordinate frozen, where the sign is not used.
        self.sign = jnp.where(jnp.prod(signs, axis=0) < 0, -1, 1).astype(signs.dtype)
        self.factor = float(factor)

    @property
    def _unit(self) -> Float[Array, " d"]:
        """c s: theta and 1/xi in this unit are those of a network with positive signs."""
        return self.factor * self.sign

    @property
    def _tied(self) -> Bool[Array, " d"]:
        return self.gaps[0] == 0

    @property
    def _frozen(self) -> Bool[Array, " d"]:
        return self._tied & (self.smallest == 0)

    def _movable(self) -> tuple[Array, Array]:
        """v_0 and the gaps, with a harmless start in place of frozen coordinates."""
        frozen = self._frozen
        return jnp.where(frozen, 1, self.smallest), jnp.where(frozen[None], 1, self.gaps)

    @property
    def start(self) -> Float[Array, " d"]:
        return self._unit * self.smallest * density(*self._movable())

    @property
    def domain(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The whole line; the half line of the sign of theta_0 at a tie; 0 where nothing moves."""
        side = jnp.where(self._tied, jnp.sign(self._unit * self.smallest), 0)
        infinite = jnp.where(self._frozen, 0, jnp.inf).astype(side.dtype)
        return jnp.where(side > 0, 0, -infinite), jnp.where(side < 0, 0, infinite)

    @property
    def dual_domain(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The open range of xi: (-W_-, W_+), the whole line for L = 2.

        W_+ = int dr/|p(r)| from s v_0 and W_- from -s v_0 to infinity, s the sign of p. Infinite
        where theta tends to 0 at a tie, and where nothing moves.
        """
        smallest, gaps = self._movable()
        toward = jnp.sign(self._unit) * smallest
        upper, lower = (dual_tail(v, gaps) / abs(self.factor) for v in (toward, -toward))
        frozen = self._frozen
        return jnp.where(frozen, -jnp.inf, -lower), jnp.where(frozen, jnp.inf, upper)

    def _value(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        smallest, gaps = self._movable()
        values = divergence(self._movable_theta(theta), smallest, gaps)
        return jnp.where(self._frozen, 0, values)

    def _movable_theta(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.where(self._frozen, 1, theta / self._unit)

    def _mirror_map(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        smallest, gaps = self._movable()
        v = smallest_layer(self._movable_theta(theta), gaps)
        return jnp.where(self._frozen, 0, dual(smallest, v, gaps) / self._unit)

    def _smallest_at(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        smallest, gaps = self._movable()
        return primal(smallest, jnp.where(self._frozen, 0, self._unit * xi), gaps)

    def _inverse_mirror_map(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        v = self._smallest_at(xi)
        theta = self._unit * v * density(v, self._movable()[1])
        return jnp.where(self._frozen, 0, theta)

    def _conjugate(self, xi: Float[Array, " d"]) -> Float[Array, " d"]:
        smallest, gaps = self._movable()
        v = self._smallest_at(xi)
        # Close to the start v - v_0 has lost digits that xi still has.
        near = jnp.abs(v - smallest) < 0.1 * jnp.abs(smallest)
        theta = jnp.where(near, v * density(v, gaps), smallest * density(smallest, gaps))
        by_xi = self._unit * xi * theta - divergence(theta, smallest, gaps)
        values = jnp.where(near, by_xi, 0.5 * (v - smallest) * (v + smallest))
        return jnp.where(self._frozen, 0, values)

    def _hessian(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        gaps = self._movable()[1]
        v = smallest_layer(self._movable_theta(theta), gaps)
        metric = jnp.square(self.factor * density(v, gaps)) * exponent(v, gaps)
        return jnp.where(self._frozen, jnp.inf, 1 / metric)

    def _bregman(
        self, theta: Float[Array, " d"], reference: Float[Array, " d"]
    ) -> Float[Array, " d"]:
        gaps = self._movable()[1]
        v = smallest_layer(self._movable_theta(reference), gaps)
        values = divergence(self._movable_theta(theta), v, gaps)
        return jnp.where(self._frozen, 0, values)
