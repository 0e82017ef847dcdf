"""The canonical form of a deep diagonal network under steepest descent in other norms."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Int, Scalar
from ddln.parameterizations._base import AbstractReducedCoordinates
from ddln.parameterizations._canonical import product_of_rows, products_of_others


class SmoothPower(eqx.Module):
    """phi(x) = sign(x) |x|^(q-1), smoothed where |x| is below width times a scale.

    With z = x / scale, phi(x) = scale^(q-1) z (z^2 + width^2)^((q-2)/2): x for q = 2, and for q = 1
    the sign function outside of the width.

    Attributes:
        exponent: q, at least 1.
        scale: a size of x, positive.
        width: the width relative to the scale, positive.
    """

    exponent: Scalar
    scale: Scalar
    width: Scalar

    @classmethod
    def of(cls, exponent: Scalar, width: Scalar, *values: Array) -> "SmoothPower":
        """The power whose scale is the largest |x| of some values."""
        largest = jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in values]).max()
        usable = jnp.isfinite(largest) & (largest > 0)
        return cls(exponent, jnp.where(usable, largest, 1), width)

    def __call__(self, x: Array) -> Array:
        return x * self.ratio(x)

    def ratio(self, x: Array) -> Array:
        """phi(x) / x."""
        q, scale = self.exponent, self.scale
        square = jnp.square(x / scale) + jnp.square(self.width)
        return scale ** (q - 2) * square ** ((q - 2) / 2)

    def slope(self, x: Array) -> Array:
        """phi'(x), not negative."""
        q, z2, w2 = self.exponent, jnp.square(x / self.scale), jnp.square(self.width)
        return self.ratio(x) * ((q - 1) * z2 + w2) / (z2 + w2)


class SteepestForm(AbstractReducedCoordinates):
    """Coordinates in which steepest descent of a deep diagonal network has d unknowns.

    Steepest descent u_j' = -phi(g P_j), phi(x) = sign(x) |x|^(q-1), P_j = c prod_{k != j} u_k,
    conserves the gaps |u_j|^q - |u_k|^q of each coordinate. With v the smallest layer at the start,

        |u_j|^q = |v|^q + Delta_j,   P(v) = c s prod_j (|v|^q + Delta_j)^(1/q),   theta = v P(v),
        v' = -phi(P(v)) phi(grad L(theta)).

    Ties (Delta_j = 0) are continued smoothly, as in `CanonicalForm`, to which this is equal for q = 2.

    Attributes:
        start: v_0, signed, shape [d].
        sizes: |u_j| at the start of the other layers, 1 for a layer at zero, ascending, shape [L-1, d].
        gaps: Delta_j / sizes^q, from 0 to 1, which neither underflow nor overflow, shape [L-1, d].
        signs: the signs of the other layers, 0 for a layer at zero, shape [L-1, d].
        permutation: as in `CanonicalForm`, shape [L, d].
        power: phi for P.
        factor: the constant c.
    """

    start: Float[Array, " d"]
    sizes: Float[Array, "others d"]
    gaps: Float[Array, "others d"]
    signs: Float[Array, "others d"]
    permutation: Int[Array, "L d"]
    power: SmoothPower
    factor: float = eqx.field(static=True)

    @classmethod
    def of(
        cls, layers: Float[Array, "L d"], factor: float, exponent: Scalar, width: Scalar
    ) -> "SteepestForm":
        """The form of layers; equal absolute values are kept in the order of the layers."""
        order = jax.lax.stop_gradient(jnp.abs(layers))
        rows = jax.lax.broadcasted_iota(int, layers.shape, 0)
        _, ordered, permutation = jax.lax.sort((order, layers, rows), dimension=0, num_keys=1)
        start, signs = ordered[0], jnp.sign(ordered[1:])
        sizes = jnp.where(signs == 0, 1, jnp.abs(ordered[1:]))
        smallest = jnp.abs(start)[None, :]
        # 1 - (|v| / size)^q by the difference, so that small gaps keep their digits.
        short = jnp.where(signs == 0, 0, (smallest - sizes) / sizes)
        whole = short <= -1
        gaps = jnp.where(whole, 1, -jnp.expm1(exponent * jnp.log1p(jnp.where(whole, 0, short))))
        power = SmoothPower.of(exponent, width, factor * products_of_others(layers))
        return cls(start, sizes, gaps, signs, permutation, power, factor)

    def _others(self, v: Float[Array, " d"]) -> tuple[Array, Array]:
        """The signed layers other than v, and their derivatives in v."""
        q, tied = self.power.exponent, self.gaps == 0
        zero = (v == 0)[None, :]
        # |v|^q has no second derivative at v = 0 for q < 2: zero is used there.
        share = jnp.where(zero, 1, jnp.abs(v)[None, :] / self.sizes) ** q
        share = jnp.where(zero, 0, share)
        sizes = self.sizes * jnp.where(tied, 1, share + self.gaps) ** (1 / q)
        continued = (jnp.sign(self.start) * v)[None, :]
        others = self.signs * jnp.where(tied, continued, sizes)
        ratio = jnp.where(zero, 1, jnp.abs(v)[None, :] / sizes) ** (q - 1)
        slopes = jnp.where(zero, 0, jnp.sign(v)[None, :] * ratio)
        return others, self.signs * jnp.where(tied, jnp.sign(self.start)[None, :], slopes)

    def with_slopes(self, v):
        others, slopes = self._others(v)
        rest = self.factor * product_of_rows(others)
        rest_slope = self.factor * jnp.sum(slopes * products_of_others(others), axis=0)
        return (
            v * rest,
            self.power(rest),
            rest + v * rest_slope,
            self.power.slope(rest) * rest_slope,
        )

    def effective_and_speed(self, v):
        rest = self.factor * product_of_rows(self._others(v)[0])
        return v * rest, self.power(rest)

    def effective(self, v):
        return self.effective_and_speed(v)[0]

    def speed(self, v):
        return self.effective_and_speed(v)[1]

    def effective_slope(self, v):
        return self.with_slopes(v)[2]

    def speed_slope(self, v):
        return self.with_slopes(v)[3]

    def decayed(self, total):
        shrunk = self.gaps * jnp.exp(-self.power.exponent * total).astype(self.gaps.dtype)
        # A gap that is not zero is never to become a tie, which keeps the sign of v.
        shrunk = jnp.maximum(shrunk, float(jnp.finfo(shrunk.dtype).tiny))
        return dataclasses.replace(self, gaps=jnp.where(self.gaps > 0, shrunk, 0))

    def weights(self, v):
        ordered = jnp.concatenate([v[None, :], self._others(v)[0]])
        return (jax.lax.sort((self.permutation, ordered), dimension=0, num_keys=1)[1],)
