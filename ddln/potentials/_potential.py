"""The registry of mirror geometries: from a parameterization to the potential of its mirror flow."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln._validation import is_known
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    Grouped,
    Identity,
    Power,
    PowerDifference,
    Square,
    Tied,
)
from ddln.potentials._base import AbstractCurve, AbstractPotential
from ddln.potentials._deep_diagonal import DeepDiagonalPotential
from ddln.potentials._entropies import EntropyPotential, HypentropyPotential
from ddln.potentials._numerical import NumericalPotential
from ddln.potentials._powers import PowerDifferencePotential, PowerPotential
from ddln.potentials._quadratic import QuadraticPotential


class MirrorGeometry(NamedTuple):
    """The closed forms of the mirror flow that starts at a parameterization.

    `ddln.potential`, `ddln.limit` and `ddln.l1_weights` read them. Each field is a function, called on
    demand: a potential may reject a start from which the curve still leads to the limit.

    Attributes:
        potential: the potential Q.
        curve: the curve (theta, xi) of the flow, theta flattened.
        weights: the weights at a point v of the curve, as the inexact leaves of the parameterization in
            the order of its tree, up to their shapes. Without a curve and its weights `ddln.limit`
            integrates the flow.
    """

    potential: Callable[[], AbstractPotential]
    curve: Callable[[], AbstractCurve] | None = None
    weights: Callable[[Any], tuple[Array, ...]] | None = None


@singledispatch
def mirror_geometry(parameterization: AbstractParameterization) -> MirrorGeometry | None:
    """The registered mirror geometry of a parameterization, or None.

    For a class of your own, register a function that returns one: `@mirror_geometry.register`.
    """
    return None


@singledispatch
def potential(
    parameterization: AbstractParameterization,
    *,
    integrated_decay: float | Float[Array, ""] | None = None,
) -> AbstractPotential:
    """The potential Q whose mirror flow is the gradient flow that starts at `parameterization`.

    Normalised by Q(theta_0) = 0 and grad Q(theta_0) = 0. In closed form for the separable
    parameterizations of this package, and a `NumericalPotential` for any other; to give one of your
    own, register a function: `@potential.register`, or `@ddln.potentials.mirror_geometry.register` for
    a curve as well.

    Weight decay with the integral Lambda makes the flow of a homogeneous map of degree L a mirror flow whose
    potential moves: at that time it is Q_t, the potential of the weights exp(-Lambda) w_0, and

        grad Q_t(theta(t)) = xi_t,   xi_t' = (L - 2) lambda xi_t - grad L(theta),   xi_0 = 0,

    so that Q_t*(xi) = exp(-2 Lambda) Q*(exp(-(L - 2) Lambda) xi).

    Args:
        parameterization: the start of the flow.
        integrated_decay: Lambda; None is a flow without weight decay.

    Returns:
        The potential.

    Raises:
        ValueError: if the gradient flow is not a mirror flow: the gradient fields of h do not
            commute, or its Jacobian does not have full rank; or, with `integrated_decay`, if h has no
            degree.

    Example:
        >>> network = DeepDiagonal.zero_last(jnp.ones(2), depth=3)
        >>> potential(network).value(network.effective())
        Array(0., dtype=float64)
    """
    if not isinstance(parameterization, AbstractParameterization):
        raise ValueError(
            "Argument `parameterization` must be a `ddln.AbstractParameterization`, but it is a "
            f"{type(parameterization).__name__}."
        )
    if integrated_decay is not None:
        if parameterization.homogeneity is None:
            raise ValueError(
                "Argument `integrated_decay` must be None for a map without a degree of homogeneity, as "
                f"{type(parameterization).__name__}: with weight decay its flow is not known to be one."
            )
        weights, rest = eqx.partition(parameterization, eqx.is_inexact_array)
        weights = jax.tree.map(
            lambda w: w * jnp.exp(-jnp.asarray(integrated_decay)).astype(w.dtype), weights
        )
        parameterization = eqx.combine(weights, rest)
    geometry = mirror_geometry(parameterization)
    return NumericalPotential(parameterization) if geometry is None else geometry.potential()


@mirror_geometry.register
def _(start: Identity) -> MirrorGeometry:
    return MirrorGeometry(
        potential=lambda: QuadraticPotential(start.theta),
        curve=lambda: QuadraticPotential(start.theta.reshape(-1)),
        weights=lambda v: (v,),
    )


@mirror_geometry.register
def _(start: DeepDiagonal) -> MirrorGeometry:
    return MirrorGeometry(
        potential=lambda: _of_network(start),
        curve=lambda: _of_network(start),
        weights=lambda v: start.canonical().weights(v),
    )


@mirror_geometry.register
def _(start: Grouped) -> MirrorGeometry | None:
    return _of_form(start) if start.separable else None


@mirror_geometry.register
def _(start: Tied) -> MirrorGeometry:
    return _of_form(start)


@mirror_geometry.register
def _(start: Square) -> MirrorGeometry:
    return MirrorGeometry(
        potential=lambda: EntropyPotential(start.effective(), 2.0),
        curve=lambda: _of_network(_equal_layers(start.weights, 2, 0.5)),
        weights=lambda v: (2**0.5 * v,),
    )


@mirror_geometry.register
def _(start: Power) -> MirrorGeometry | None:
    def of_power() -> AbstractPotential:
        theta = start.effective()
        return EntropyPotential(theta, 4.0) if depth == 2 else PowerPotential(theta, depth)

    depth = start.depth
    # Below 2 a weight can reach zero, where the mirror flow ends and the flow goes on.
    if depth < 2:
        return None
    if not isinstance(depth, int):
        return MirrorGeometry(
            potential=of_power,
            curve=lambda: PowerPotential(start.effective().reshape(-1), depth),
            weights=lambda v: (v ** (1 / depth),),
        )
    return MirrorGeometry(
        potential=of_power,
        curve=lambda: _of_network(_equal_layers(start.weights, depth, 1.0)),
        weights=lambda v: (depth**0.5 * v,),
    )


@mirror_geometry.register
def _(start: PowerDifference) -> MirrorGeometry | None:
    u, v, depth = start.positive, start.negative, start.depth
    if depth < 2:
        return None
    if depth == 2:
        return MirrorGeometry(
            potential=lambda: HypentropyPotential(start.effective(), _width(u, v), 4.0),
            curve=lambda: _of_network(_two_layers(u, v)),
            weights=lambda smallest: _from_two_layers(_two_layers(u, v), smallest),
        )
    q = PowerDifferencePotential(u, v, depth)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1), q)
    return MirrorGeometry(potential=lambda: q, curve=lambda: flat, weights=flat.weights)


def _width(u: Array, v: Array) -> Array:
    """2 u v, the width of the potential of u^2 - v^2.

    Raises:
        ValueError: if known values of it are zero: there the domain of theta ends at zero.
    """
    width = 2 * u * v
    if is_known(width) and (ends := np.argwhere(np.asarray(width) == 0)).size:
        raise ValueError(
            "Argument `parameterization` must have positive weights whose product does not underflow, but "
            f"that of entry {ends[0].tolist()} is 0, so that its theta cannot change sign. Leave such "
            "entries out or make them a `ddln.Power`; after weight decay use a smaller `integrated_decay`."
        )
    return width


def _of_form(start: Grouped | Tied) -> MirrorGeometry:
    """The geometry of a map that is a network but for the order and the size of its weights."""
    form = start.reduced()
    assert form is not None  # as the callers check
    network = start.network()
    return MirrorGeometry(
        potential=lambda: _of_network(network),
        curve=lambda: _of_network(network),
        weights=form.weights,
    )


def _of_network(network: DeepDiagonal) -> DeepDiagonalPotential:
    form = network.canonical()
    return DeepDiagonalPotential(form.start, form.gaps, form.signs, form.factor)


def _equal_layers(weights: Array, depth: int, factor: float) -> DeepDiagonal:
    """factor * w^L as the network of L layers w / sqrt(L), with the same flow of theta."""
    layer = weights.reshape(-1) / depth**0.5
    return DeepDiagonal(jnp.tile(layer, (depth, 1)), factor * depth ** (depth / 2))


def _two_layers(u: Array, v: Array) -> DeepDiagonal:
    """u^2 - v^2 as the network 2 a b with a, b = (u -+ v) / sqrt(2)."""
    u, v = u.reshape(-1), v.reshape(-1)
    return DeepDiagonal(jnp.stack([u - v, u + v]) / 2**0.5, 2.0)


def _from_two_layers(network: DeepDiagonal, smallest: Array) -> tuple[Array, Array]:
    a, b = network.canonical().layers(smallest)
    return (b + a) / 2**0.5, (b - a) / 2**0.5
