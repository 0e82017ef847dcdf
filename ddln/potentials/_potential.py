"""From a parameterization to the potential of its mirror flow."""

from functools import singledispatch

from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    Identity,
    Power,
    PowerDifference,
    Square,
)
from ddln.potentials._base import AbstractPotential
from ddln.potentials._deep_diagonal import DeepDiagonalPotential
from ddln.potentials._entropy import EntropyPotential
from ddln.potentials._hypentropy import HypentropyPotential
from ddln.potentials._numerical import NumericalPotential
from ddln.potentials._power import PowerPotential
from ddln.potentials._power_difference import PowerDifferencePotential
from ddln.potentials._quadratic import QuadraticPotential


@singledispatch
def potential(parameterization: AbstractParameterization) -> AbstractPotential:
    """The potential Q whose mirror flow is the gradient flow that starts at `parameterization`.

    Normalised by Q(theta_0) = 0 and grad Q(theta_0) = 0. In closed form for the separable
    parameterizations of this package, and a `NumericalPotential` for any other; to give one of your
    own, register a function: `@potential.register`.

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
    return NumericalPotential(parameterization)


@potential.register
def _(parameterization: Identity) -> QuadraticPotential:
    return QuadraticPotential(parameterization.theta)


@potential.register
def _(parameterization: DeepDiagonal) -> DeepDiagonalPotential:
    canonical = parameterization.canonical()
    return DeepDiagonalPotential(canonical.start, canonical.gaps, canonical.signs, canonical.factor)


@potential.register
def _(parameterization: Square) -> EntropyPotential:
    return EntropyPotential(parameterization.effective(), 2.0)


@potential.register
def _(parameterization: Power) -> EntropyPotential | PowerPotential:
    theta = parameterization.effective()
    if parameterization.depth == 2:
        return EntropyPotential(theta, 4.0)
    return PowerPotential(theta, parameterization.depth)


@potential.register
def _(parameterization: PowerDifference) -> HypentropyPotential | PowerDifferencePotential:
    u, v = parameterization.positive, parameterization.negative
    if parameterization.depth == 2:
        return HypentropyPotential(parameterization.effective(), 2 * u * v, 4.0)
    return PowerDifferencePotential(u, v, parameterization.depth)
