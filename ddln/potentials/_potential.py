"""The registry of mirror geometries: from a parameterization to the potential of its mirror flow."""

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddln._types import Array
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    Identity,
    Power,
    PowerDifference,
    Square,
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
    weights: Callable[[Array], tuple[Array, ...]] | None = None


@singledispatch
def mirror_geometry(parameterization: AbstractParameterization) -> MirrorGeometry | None:
    """The registered mirror geometry of a parameterization, or None.

    For a class of your own, register a function that returns one: `@mirror_geometry.register`.
    """
    return None


@singledispatch
def potential(parameterization: AbstractParameterization) -> AbstractPotential:
    """The potential Q whose mirror flow is the gradient flow that starts at `parameterization`.

    Normalised by Q(theta_0) = 0 and grad Q(theta_0) = 0. In closed form for the separable
    parameterizations of this package, and a `NumericalPotential` for any other; to give one of your
    own, register a function: `@potential.register`, or `@ddln.potentials.mirror_geometry.register` for
    a curve as well.

    Args:
        parameterization: the start of the flow.

    Returns:
        The potential.

    Raises:
        ValueError: if the gradient flow is not a mirror flow: the gradient fields of h do not
            commute, or its Jacobian does not have full rank.

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
def _(start: Square) -> MirrorGeometry:
    return MirrorGeometry(
        potential=lambda: EntropyPotential(start.effective(), 2.0),
        curve=lambda: _of_network(_equal_layers(start.weights, 2, 0.5)),
        weights=lambda v: (2**0.5 * v,),
    )


@mirror_geometry.register
def _(start: Power) -> MirrorGeometry:
    def of_power() -> AbstractPotential:
        theta = start.effective()
        return EntropyPotential(theta, 4.0) if depth == 2 else PowerPotential(theta, depth)

    depth = start.depth
    return MirrorGeometry(
        potential=of_power,
        curve=lambda: _of_network(_equal_layers(start.weights, depth, 1.0)),
        weights=lambda v: (depth**0.5 * v,),
    )


@mirror_geometry.register
def _(start: PowerDifference) -> MirrorGeometry:
    u, v, depth = start.positive, start.negative, start.depth
    if depth == 2:
        return MirrorGeometry(
            potential=lambda: HypentropyPotential(start.effective(), 2 * u * v, 4.0),
            curve=lambda: _of_network(_two_layers(u, v)),
            weights=lambda smallest: _from_two_layers(_two_layers(u, v), smallest),
        )
    q = PowerDifferencePotential(u, v, depth)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1), q)
    return MirrorGeometry(potential=lambda: q, curve=lambda: flat, weights=flat.weights)


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
