"""From a parameterization to the potential of its mirror flow."""

from functools import singledispatch

from ddln.parameterizations import AbstractParameterization, DeepDiagonal, Identity
from ddln.potentials._base import AbstractPotential
from ddln.potentials._deep_diagonal import DeepDiagonalPotential
from ddln.potentials._quadratic import QuadraticPotential


@singledispatch
def potential(parameterization: AbstractParameterization) -> AbstractPotential:
    """The potential Q whose mirror flow is the gradient flow that starts at `parameterization`.

    Normalised by Q(theta_0) = 0 and grad Q(theta_0) = 0. To give the potential of a
    parameterization of your own, register a function: `@potential.register`.

    Args:
        parameterization: the start of the flow.

    Returns:
        The potential, in closed form where one is known.

    Raises:
        ValueError: if the gradient flow is not known to be a mirror flow.

    Example:
        >>> network = DeepDiagonal.zero_last(jnp.ones(2), depth=3)
        >>> potential(network).value(network.effective())
        Array(0., dtype=float64)
    """
    raise ValueError(f"No potential is known for {type(parameterization).__name__}.")


@potential.register
def _(parameterization: Identity) -> QuadraticPotential:
    return QuadraticPotential(parameterization.theta)


@potential.register
def _(parameterization: DeepDiagonal) -> DeepDiagonalPotential:
    canonical = parameterization.canonical()
    return DeepDiagonalPotential(canonical.start, canonical.gaps, canonical.signs, canonical.factor)
