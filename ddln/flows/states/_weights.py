"""The unknowns of a gradient flow: all weights, or reduced coordinates."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Loss, PyTree, Theta
from ddln._validation import require_option
from ddln.flows.states._base import AbstractStates
from ddln.losses import loss_gradient
from ddln.parameterizations import (
    AbstractParameterization,
    AbstractReducedCoordinates,
    SmoothPower,
)


class Response(eqx.Module):
    """The powers of gradients along which steepest descent in another norm moves.

    Attributes:
        effective: phi for gradients in theta.
        weights: phi for gradients in w; of a separable map for the derivatives d theta_i / d w_j.
        normalized: whether the velocity of the weights has unit length in the norm of the flow.
    """

    effective: SmoothPower
    weights: SmoothPower
    normalized: bool = eqx.field(static=True)

    def speed(self, decrease: Float[Array, ""]) -> Float[Array, ""]:
        """The factor of time, from sum_j d_j phi(d_j) over the weights: sum_j |d_j|^q up to smoothing."""
        if not self.normalized:
            return jnp.ones_like(decrease)
        q = self.weights.exponent
        # The width keeps the direction finite where the gradient vanishes.
        least = (self.weights.scale * self.weights.width) ** q
        return (decrease + least) ** ((1 - q) / q)


class AbstractWeightStates(AbstractStates):
    """Unknowns of a gradient flow."""

    initial: eqx.AbstractVar[AbstractParameterization]
    response: eqx.AbstractVar[Response | None]

    @property
    def field_response(self) -> SmoothPower | None:
        """The response to grad L, of reduced coordinates; None is the identity."""
        return None if self.response is None else self.response.effective

    @property
    def structured(self) -> bool:
        """True unless the velocity of a coordinate depends on more of the others than the loss does."""
        return self.response is None or not self.response.normalized

    @abc.abstractmethod
    def velocity(self, state: PyTree[Array], loss: Loss) -> tuple[PyTree[Array], Theta]:
        """The time derivatives of the state and of the dual."""


class FullSpace(AbstractWeightStates):
    """The weights, as a tuple of arrays: w' = -J^T grad L(theta), or by another response to it.

    A tuple of arrays, as diffrax has no buffers for trees with empty branches.
    """

    initial: AbstractParameterization
    response: Response | None = None

    def start(self):
        return tuple(jax.tree.leaves(eqx.filter(self.initial, eqx.is_inexact_array)))

    def rebuild(self, state):
        return with_weights(self.initial, state)

    def velocity(self, state, loss):
        theta, vjp = jax.vjp(self.effective, state)
        gradient = loss_gradient(loss, theta)
        if self.response is not None:
            return self._steepest(self.response, vjp, gradient)
        (direction,) = vjp(gradient)
        return jax.tree.map(jnp.negative, direction), -gradient

    def _steepest(
        self, response: Response, vjp: Callable, gradient: Theta
    ) -> tuple[PyTree[Array], Theta]:
        """-phi(J^T grad L) and -phi(grad L).

        Each weight of a separable map enters one entry of theta, so that phi(g_i J_ij) is
        phi(g_i) phi(J_ij): smoothed in this form, the weights of an entry where g_i vanishes stop together,
        as the differential inclusion of q = 1 has it, and conserved gaps stay conserved.
        """
        (slopes,) = vjp(gradient)
        if self.initial.separable:
            (inner,) = vjp(jnp.ones_like(gradient))
            (outer,) = vjp(response.effective(gradient))
            direction = jax.tree.map(lambda j, o: o * response.weights.ratio(j), inner, outer)
        else:
            direction = jax.tree.map(response.weights, slopes)
        decreases = jax.tree.map(
            lambda s, d: jnp.vdot(s, d, precision="highest"), slopes, direction
        )
        decrease = jax.tree.reduce(jnp.add, decreases)
        speed = response.speed(decrease)
        velocity = jax.tree.map(lambda leaf: -speed * leaf, direction)
        return velocity, -speed * response.effective(gradient)


class ReducedSpace(AbstractWeightStates):
    """The reduced coordinate v: v' = -p(v) grad L(theta(v)), or by another response to grad L."""

    initial: AbstractParameterization
    coordinates: AbstractReducedCoordinates
    response: Response | None = None

    def start(self):
        return self.coordinates.start

    def rebuild(self, state):
        return with_weights(self.initial, self.coordinates.weights(state))

    def effective(self, state):
        return self.coordinates.effective(state)

    def velocity(self, state, loss):
        if self.response is not None:
            return self._steepest(self.response, state, loss)
        gradient = loss_gradient(loss, self.effective(state))
        speeds = self.coordinates.speed(state)
        return jax.tree.map(lambda speed: -speed * gradient, speeds), -gradient

    def _steepest(
        self, response: Response, v: PyTree[Array], loss: Loss
    ) -> tuple[PyTree[Array], Theta]:
        theta, speed, slope, _ = self.coordinates.with_slopes(v)
        gradient = loss_gradient(loss, theta)
        driving = response.effective(gradient)
        # sum_j |d theta / d u_j|^q, the metric of the flow, is speed * slope.
        driving = driving * response.speed(jnp.sum(gradient * driving * speed * slope))
        return -speed * driving, -driving


class DecayedSpace(AbstractWeightStates):
    """The reduced coordinate v and Lambda, the integral of a weight decay: with the gaps of that time.

    The state of a flow is (v, xi, Lambda), and what is rebuilt from is (v, Lambda), Lambda as an array
    with equal entries.
    """

    initial: AbstractParameterization
    coordinates: AbstractReducedCoordinates
    response: Response | None = None

    def start(self):
        return self.coordinates.start

    def coordinates_at(self, total: Float[Array, ""]) -> AbstractReducedCoordinates:
        """The coordinates at Lambda."""
        decayed = self.coordinates.decayed(total)
        assert decayed is not None  # as `weight_states` checks
        return decayed

    def _reduced(self, total: Float[Array, ""]) -> ReducedSpace:
        return ReducedSpace(
            self.initial, coordinates=self.coordinates_at(total), response=self.response
        )

    def of_state(self, state):
        return self.rebuild((state[0], state[2]))

    def rebuild(self, state):
        return self._reduced(state[1][0]).rebuild(state[0])

    def effective(self, state):
        return self.coordinates_at(state[1][0]).effective(state[0])

    def velocity(self, state, loss):
        return self.velocity_at(state[1][0], state[0], loss)

    def velocity_at(
        self, total: Float[Array, ""], v: PyTree[Array], loss: Loss
    ) -> tuple[PyTree[Array], Theta]:
        """The time derivatives of v, but for its decay, and of the dual."""
        return self._reduced(total).velocity(v, loss)


def with_weights(
    parameterization: AbstractParameterization, weights: PyTree[Array]
) -> AbstractParameterization:
    """The parameterization with these weights, in a tree of any structure with its leaves in order."""
    known, rest = eqx.partition(parameterization, eqx.is_inexact_array)
    leaves = jax.tree.leaves(weights)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(known), leaves), rest)


def weight_states(
    parameterization: AbstractParameterization, coordinates: str, *, decays: bool
) -> AbstractWeightStates:
    """The unknowns that `coordinates` names, for a flow with or without weight decay.

    Raises:
        ValueError: if reduced coordinates are asked for and there are none.
    """
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    reduced = None if coordinates == "full" else parameterization.reduced()
    if reduced is not None and not decays:
        return ReducedSpace(parameterization, coordinates=reduced)
    if reduced is not None and reduced.decayed(jnp.zeros(())) is not None:
        return DecayedSpace(parameterization, coordinates=reduced)
    if coordinates == "reduced":
        known = "which has no reduced coordinates"
        reason = known if reduced is None else "whose reduced coordinates have no weight decay"
        raise ValueError(
            f"Argument `coordinates` must be 'full' or 'auto' for {type(parameterization).__name__}, "
            f"{reason}, but it is 'reduced'."
        )
    return FullSpace(parameterization)


def largest_weight(parameterization: AbstractParameterization) -> Float[Array, ""]:
    """The largest |w|."""
    weights = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
    return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in weights]).max()


def atol_factor(parameterization: AbstractParameterization) -> Float[Array, ""]:
    """The factor of an absolute tolerance for weights of size one: min(1, largest |w|)."""
    largest = largest_weight(parameterization)
    return jnp.where(largest > 0, jnp.minimum(largest, 1), 1)


def startable(
    parameterization: AbstractParameterization, theta: Theta, loss: Loss
) -> tuple[Bool[Array, ""], RESULTS]:
    """Test whether a flow of weights can start at theta; with the result code if it cannot."""
    largest = largest_weight(parameterization)
    finite_weights = jnp.isfinite(largest)
    value, gradient = loss(theta), loss_gradient(loss, theta)
    finite_loss = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    movable = ~_underflows(parameterization, largest)
    refusal = RESULTS.where(
        movable, RESULTS.nonfinite_initial_loss, RESULTS.underflowing_initialization
    )
    refusal = RESULTS.where(finite_weights, refusal, RESULTS.nonfinite_initialization)
    return finite_weights & finite_loss & movable, refusal


def _underflows(initial: AbstractParameterization, largest: Array) -> Bool[Array, ""]:
    """Test whether the metric is zero where that of the weights divided by the largest is not."""
    if not initial.separable or initial.homogeneity is None:
        return jnp.asarray(False)
    unit = jax.tree.map(
        lambda leaf: (
            leaf / jnp.where(largest > 0, largest, 1) if eqx.is_inexact_array(leaf) else leaf
        ),
        initial,
    )
    smallest = float(jnp.finfo(largest.dtype).tiny)
    # M(s w) = s^(2 L - 2) M(w).
    metric = unit.metric_diagonal()
    vanishes = metric * largest ** (2 * initial.homogeneity - 2) < smallest
    return jnp.any(vanishes & (metric > float(jnp.finfo(largest.dtype).eps)))
