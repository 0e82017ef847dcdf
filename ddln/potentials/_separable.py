"""Potentials that are sums over coordinates."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Bool, Scalar, Theta
from ddln.potentials._base import AbstractPotential
from ddln.potentials._domain import only_inside, require_inside, require_shape

_THETA = "gradient flow from this start cannot reach it. See `domain`."
_XI = "the dual coordinate stays between these bounds for every finite theta. See `dual_domain`."


# One compiled program per method, outside of `jax.jit` too; checks of known values stay outside.


@eqx.filter_jit
def _apply(method: Callable[..., Theta], *args: Theta) -> Theta:
    return method(*args)


@eqx.filter_jit
def _start_and_domain(potential: AbstractPotential) -> tuple[Theta, tuple[Theta, Theta]]:
    return potential.start, potential.domain


@eqx.filter_jit
def _dual_domain(potential: AbstractPotential) -> tuple[Theta, Theta]:
    return potential.dual_domain


class AbstractSeparablePotential(AbstractPotential):
    """Q(theta) = sum_i Q_i(theta_i).

    Subclasses give the elementwise maps below for arguments inside of the domains. This class sums
    them, and treats arguments outside.
    """

    def _value(self, theta: Theta) -> Theta:
        """Q_i(theta_i), also at finite ends of the domain where it has a finite limit."""
        return self._bregman(theta, self.start)

    @abc.abstractmethod
    def _mirror_map(self, theta: Theta) -> Theta:
        """Q_i'(theta_i)."""

    @abc.abstractmethod
    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        """The theta_i with Q_i'(theta_i) = xi_i."""

    @abc.abstractmethod
    def _conjugate(self, xi: Theta) -> Theta:
        """Q_i*(xi_i)."""

    @abc.abstractmethod
    def _hessian(self, theta: Theta) -> Theta:
        """Q_i''(theta_i)."""

    @abc.abstractmethod
    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        """The divergence of theta_i from reference_i; theta_i as for `_value`."""

    def in_domain(self, theta: Theta) -> Bool[Array, "*theta"]:
        lower, upper = _start_and_domain(self)[1]
        require_shape("theta", theta, lower)
        return ((theta > lower) & (theta < upper)) | ((lower == upper) & (theta == lower))

    def _inside(self, name: str, theta: Theta) -> tuple[Bool[Array, "*theta"], Theta]:
        """A mask of the coordinates inside, and theta with the start in place of the others."""
        start, bounds = _start_and_domain(self)
        require_shape(name, theta, start)
        inside = self.in_domain(theta)
        require_inside(name, theta, inside, bounds, _THETA)
        return inside, jnp.where(inside, theta, start)

    def _inside_or_at_end(self, name: str, theta: Theta) -> tuple[Bool[Array, "*theta"], Theta]:
        start, (lower, upper) = _start_and_domain(self)
        require_shape(name, theta, start)
        inside = (theta >= lower) & (theta <= upper) & jnp.isfinite(theta)
        require_inside(name, theta, inside, (lower, upper), _THETA)
        return inside, jnp.where(inside, theta, start)

    def _inside_dual(self, xi: Theta) -> tuple[Bool[Array, "*theta"], Theta]:
        lower, upper = _dual_domain(self)
        require_shape("xi", xi, lower)
        inside = (xi > lower) & (xi < upper)
        require_inside("xi", xi, inside, (lower, upper), _XI)
        return inside, jnp.where(inside, xi, 0)

    def value(self, theta: Theta) -> Scalar:
        inside, theta = self._inside_or_at_end("theta", theta)
        return jnp.sum(only_inside(inside, _apply(self._value, theta)))

    def mirror_map(self, theta: Theta) -> Theta:
        inside, theta = self._inside("theta", theta)
        return only_inside(inside, _apply(self._mirror_map, theta))

    def inverse_mirror_map(self, xi: Theta) -> Theta:
        inside, xi = self._inside_dual(xi)
        return only_inside(inside, _apply(self._inverse_mirror_map, xi))

    def conjugate(self, xi: Theta) -> Scalar:
        inside, xi = self._inside_dual(xi)
        return jnp.sum(only_inside(inside, _apply(self._conjugate, xi)))

    def hessian_diagonal(self, theta: Theta) -> Theta:
        inside, theta = self._inside("theta", theta)
        return only_inside(inside, _apply(self._hessian, theta))

    def bregman(self, theta: Theta, reference: Theta) -> Scalar:
        inside, theta = self._inside_or_at_end("theta", theta)
        inside_reference, reference = self._inside("reference", reference)
        values = _apply(self._bregman, theta, reference)
        return jnp.sum(only_inside(inside & inside_reference, values))
