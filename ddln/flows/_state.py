"""The two ways to describe the state of a gradient flow: all weights, or reduced coordinates."""

import abc

import equinox as eqx
import jax

from ddln._types import Array, Float, Loss, PyTree, Theta
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization, AbstractReducedCoordinates


class AbstractStateSpace(eqx.Module):
    """Unknowns from which a parameterization can be rebuilt."""

    initial: eqx.AbstractVar[AbstractParameterization]

    @abc.abstractmethod
    def start(self) -> PyTree[Array]:
        """The state at time 0."""

    @abc.abstractmethod
    def rebuild(self, state: PyTree[Array]) -> AbstractParameterization:
        """The parameterization in that state."""

    @abc.abstractmethod
    def effective(self, state: PyTree[Array]) -> Theta:
        """theta in that state."""

    @abc.abstractmethod
    def velocity(self, state: PyTree[Array], loss: Loss) -> tuple[PyTree[Array], Theta]:
        """The time derivative of the state, and of the dual."""


class FullSpace(AbstractStateSpace):
    """The state is the tree of weights: w' = -J^T grad L(theta) - weight_decay * w."""

    initial: AbstractParameterization
    weight_decay: Float[Array, ""] | None = None

    def start(self):
        return eqx.filter(self.initial, eqx.is_inexact_array)

    def rebuild(self, state):
        return eqx.combine(state, eqx.filter(self.initial, eqx.is_inexact_array, inverse=True))

    def effective(self, state):
        return self.rebuild(state).effective()

    def velocity(self, state, loss):
        theta, pull_back = jax.vjp(self.effective, state)
        g = loss_gradient(loss, theta)
        (direction,) = pull_back(g)
        if self.weight_decay is not None:
            direction = jax.tree.map(lambda d, w: d + self.weight_decay * w, direction, state)
        return jax.tree.map(lambda leaf: -leaf, direction), -g


class ReducedSpace(AbstractStateSpace):
    """The state is the reduced coordinate v: v' = -p(v) grad L(theta(v))."""

    initial: AbstractParameterization
    coordinates: AbstractReducedCoordinates

    def start(self):
        return self.coordinates.start

    def rebuild(self, state):
        weights, rest = eqx.partition(self.initial, eqx.is_inexact_array)
        leaves = self.coordinates.weights(state)
        return eqx.combine(jax.tree.unflatten(jax.tree.structure(weights), leaves), rest)

    def effective(self, state):
        return self.coordinates.effective(state)

    def velocity(self, state, loss):
        g = loss_gradient(loss, self.effective(state))
        return jax.tree.map(lambda speed: -speed * g, self.coordinates.speed(state)), -g


def loss_gradient(loss: Loss, theta: Theta) -> Theta:
    """grad L(theta), in closed form where the loss has one."""
    if isinstance(loss, AbstractPredictionLoss):
        return loss.gradient(theta)
    return jax.grad(loss)(theta)
