"""The canonical form of a deep diagonal network: its d essential unknowns."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Int
from ddln.parameterizations._base import AbstractReducedCoordinates


class CanonicalForm(AbstractReducedCoordinates):
    """Coordinates in which the gradient flow of a deep diagonal network has d unknowns.

    At each coordinate let v be the layer that is smallest in absolute value at the start, v_0 its
    start, and Delta_j = (u^j_0)^2 - v_0^2 >= 0 the gaps of the other L - 1 layers. Gradient flow
    conserves the gaps (Labarrière et al. 2024, Proposition 1), so that for all times

        |u^j| = sqrt(v^2 + Delta_j),   p(v) = c s prod_j sqrt(v^2 + Delta_j),   theta = v p(v),
        v' = -p(v) grad L(theta),

    with s the product of the signs of the other layers and c the factor. Where a gap is zero (a tie:
    Assumption A does not hold), sqrt(v^2 + 0) is replaced by sign(v_0) v, its smooth continuation:
    the tied layers stay equal up to sign. A coordinate with two layers at zero has p = 0 and never moves.

    Attributes:
        start: v_0, signed, shape [d].
        gaps: the gaps, ascending along the first axis, shape [L-1, d].
        signs: the signs of the other layers, in the order of `gaps` (0 for a layer at zero).
        permutation: row r of the layers sorted by absolute value is layer `permutation[r, i]` at
            coordinate i; row 0 is v. Shape [L, d].
        factor: the constant c.
    """

    start: Float[Array, " d"]
    gaps: Float[Array, "others d"]
    signs: Float[Array, "others d"]
    permutation: Int[Array, "L d"]
    factor: float = eqx.field(static=True)

    @classmethod
    def of(cls, layers: Float[Array, "L d"], factor: float) -> "CanonicalForm":
        """The canonical form of layers; equal absolute values are kept in the order of the layers."""
        sizes = jax.lax.stop_gradient(jnp.abs(layers))
        rows = jax.lax.broadcasted_iota(int, layers.shape, 0)
        _, ordered, permutation = jax.lax.sort((sizes, layers, rows), dimension=0, num_keys=1)
        sizes = jnp.abs(ordered)
        # The factored difference of squares keeps small gaps to relative rounding.
        gaps = (sizes[1:] - sizes[:1]) * (sizes[1:] + sizes[:1])
        return cls(ordered[0], gaps, jnp.sign(ordered[1:]), permutation, factor)

    @property
    def depth(self) -> int:
        return self.gaps.shape[0] + 1

    def _others(self, v: Float[Array, " d"]) -> Float[Array, "others d"]:
        """The signed layers other than v, in the order of `gaps`."""
        return _others(v, self.gaps, self.signs, jnp.sign(self.start))

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return v * self.speed(v)

    def effective_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.with_slopes(v)[2]

    def speed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.factor * product_of_rows(self._others(v))

    def effective_and_speed(self, v: Float[Array, " d"]) -> tuple[Array, Array]:
        speed = self.speed(v)
        return v * speed, speed

    def speed_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.with_slopes(v)[3]

    def with_slopes(self, v: Float[Array, " d"]) -> tuple[Array, Array, Array, Array]:
        others = self._others(v)
        speed = self.factor * product_of_rows(others)
        slopes = _slopes(v, others, self.signs, jnp.sign(self.start))
        slope = self.factor * jnp.sum(slopes * products_of_others(others), axis=0)
        return v * speed, speed, speed + v * slope, slope

    def layers(self, v: Float[Array, " d"]) -> Float[Array, "L d"]:
        """The layers of the network whose smallest layer is v, in their original order."""
        ordered = jnp.concatenate([v[None, :], self._others(v)])
        return jax.lax.sort((self.permutation, ordered), dimension=0, num_keys=1)[1]

    def decayed(self, total: Float[Array, ""]) -> "CanonicalForm":
        # A gap that is not zero is never to become a tie, which keeps the sign of v.
        least = float(jnp.finfo(self.gaps.dtype).tiny)
        gaps = jnp.maximum(self.gaps * jnp.exp(-2 * total).astype(self.gaps.dtype), least)
        gaps = jnp.where(self.gaps > 0, gaps, 0)
        return dataclasses.replace(self, gaps=gaps)

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        return (self.layers(v),)


@jax.custom_jvp
def _others(
    v: Float[Array, " d"],
    gaps: Float[Array, "others d"],
    signs: Float[Array, "others d"],
    sign: Float[Array, " d"],
) -> Float[Array, "others d"]:
    """The layers other than v: sqrt(v^2 + gap) with their signs, or, where the gap is zero, sign v."""
    tied = gaps == 0
    sizes = jnp.sqrt(jnp.where(tied, 1, jnp.square(v)[None, :] + gaps))
    return signs * jnp.where(tied, (sign * v)[None, :], sizes)


@_others.defjvp
def _others_jvp(primals, tangents):
    v, _, signs, sign = primals
    others = _others(*primals)
    in_gaps = 0.5 * _over(1, others, signs)
    return others, _slopes(v, others, signs, sign) * tangents[0][None, :] + in_gaps * tangents[1]


def _slopes(v: Array, others: Array, signs: Array, sign: Array) -> Float[Array, "others d"]:
    """The derivatives of the other layers u in v: u du = v dv."""
    # A layer at zero is tied, or has a sign of zero.
    return _over(v[None, :], others, signs * sign[None, :])


def _over(numerator: Array | int, others: Array, at_zero: Array) -> Float[Array, "others d"]:
    """numerator / others, and `at_zero` where the divisor is zero."""
    zero = others == 0
    return jnp.where(zero, at_zero, numerator * (1 / jnp.where(zero, 1, others)))


@jax.custom_jvp
def product_of_rows(rows: Float[Array, "k d"]) -> Float[Array, " d"]:
    """The product of all rows, with a derivative that divides by none of them."""
    return jnp.prod(rows, axis=0)


@product_of_rows.defjvp
def _product_of_rows_jvp(primals, tangents):
    (rows,), (tangent,) = primals, tangents
    return product_of_rows(rows), jnp.sum(products_of_others(rows) * tangent, axis=0)


def products_of_others(rows: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The product of all other rows, for each row, without division: zeros are exact."""
    one = jnp.ones_like(rows[0])
    before = list(itertools.accumulate(rows[:-1], jnp.multiply, initial=one))
    after = list(itertools.accumulate(rows[:0:-1], jnp.multiply, initial=one))[::-1]
    return jnp.stack([a * b for a, b in zip(before, after, strict=True)])
