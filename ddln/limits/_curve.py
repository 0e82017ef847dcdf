"""The curves (theta, xi) along which separable mirror flows run, one per coordinate."""

import abc
from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Bool, Float
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    Identity,
    Power,
    PowerDifference,
    Square,
)
from ddln.potentials import PowerDifferencePotential, dual
from ddln.potentials._smallest_layer import density, exponent


class AbstractCurve(eqx.Module):
    """Points (theta, xi = grad Q(theta)), elementwise, as functions of a coordinate v.

    A mirror flow stays on it, and so does its limit. Steps are taken in a second coordinate z(v), in
    which theta and xi change mildly: theta by a factor of at most about exp(steepness * dz).

    Every array leaf is real and differentiable.
    """

    start: eqx.AbstractVar[Array]
    # The largest step in z for which `dual_step` is at rounding.
    reach: eqx.AbstractVar[float]

    @abc.abstractmethod
    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """theta(v)."""

    @abc.abstractmethod
    def metric(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """M = d theta / d xi; 0 for a coordinate that never moves."""

    @abc.abstractmethod
    def slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """d theta / d v, not zero; anything for a coordinate that never moves."""

    @abc.abstractmethod
    def stride(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """d v / d z, positive."""

    @abc.abstractmethod
    def steepness(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """How nonlinear theta(z) is: |d log theta / d z| far from the start."""

    @abc.abstractmethod
    def advance(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        """v after a step in z."""

    @abc.abstractmethod
    def dual_step(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        """The change of xi over a step in z, relative to itself accurate however small it is."""

    @abc.abstractmethod
    def dual(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        """xi(v), differentiable in the start as well."""

    def confined(self) -> Bool[Array, ""]:
        """Whether a coordinate keeps its sign, or never moves."""
        return jnp.asarray(False)


class LineCurve(AbstractCurve):
    """xi = theta - theta_0: the identity parameterization."""

    start: Float[Array, " d"]
    reach: float = eqx.field(static=True, default=float("inf"))

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return v

    def metric(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def stride(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def steepness(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.zeros_like(v)

    def advance(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return v + dz

    def dual_step(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return dz

    def dual(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return v - self.start


# Gauss-Legendre nodes for one step: at rounding where v changes by a factor of at most e.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


class DeepDiagonalCurve(AbstractCurve):
    """theta = c s v rho(v), xi = int_{v_0}^v dr / (c s rho(r)), rho(r) = prod_j sqrt(r^2 + Delta_j).

    With v = sqrt(Delta_1) sinh(z): far from the start theta is exponential in z, and the range from
    the smallest theta of any use to the largest is a few tens of units. At a tie, Delta_1 = 0, v keeps
    its sign and z is log |v|.
    """

    start: Float[Array, " d"]
    gaps: Float[Array, "others d"]
    # c s, the sign of the other layers times the factor; 0 where two layers are zero: nothing moves.
    unit: Float[Array, " d"]
    reach: float = eqx.field(static=True, default=1.0)

    def _density(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return density(v, self.gaps)

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.unit * v * self._density(v)

    def metric(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.square(self.unit * self._density(v)) * exponent(v, self.gaps)

    def slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.where(self.unit == 0, 1, self.unit) * self._density(v) * exponent(v, self.gaps)

    def stride(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.sqrt(jnp.square(v) + self.gaps[0])

    def steepness(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return exponent(v, self.gaps)

    def _change(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.stride(v) * jnp.sinh(dz) + 2 * v * jnp.square(jnp.sinh(dz / 2))

    def advance(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return v + self._change(v, dz)

    def dual_step(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        movable = jnp.where(self.unit == 0, 1, self.unit)
        if len(self.gaps) == 1:
            return dz / movable
        change = self._change(v, dz)
        nodes = jnp.asarray(0.5 + 0.5 * _NODES, v.dtype)[:, None]
        weights = jnp.asarray(0.5 * _WEIGHTS, v.dtype)[:, None]
        squares = jnp.square(v[None] + nodes * change[None])
        inverse = jnp.prod(jax.lax.rsqrt(squares[None] + self.gaps[:, None]), axis=0)
        return change * jnp.sum(weights * inverse, axis=0) / movable

    def dual(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return dual(self.start, v, self.gaps) / jnp.where(self.unit == 0, 1, self.unit)

    def confined(self) -> Bool[Array, ""]:
        return jnp.any((self.gaps[0] == 0) | (self.unit == 0))


class PowerDifferenceCurve(AbstractCurve):
    """theta = u^L - v^L with L >= 3 and u, v > 0, in the coordinate x of its potential.

    x = (L - 2) log(u / v), and xi is an affine function of 1 / (1 + e^-x).
    """

    start: Float[Array, " d"]
    potential: PowerDifferencePotential
    reach: float = eqx.field(static=True, default=float("inf"))

    def effective(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.potential.at(v)

    def metric(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.potential.metric(v)

    def slope(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.potential.metric(v) * self.potential.rate(v)

    def stride(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.ones_like(v)

    def steepness(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        depth = self.potential.depth
        return jnp.full_like(v, depth / (depth - 2))

    def advance(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return v + dz

    def dual_step(self, v: Float[Array, " d"], dz: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.potential.step(v, dz)

    def dual(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.potential.step(self.start, v - self.start)

    def confined(self) -> Bool[Array, ""]:
        return ~jnp.all((self.potential.positive > 0) & (self.potential.negative > 0))


@singledispatch
def curve_of(parameterization: AbstractParameterization) -> AbstractCurve | None:
    """The curve on which the mirror flow from this start runs; None if none is known."""
    return None


@curve_of.register
def _(parameterization: Identity) -> AbstractCurve:
    return LineCurve(parameterization.theta.reshape(-1))


@curve_of.register
def _(parameterization: DeepDiagonal) -> DeepDiagonalCurve:
    form = parameterization.canonical()
    frozen = (form.gaps[0] == 0) & (form.start == 0)
    sign = jnp.where(jnp.prod(form.signs, axis=0) < 0, -1, 1).astype(form.start.dtype)
    # A harmless curve for a coordinate that never moves; its theta and metric are zero by its unit.
    return DeepDiagonalCurve(
        start=form.start,
        gaps=jnp.where(frozen[None], 1, form.gaps),
        unit=jnp.where(frozen, 0, form.factor * sign),
    )


@curve_of.register
def _(parameterization: Power | Square) -> AbstractCurve | None:
    return curve_of(_equal_layers(parameterization))


@curve_of.register
def _(parameterization: PowerDifference) -> AbstractCurve | None:
    if parameterization.depth == 2:
        return curve_of(_two_layers(parameterization))
    potential = _power_difference(parameterization)
    return PowerDifferenceCurve(start=potential.origin, potential=potential)


def _power_difference(parameterization: PowerDifference) -> PowerDifferencePotential:
    return PowerDifferencePotential(
        parameterization.positive.reshape(-1),
        parameterization.negative.reshape(-1),
        parameterization.depth,
    )


def _equal_layers(parameterization: Power | Square) -> DeepDiagonal:
    """c w^L as a network of L layers w / sqrt(L): the same theta and the same flow of it."""
    is_square = isinstance(parameterization, Square)
    depth, factor = (2, 0.5) if is_square else (parameterization.depth, 1.0)
    layer = parameterization.weights.reshape(-1) / depth**0.5
    return DeepDiagonal(jnp.tile(layer, (depth, 1)), factor * depth ** (depth / 2))


def _two_layers(parameterization: PowerDifference) -> DeepDiagonal:
    """u^2 - v^2 as the network 2 a b with a, b = (u -+ v) / sqrt(2)."""
    u, v = parameterization.positive.reshape(-1), parameterization.negative.reshape(-1)
    return DeepDiagonal(jnp.stack([u - v, u + v]) / 2**0.5, 2.0)


@singledispatch
def at_point(
    parameterization: AbstractParameterization, v: Float[Array, " d"]
) -> AbstractParameterization:
    """The parameterization whose curve coordinate, on the curve of the given one, is v."""
    name = type(parameterization).__name__
    raise NotImplementedError(f"`at_point` must be registered for {name}, beside `curve_of`.")


@at_point.register
def _(parameterization: Identity, v: Float[Array, " d"]) -> AbstractParameterization:
    return Identity(v.reshape(parameterization.theta.shape))


@at_point.register
def _(parameterization: DeepDiagonal, v: Float[Array, " d"]) -> AbstractParameterization:
    return DeepDiagonal(parameterization.canonical().layers(v), parameterization.factor)


@at_point.register
def _(parameterization: Power | Square, v: Float[Array, " d"]) -> AbstractParameterization:
    layers = _equal_layers(parameterization)
    weights = len(layers.layers) ** 0.5 * layers.canonical().layers(v)[0]
    return eqx.tree_at(
        lambda p: p.weights, parameterization, weights.reshape(parameterization.weights.shape)
    )


@at_point.register
def _(parameterization: PowerDifference, v: Float[Array, " d"]) -> AbstractParameterization:
    if parameterization.depth == 2:
        a, b = _two_layers(parameterization).canonical().layers(v)
        weights = (b + a) / 2**0.5, (b - a) / 2**0.5
    else:
        weights = _power_difference(parameterization).weights(v)
    shape = parameterization.positive.shape
    return eqx.tree_at(
        lambda p: (p.positive, p.negative),
        parameterization,
        tuple(leaf.reshape(shape) for leaf in weights),
    )
