"""The unknowns of a mirror flow: the dual, or theta itself."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Theta
from ddln.flows.states._base import AbstractStates
from ddln.parameterizations import Identity
from ddln.potentials import AbstractPotential, AbstractSeparablePotential


class AbstractMirrorStates(AbstractStates):
    """The unknowns of a mirror flow: a tuple, the first of which controls the steps."""

    potential: eqx.AbstractVar[AbstractPotential]

    @property
    def initial(self) -> Identity:
        """The start as a parameterization of theta itself."""
        return Identity(self.potential.start)

    def rebuild(self, state):
        return Identity(self.effective(state))

    @abc.abstractmethod
    def effective(self, state: tuple[Theta, ...]) -> Theta:
        """theta, with NaN at coordinates that are outside of the domain."""

    @abc.abstractmethod
    def velocity(self, theta: Theta, gradient: Theta) -> tuple[Theta, ...]:
        """The time derivative of the state, gradient = grad L(theta)."""

    @abc.abstractmethod
    def jacobian(
        self, theta: Theta, gradient: Theta
    ) -> tuple[tuple[Theta, ...], tuple[Theta, ...], tuple[Theta, ...]]:
        """`diagonal`, `left` and `right` of `DiagonalPlusLowRank`, for a separable potential."""


class Dual(AbstractMirrorStates):
    """xi' = -grad L(grad Q*(xi))."""

    potential: AbstractPotential

    def start(self):
        return (jnp.zeros_like(self.potential.start),)

    def effective(self, state):
        return self.potential.inverse_mirror_map(state[0])

    def velocity(self, theta, gradient):
        return (-gradient,)

    def jacobian(self, theta, gradient):
        # A coordinate that has been rounded to an end of the domain does not move.
        inside = self.potential.in_domain(theta)
        metric = jnp.where(inside, 1 / self.potential.hessian_diagonal(theta), 0)
        return (jnp.zeros_like(theta),), (-jnp.ones_like(theta),), (metric,)


class Primal(AbstractMirrorStates):
    """theta' = -(hess Q)^-1 grad L(theta), and the dual along with it."""

    potential: AbstractPotential

    def start(self):
        theta = self.potential.start
        return theta, jnp.zeros_like(theta)

    def effective(self, state):
        return jnp.where(self.potential.in_domain(state[0]), state[0], jnp.nan)

    def velocity(self, theta, gradient):
        if isinstance(self.potential, AbstractSeparablePotential):
            return -gradient / self.potential.hessian_diagonal(theta), -gradient
        # (hess Q)^-1 = hess Q* = d theta / d xi.
        xi = self.potential.mirror_map(theta)
        return jax.jvp(self.potential.inverse_mirror_map, (xi,), (-gradient,))[1], -gradient

    def jacobian(self, theta, gradient):
        one, zero = jnp.ones_like(theta), jnp.zeros_like(theta)
        metric, metric_slope = jax.jvp(
            lambda point: 1 / self.potential.hessian_diagonal(point), (theta,), (one,)
        )
        return (-metric_slope * gradient, zero), (-metric, -one), (one, zero)
