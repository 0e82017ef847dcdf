"""The unknowns of a momentum flow: angles for two layers, weights and velocities for any map."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, PyTree, Scalar, Theta
from ddln.flows._damping import AbstractDamping
from ddln.flows.states._base import AbstractStates
from ddln.flows.states._weights import FullSpace
from ddln.parameterizations import AbstractParameterization, DeepDiagonal

# Below this the square of a cosine counts as near a zero of its weight, and the integral of the squared
# logarithmic velocity is cut off: it diverges at the zero, and nothing is claimed of it beyond.
NEAR_ZERO = 1e-4


class Motion(eqx.Module):
    """The forces of a flow at one time: the gradient in theta, and the constants of the equation there."""

    t: Scalar
    gradient: Theta
    inertia: Scalar
    damping: AbstractDamping

    def accelerate(self, velocity: PyTree[Array], force: PyTree[Array]) -> PyTree[Array]:
        return self.damping.accelerate(self.t, self.inertia, velocity, force)

    @property
    def memory(self) -> Scalar:
        return self.damping.memory(self.t, self.inertia)


class MomentumRecord(eqx.Module):
    """The record of a momentum flow, for the laws of its path.

    With k = lambda for constant damping and k(t) = t / (alpha - 1) for vanishing damping. Rows that
    were not reached hold the start.

    Attributes:
        inertia: lambda.
        memory: k at the saved times, shape [T].
        velocity: w', with the structure of the weights, leading axis T.
        kinetic: int_0^t k(s) (u^j)'(s)^2 ds of a `DeepDiagonal`, shape [T, L, d]; None for other maps.
        pair: the two layers in angles, None where the coordinates are "full".
    """

    inertia: Scalar
    memory: Float[Array, " T"]
    velocity: PyTree[Array]
    kinetic: Float[Array, "T L d"] | None
    pair: "PairRecord | None"


class PairRecord(eqx.Module):
    """Two layers as w_+- = (u +- v) / sqrt 2 = w_+-(0) exp(m_+-) cos(phi_+-).

    Attributes:
        growth: m, shape [T, 2, d], w_+ first.
        angle: phi, shape [T, 2, d].
        riccati: int_0^t k(s) (w_+-' / w_+-)^2 ds, as long as no w_+- comes near zero, shape [T, 2, d].
        near_zero: 0 as long as no w_+- has come near zero, shape [T].
    """

    growth: Float[Array, "T 2 d"]
    angle: Float[Array, "T 2 d"]
    riccati: Float[Array, "T 2 d"]
    near_zero: Float[Array, " T"]

    @property
    def sign_changed(self) -> Bool[Array, "*lanes T 2 d"]:
        """True where w_+- has changed sign by the saved time, even if it has changed back."""
        return self.angle < -jnp.pi / 2


class AbstractMomentumStates(AbstractStates):
    """Unknowns of a momentum flow, from which weights and velocities can be rebuilt."""

    initial: eqx.AbstractVar[AbstractParameterization]

    @abc.abstractmethod
    def velocity(self, state: PyTree[Array], inertia: Scalar) -> PyTree[Array]:
        """w', with the structure of the weights."""

    @abc.abstractmethod
    def rates(self, state: PyTree[Array], motion: Motion) -> PyTree[Array]:
        """The time derivative of the state."""

    @abc.abstractmethod
    def integrands(self, state: PyTree[Array], motion: Motion) -> PyTree[Array]:
        """The integrands of the record: kinetic, riccati and nearness to zero."""

    @abc.abstractmethod
    def pair(self, states: PyTree[Array], integrals: PyTree[Array]) -> PairRecord | None:
        """The record of two layers."""


class AngleSpace(AbstractMomentumStates):
    """Two layers, as growth m and angle phi of w_+- = (u +- v)/sqrt 2 and sqrt(lambda) w_+-'.

    With theta = c (w_+^2 - w_-^2) / 2 the flow is lambda w_+-'' + d w_+-' +- c g w_+- = 0, and in
    Prüfer's coordinates w = w(0) e^m cos phi, sqrt(lambda) w' = w(0) e^m sin phi, a = +- c g,

        m' = (1 - a) sin phi cos phi / sqrt(lambda) - (d / lambda) sin^2 phi,
        phi' = -(d / lambda) sin phi cos phi - (a cos^2 phi + sin^2 phi) / sqrt(lambda).

    The smaller of w_+ and w_- keeps its relative accuracy. At a zero, cos phi = 0, phi' < 0: the angle
    never comes back above -pi/2, so no change of sign is missed between the times that are saved.
    A weight that is zero, |u| = |v|, stays zero, and its m and phi too.
    """

    initial: DeepDiagonal

    def start(self):
        zeros = jnp.zeros_like(self.initial.layers)
        return zeros, zeros

    def rebuild(self, state):
        growth, angle = state
        weights = rotate(self.initial.layers) * jnp.exp(growth) * jnp.cos(angle)
        return eqx.tree_at(lambda p: p.layers, self.initial, rotate(weights))

    def velocity(self, state, inertia):
        growth, angle = state
        rotated = rotate(self.initial.layers) * jnp.exp(growth) * jnp.sin(angle)
        return eqx.filter(
            eqx.tree_at(lambda p: p.layers, self.initial, rotate(rotated / jnp.sqrt(inertia))),
            eqx.is_inexact_array,
        )

    def rates(self, state, motion):
        _, angle = state
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        pull = self.initial.factor * jnp.stack([motion.gradient, -motion.gradient])
        root = jnp.sqrt(motion.inertia)
        friction = motion.damping.rate(motion.t, motion.inertia)
        growth = (1 - pull) * sin * cos / root - friction * jnp.square(sin)
        force = -(pull * jnp.square(cos) + jnp.square(sin)) / root
        rates = growth, motion.accelerate(sin * cos, force)
        moves = rotate(self.initial.layers) != 0
        return jax.tree.map(lambda rate: jnp.where(moves, rate, 0), rates)

    def integrands(self, state, motion):
        _, angle = state
        layers = self.velocity(state, motion.inertia).layers
        cosine = jnp.square(jnp.cos(angle))
        ratio = jnp.square(jnp.sin(angle)) / jnp.maximum(cosine, NEAR_ZERO)
        return (
            motion.memory * jnp.square(layers),
            motion.memory * ratio / motion.inertia,
            jnp.sum(jnp.maximum(NEAR_ZERO - cosine, 0)),
        )

    def pair(self, states, integrals):
        return PairRecord(*states, *integrals[1:])


class PhaseSpace(AbstractMomentumStates):
    """The weights of any parameterization, and their velocities."""

    full: FullSpace

    @property
    def initial(self):
        return self.full.initial

    def start(self):
        weights = self.full.start()
        return weights, jax.tree.map(jnp.zeros_like, weights)

    def rebuild(self, state):
        return self.full.rebuild(state[0])

    def velocity(self, state, inertia):
        return eqx.filter(self.full.rebuild(state[1]), eqx.is_inexact_array)

    def rates(self, state, motion):
        weights, velocity = state
        _, pull_back = jax.vjp(lambda w: self.full.rebuild(w).effective(), weights)
        (direction,) = pull_back(motion.gradient)
        force = jax.tree.map(lambda leaf: -leaf / motion.inertia, direction)
        return velocity, motion.accelerate(velocity, force)

    def integrands(self, state, motion):
        if not isinstance(self.full.initial, DeepDiagonal):
            return (None,)
        (velocity,) = state[1]
        return (motion.memory * jnp.square(velocity),)

    def pair(self, states, integrals):
        return None


def rotate(pair: Float[Array, "*T 2 d"]) -> Float[Array, "*T 2 d"]:
    """(u, v) to ((u + v)/sqrt 2, (u - v)/sqrt 2), and back."""
    first, second = pair[..., 0, :], pair[..., 1, :]
    return jnp.stack([first + second, first - second], axis=-2) / 2**0.5
