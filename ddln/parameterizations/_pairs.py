"""Signed sums of products of pairs, theta = c sum_k s_k a_k b_k, as one network of two layers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.parameterizations._base import AbstractReducedCoordinates
from ddln.parameterizations._canonical import CanonicalForm
from ddln.parameterizations._deep_diagonal import DeepDiagonal


class Pairs(eqx.Module):
    """theta = c sum_k s_k a_k b_k, elementwise, s_k = +-1 and c > 0.

    Along a gradient flow p_k = a_k + s_k b_k and q_k = a_k - s_k b_k obey p_k' = -c g p_k and
    q_k' = c g q_k: all p_k shrink by one factor exp(-c int g), and all q_k grow by it. With
    P = sqrt(sum p_k^2) and Q = sqrt(sum q_k^2),

        theta = c (P^2 - Q^2) / 4 = c u v,   u = (P + Q) / 2,   v = (P - Q) / 2,   M = c^2 (u^2 + v^2):

    the flow of theta is that of the two layers u and v with the gap u^2 - v^2 = P Q.

    Attributes:
        first: a, shape [K, d].
        second: b, shape [K, d].
        signs: s, one for each pair.
        factor: c > 0.
        stacked: for each pair, True if it is one leaf of weights [2, d], False if it is two leaves [d].
    """

    first: Float[Array, "K d"]
    second: Float[Array, "K d"]
    signs: tuple[float, ...] = eqx.field(static=True)
    factor: float = eqx.field(static=True)
    stacked: tuple[bool, ...] = eqx.field(static=True)

    @classmethod
    def joined(cls, parts: "Sequence[Pairs]") -> "Pairs":
        """All pairs of several sums with the same c."""
        return cls(
            jnp.concatenate([part.first for part in parts]),
            jnp.concatenate([part.second for part in parts]),
            sum((part.signs for part in parts), ()),
            parts[0].factor,
            sum((part.stacked for part in parts), ()),
        )

    def _sides(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """p and q."""
        signed = jnp.asarray(self.signs, self.first.dtype)[:, None] * self.second
        return self.first + signed, self.first - signed

    def canonical(self) -> CanonicalForm:
        """The canonical form of the layers u and v; v is the smaller one."""
        p, q = (_norm(side) for side in self._sides())
        signs = jnp.asarray(self.signs, p.dtype)[:, None]
        # (P - Q) / 2 without cancellation.
        products = jnp.sum(signs * self.first * self.second, axis=0)
        total = p + q
        v = 2 * products / jnp.where(total > 0, total, 1)
        # At a tie exactly the other layer, up to its sign.
        v = jnp.where(p * q == 0, 0.5 * (p - q), v)
        order = jnp.broadcast_to(jnp.arange(1, -1, -1)[:, None], (2, v.size))
        return CanonicalForm(v, (p * q)[None], jnp.sign(total)[None], order, self.factor)

    def network(self) -> DeepDiagonal:
        """The network c u v."""
        form = self.canonical()
        return DeepDiagonal(form.layers(form.start), self.factor)

    def leaves(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        """The weights at the smaller layer v, leaf after leaf."""
        p, q = self._sides()
        start = _norm(p), _norm(q)
        form = self.canonical()
        gap = form.gaps[0]
        larger = form.layers(v)[0]
        up, down = larger + v, larger - v
        # The smaller of u + v and u - v without cancellation.
        up, down = (
            jnp.where(v >= 0, up, gap / jnp.where(down > 0, down, 1)),
            jnp.where(v <= 0, down, gap / jnp.where(up > 0, up, 1)),
        )
        p, q = (
            side * (now / jnp.where(before > 0, before, 1))[None]
            for side, now, before in zip((p, q), (up, down), start, strict=True)
        )
        signs = jnp.asarray(self.signs, p.dtype)[:, None]
        found = []
        for a, b, stacked in zip(0.5 * (p + q), 0.5 * signs * (p - q), self.stacked, strict=True):
            found += [jnp.stack([a, b])] if stacked else [a, b]
        return tuple(found)


class PairCoordinates(AbstractReducedCoordinates):
    """The canonical form of the two layers that stand for pairs; the weights are those of the pairs."""

    form: CanonicalForm
    pairs: Pairs

    @classmethod
    def of(cls, pairs: Pairs) -> "PairCoordinates":
        """The coordinates of a flow that starts at these pairs."""
        return cls(pairs.canonical(), pairs)  # pyright: ignore[reportCallIssue]

    @property
    def start(self) -> Float[Array, " d"]:
        return self.form.start

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.form.effective(v)

    def effective_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.form.effective_slope(v)

    def speed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.form.speed(v)

    def effective_and_speed(self, v: Float[Array, " d"]) -> tuple[Array, Array]:
        return self.form.effective_and_speed(v)

    def speed_slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.form.speed_slope(v)

    def with_slopes(self, v: Float[Array, " d"]) -> tuple[Array, Array, Any, Any]:
        return self.form.with_slopes(v)

    def decayed(self, total: Float[Array, ""]) -> "PairCoordinates":
        shrinks = jnp.exp(-total).astype(self.pairs.first.dtype)
        pairs = dataclasses.replace(
            self.pairs, first=shrinks * self.pairs.first, second=shrinks * self.pairs.second
        )
        return PairCoordinates(self.form.decayed(total), pairs)  # pyright: ignore[reportCallIssue]

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        return self.pairs.leaves(v)


def _norm(rows: Float[Array, "K d"]) -> Float[Array, " d"]:
    """The norm of each column, with the derivative 0 where it is zero."""
    squares = jnp.sum(jnp.square(rows), axis=0)
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))
