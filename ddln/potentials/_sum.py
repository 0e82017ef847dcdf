"""The mirror geometry of sums of separable parameterizations, and of sums of products of pairs."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Theta
from ddln.parameterizations import (
    AbstractParameterization,
    CanonicalForm,
    FourVector,
    Sum,
)
from ddln.potentials._base import AbstractCurve, AbstractPotential
from ddln.potentials._deep_diagonal import DeepDiagonalPotential
from ddln.potentials._numerical import NumericalPotential
from ddln.potentials._potential import MirrorGeometry, mirror_geometry
from ddln.potentials._separable import AbstractSeparablePotential

# Most steps of a point along the curve, each with a change of z of one or less.
MOST_STEPS = 512
# Most iterations by which a term finds its step; more than bisection to rounding takes.
MOST_ITERATIONS = 60

# One coordinate for each term.
Point = tuple[Any, ...]


class SumCurve(AbstractCurve):
    """The curve of theta = offset + theta_1(xi) + ... + theta_K(xi): all terms at the same xi.

    A point is a tuple with a coordinate of each term. The terms take equal steps of xi, so that none
    loses the distance of xi to an end of its range. The step in z,

        dz = max_k (weight_k |dz_k|),

    is that of the term which admits the least change of xi; the other terms then move by less than
    they may, and find their steps by Newton's method between bounds.
    """

    curves: tuple[AbstractCurve, ...]
    offset: Float[Array, " d"]
    reach: ClassVar[float] = 1.0

    @property
    def origin(self) -> Point:
        return tuple(curve.origin for curve in self.curves)

    def at(self, v: Point) -> Float[Array, " d"]:
        parts = [curve.at(one) for curve, one in self._with(v)]
        return functools.reduce(jnp.add, parts, self.offset)

    def metric(self, v: Point) -> Float[Array, " d"]:
        return _total([curve.metric(one) for curve, one in self._with(v)])

    def _rate(self, v: Point) -> Float[Array, " d"]:
        """dz / dxi."""
        rates = [_weight(curve, one) * _speed(curve, one) for curve, one in self._with(v)]
        return functools.reduce(jnp.maximum, rates)

    def slope(self, v: Point) -> Float[Array, " d"]:
        """d theta / d z."""
        rate = self._rate(v)
        moves = rate > 0
        return jnp.where(moves, self.metric(v) / jnp.where(moves, rate, 1), 1)

    def scale(self, v: Point) -> Float[Array, " d"]:
        return jnp.ones_like(self.offset)

    def steepness(self, v: Point) -> Float[Array, " d"]:
        parts = [curve.steepness(one) / _weight(curve, one) for curve, one in self._with(v)]
        return functools.reduce(jnp.maximum, parts)

    def advance(self, v: Point, dz: Float[Array, " d"]) -> Point:
        return self.move(v, dz)[0]

    def step(self, v: Point, dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.move(v, dz)[1]

    def move(self, v: Point, dz: Float[Array, " d"]) -> tuple[Point, Float[Array, " d"]]:
        longest, changes = self._longest(v, dz)
        least = jnp.where(dz == 0, 0, functools.reduce(jnp.minimum, changes))
        return self._followed(v, least, longest, changes), jnp.sign(dz) * least

    def follow(self, v: Point, dxi: Float[Array, " d"], dz: Float[Array, " d"]) -> Point:
        """v after a change of xi, of the sign of dz and not more than a step dz changes it."""
        return self._followed(v, jnp.abs(dxi), *self._longest(v, dz))

    def _longest(self, v: Point, dz: Float[Array, " d"]) -> tuple[list[Array], list[Array]]:
        """The longest step of each term over a step dz, and the change of |xi| that it would be."""
        longest, changes = [], []
        for curve, one in self._with(v):
            sign = jnp.where(curve.slope(one) < 0, -1, 1).astype(dz.dtype)
            longest.append(sign * dz / _weight(curve, one))
            change = jnp.abs(curve.step(one, longest[-1]))
            changes.append(jnp.where(curve.metric(one) == 0, jnp.inf, change))
        return longest, changes

    def _followed(
        self, v: Point, least: Float[Array, " d"], longest: list[Array], changes: list[Array]
    ) -> Point:
        """v after a change of |xi| that is the least one, within the longest steps."""
        moved = []
        for most, change, (curve, one) in zip(longest, changes, self._with(v), strict=True):
            still = curve.metric(one) == 0
            # Exact for the term with the least change, and for those whose xi is linear in z.
            share = least / jnp.where(change > 0, change, 1)
            first = jnp.where(still, 0, most * jnp.where(still, 0, share))
            step = _inverse_step(curve, one, first, most, least, still)
            moved.append(curve.advance(one, step))
        return tuple(moved)

    def dual(self, v: Point) -> Float[Array, " d"]:
        """xi, as the mean of that of the terms by their share of M: the derivative needs this one."""
        shares = self._shares(v)
        parts = [
            share * curve.dual(one)
            for share, (curve, one) in zip(shares, self._with(v), strict=True)
        ]
        return _total(parts)

    def _shares(self, v: Point) -> list[Float[Array, " d"]]:
        metric = jax.lax.stop_gradient(self.metric(v))
        parts = [jax.lax.stop_gradient(curve.metric(one)) for curve, one in self._with(v)]
        return [part / jnp.where(metric > 0, metric, 1) for part in parts]

    def tangent(self, v: Point, curve_dot: "SumCurve", change: Float[Array, " d"]) -> Point:
        # theta_k changes by M_k (dxi - d xi_k), and all of them by `change`.
        explicit = [
            jax.jvp(lambda c, one=one: c.dual(one), (curve,), (dot,))[1]
            for dot, (curve, one) in zip(curve_dot.curves, self._with(v), strict=True)
        ]
        mean = _total([s * e for s, e in zip(self._shares(v), explicit, strict=True)])
        metric = self.metric(v)
        dual_dot = change / jnp.where(metric > 0, metric, 1) + mean
        return tuple(
            (dual_dot - own) * curve.metric(one) / curve.slope(one)
            for own, (curve, one) in zip(explicit, self._with(v), strict=True)
        )

    def confined(self) -> Bool[Array, ""]:
        return jnp.all(jnp.stack([curve.confined() for curve in self.curves]))

    def _with(self, v: Point):
        return zip(self.curves, v, strict=True)


def _total(parts: list[Array]) -> Array:
    return functools.reduce(jnp.add, parts)


def _weight(curve: AbstractCurve, v: Any) -> Float[Array, " d"]:
    """The weight of the step of a term: 1, and next to nothing for a straight line, which has no scale."""
    steepness = curve.steepness(v)
    least = max(1 / curve.reach, float(jnp.finfo(steepness.dtype).eps))
    return jnp.clip(steepness, least, 1)


def _speed(curve: AbstractCurve, v: Any) -> Float[Array, " d"]:
    """|dz_k / dxi| of a term."""
    return jnp.abs(curve.metric(v) / (curve.slope(v) * curve.scale(v)))


def _inverse_step(
    curve: AbstractCurve, v: Any, first: Array, most: Array, change: Array, still: Array
) -> Float[Array, " d"]:
    """The step dz of a term over which |xi| changes by `change`, between 0 and `most`.

    Newton's method, with bisection where it would leave the bounds.
    """
    close = float(jnp.finfo(first.dtype).eps) ** 0.6
    sign = jnp.where(most < 0, -1, 1).astype(first.dtype)

    def unfinished(state):
        _, _, _, active, count = state
        return jnp.any(active) & (count < MOST_ITERATIONS)

    def newton(state):
        size, low, high, active, count = state
        excess = jnp.abs(curve.step(v, sign * size)) - change
        low = jnp.where(excess <= 0, size, low)
        high = jnp.where(excess >= 0, size, high)
        following = size - excess * _speed(curve, curve.advance(v, sign * size))
        inside = (following >= low) & (following <= high)
        following = jnp.where(inside, following, 0.5 * (low + high))
        following = jnp.where(active, following, size)
        far = jnp.abs(following - size) > close * jnp.abs(size)
        return following, low, high, active & far, count + 1

    size, high = jnp.abs(first), jnp.abs(most)
    state = (size, jnp.zeros_like(size), high, ~still & (size > 0), jnp.asarray(0))
    return sign * jax.lax.while_loop(unfinished, newton, state)[0]


@jax.custom_jvp
@jax.jit
def _point_over(theta: Float[Array, " d"], curve: SumCurve) -> tuple[Point, Float[Array, " d"]]:
    """The point over theta and its xi, nan where it is not found, by Newton's method in z."""
    close = float(jnp.finfo(theta.dtype).eps) ** 0.6

    def unfinished(state):
        _, _, active, count = state
        return jnp.any(active) & (count < MOST_STEPS)

    def newton(state):
        v, xi, active, count = state
        dz = jnp.clip((theta - curve.at(v)) / curve.slope(v), -1, 1)
        there, change = curve.move(v, jnp.where(active, dz, 0))
        return there, xi + change, active & (jnp.abs(dz) > close), count + 1

    state = (curve.origin, jnp.zeros_like(theta), theta != curve.at(curve.origin), jnp.asarray(0))
    v, xi, active, _ = jax.lax.while_loop(unfinished, newton, state)
    return v, jnp.where(active, jnp.nan, xi)


@_point_over.defjvp
def _point_over_jvp(primals, tangents):
    (theta, curve), (theta_dot, curve_dot) = primals, tangents
    v, xi = _point_over(theta, curve)
    change = theta_dot - jax.jvp(lambda c: c.at(v), (curve,), (curve_dot,))[1]
    explicit = jax.jvp(lambda c: c.dual(v), (curve,), (curve_dot,))[1]
    metric = curve.metric(v)
    xi_dot = change / jnp.where(metric > 0, metric, 1) + explicit
    return (v, xi), (curve.tangent(v, curve_dot, change), xi_dot)


class SumPotential(AbstractSeparablePotential):
    """The potential of a sum theta = offset + theta_1 + ... + theta_K of separable terms.

    All terms of a flow have the same dual xi. With the potentials Q_k of the terms,

        grad Q*(xi) = offset + sum_k grad Q_k*(xi),      Q*(xi) = <offset, xi> + sum_k Q_k*(xi),
        Q(theta) = min { sum_k Q_k(theta_k) : offset + sum_k theta_k = theta },     M = sum_k M_k,

    the infimal convolution of the Q_k. The range of xi is the intersection of those of the terms. For
    a given theta the terms are found by Newton's method along their common curve, to rounding
    relative to theta also where xi is close to an end of its range.

    Args:
        potentials: the potentials Q_k.
        curve: the common curve of the terms, in the order of `potentials`, theta flattened.
        start: theta_0.
    """

    potentials: tuple[AbstractSeparablePotential, ...]
    curve: SumCurve
    origin: Theta

    def __init__(self, potentials, curve: SumCurve, start: Theta):
        self.potentials = tuple(potentials)
        self.curve = curve
        self.origin = start

    @property
    def start(self) -> Theta:
        return self.origin

    @property
    def _offset(self) -> Theta:
        return self.curve.offset.reshape(self.origin.shape)

    @property
    def domain(self) -> tuple[Theta, Theta]:
        lower, upper = zip(*(q.domain for q in self.potentials), strict=True)
        return self._offset + _total(list(lower)), self._offset + _total(list(upper))

    @property
    def dual_domain(self) -> tuple[Theta, Theta]:
        lower, upper = zip(*(q.dual_domain for q in self.potentials), strict=True)
        return functools.reduce(jnp.maximum, lower), functools.reduce(jnp.minimum, upper)

    def _over(self, theta: Theta) -> tuple[Point, Theta]:
        v, xi = _point_over(theta.reshape(-1), self.curve)
        return v, xi.reshape(theta.shape)

    def _terms(self, theta: Theta) -> list[Theta]:
        """theta_k, with the finite ends of their domains where theta is at its own."""
        (lower, upper), shape = self.domain, theta.shape
        at_lower, at_upper = (theta == lower) & (lower < upper), (theta == upper) & (lower < upper)
        v, xi = self._over(jnp.where(at_lower | at_upper, self.origin, theta))
        found = []
        for q, curve, one in zip(self.potentials, self.curve.curves, v, strict=True):
            part = jnp.where(jnp.isnan(xi), jnp.nan, curve.at(one).reshape(shape))
            low, high = q.domain
            found.append(jnp.where(at_lower, low, jnp.where(at_upper, high, part)))
        return found

    def _value(self, theta: Theta) -> Theta:
        parts = zip(self.potentials, self._terms(theta), strict=True)
        return _total([q._value(part) for q, part in parts])

    def _mirror_map(self, theta: Theta) -> Theta:
        return self._over(theta)[1]

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        parts = [q._inverse_mirror_map(xi) for q in self.potentials]
        return functools.reduce(jnp.add, parts, self._offset)

    def _conjugate(self, xi: Theta) -> Theta:
        parts = [q._conjugate(xi) for q in self.potentials]
        return functools.reduce(jnp.add, parts, self._offset * xi)

    def _hessian(self, theta: Theta) -> Theta:
        return 1 / self.curve.metric(self._over(theta)[0]).reshape(theta.shape)

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        parts = zip(self.potentials, self._terms(theta), self._terms(reference), strict=True)
        return _total([q._bregman(part, other) for q, part, other in parts])


@mirror_geometry.register
def _(start: FourVector) -> MirrorGeometry:
    pairs = start.pairs()
    return _of_layers(pairs.canonical(), pairs.leaves)


@mirror_geometry.register
def _(start: Sum) -> MirrorGeometry | None:
    if (pairs := start.pairs()) is not None:
        return _of_layers(pairs.canonical(), pairs.leaves)
    terms = start.trained()
    found = [mirror_geometry(term) for term in terms]
    geometries = [one for one in found if one is not None and None not in (one.curve, one.weights)]
    if len(geometries) < len(found):
        return None

    def curve() -> SumCurve:
        parts = tuple(one.curve() for one in geometries)  # pyright: ignore
        return SumCurve(parts, start.offset().reshape(-1))  # pyright: ignore[reportCallIssue]

    def weights(v: Point) -> tuple[Array, ...]:
        parts = [one.weights(own) for one, own in zip(geometries, v, strict=True)]  # pyright: ignore
        return tuple(leaf for part in parts for leaf in part)

    return MirrorGeometry(lambda: _potential(start, geometries, curve()), curve, weights)


def _of_layers(form: CanonicalForm, weights: Any) -> MirrorGeometry:
    """The geometry of products of pairs: that of their two layers."""

    def of_form() -> DeepDiagonalPotential:
        return DeepDiagonalPotential(form.start, form.gaps, form.signs, form.factor)

    return MirrorGeometry(of_form, of_form, weights)


def _potential(
    start: AbstractParameterization, geometries: list[MirrorGeometry], curve: SumCurve
) -> AbstractPotential:
    potentials = [one.potential() for one in geometries]
    if all(isinstance(q, AbstractSeparablePotential) for q in potentials):
        return SumPotential(potentials, curve, start.effective())
    return NumericalPotential(start)
