"""Vector fields of gradient flows with weight decay."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ddln._types import Array, Loss, PyTree, Scalar
from ddln.flows._decay import SampledDecay, is_number, rate_at, unresolved_area
from ddln.flows.states import AbstractWeightStates, DecayedSpace
from ddln.losses import AbstractPredictionLoss
from ddln.solvers import (
    AbstractSampledField,
    AbstractStructuredField,
    DiagonalPlusLowRank,
    SeparableDualField,
)


class FullField(AbstractSampledField):
    """w' = -grad_w L(h(w)) - lambda w with the dual: the state is (w, xi)."""

    states: AbstractWeightStates
    loss: Loss
    weight_decay: Any

    def __call__(self, t, y, args):
        state, dual = y
        velocity, dual_velocity = self.states.velocity(state, self.loss)
        decay = self.weight_decay
        if decay is not None:
            dtype = jnp.result_type(*jax.tree.leaves(state))
            if isinstance(decay, SampledDecay):
                rate, _ = decay.at(t)
            else:
                rate = decay if is_number(decay) else rate_at(decay, t, dtype)
            velocity = jax.tree.map(lambda v, w: v - rate * w, velocity, state)
        return velocity, None if dual is None else dual_velocity

    def of_step(self, t0, t1, y):
        if self.weight_decay is None or is_number(self.weight_decay):
            return self
        dtype = jnp.result_type(*jax.tree.leaves(y[0]))
        sampled = SampledDecay.of(self.weight_decay, t0, t1, jnp.zeros((), dtype))
        return FullField(self.states, self.loss, sampled)

    def sampling_error(self, t0, t1, y):
        if self.weight_decay is None:
            return None
        dtype = jnp.result_type(*jax.tree.leaves(y[0]))
        area = unresolved_area(self.weight_decay, t0, t1, dtype)
        return None if area is None else _of_decay(y, area)


class ReducedField(AbstractSampledField):
    """The flow of reduced coordinates whose conserved quantities decay: y = (v, xi, Lambda).

        v' = -p(v) grad L(theta(v)) - lambda v,   xi' = -grad L(theta(v)),   Lambda' = lambda,

    with p and theta at the gaps Delta exp(-2 Lambda). Lambda is an array with equal entries.
    """

    states: DecayedSpace
    loss: Loss
    weight_decay: Any

    def __call__(self, t, y, args):
        total = y[2][0]
        return _velocity(
            self.states, self.loss, y, rate_at(self.weight_decay, t, total.dtype), total
        )

    def of_step(self, t0, t1, y):
        sampled = SampledDecay.of(self.weight_decay, t0, t1, y[2][0])
        structured = self.states.structured and isinstance(self.loss, AbstractPredictionLoss)
        field = _StructuredStep if structured else _PlainStep
        return field(self.states, self.loss, sampled)  # pyright: ignore[reportArgumentType]

    def sampling_error(self, t0, t1, y):
        area = unresolved_area(self.weight_decay, t0, t1, y[2].dtype)
        return None if area is None else _of_decay(y, area)


class _PlainStep(AbstractSampledField):
    """`ReducedField` within one step, where Lambda is a function of time, for any loss."""

    states: DecayedSpace
    loss: Loss
    decay: SampledDecay

    def __call__(self, t, y, args):
        return _velocity(self.states, self.loss, y, *self.decay.at(t))

    def of_step(self, t0, t1, y):
        return self


class _StructuredStep(AbstractStructuredField):
    """`ReducedField` within one step, with the Jacobian of `SeparableDualField` less lambda."""

    states: DecayedSpace
    loss: AbstractPredictionLoss
    decay: SampledDecay
    autonomous: ClassVar[bool] = False

    def __call__(self, t, y, args):
        return _velocity(self.states, self.loss, y, *self.decay.at(t))

    def jacobian(self, t, y, args):
        return self.with_jacobian(t, y, args)[1]

    def with_jacobian(self, t, y, args):
        v, dual, total = y
        rate, now = self.decay.at(t)
        field = SeparableDualField(
            self.states.coordinates_at(now), self.loss, self.states.field_response
        )
        velocity, inner = field.with_jacobian(t, (v, dual), args)
        zero = jnp.zeros_like(total)
        diagonal, dual_diagonal = inner.diagonal
        jacobian = DiagonalPlusLowRank(
            diagonal=(jax.tree.map(lambda a: a - rate, diagonal), dual_diagonal, zero),
            left=(*inner.left, zero),
            right=(*inner.right, zero),
            design=inner.design,
            weight=inner.weight,
        )
        return _decaying(velocity, y, rate), jacobian


def _of_decay(y: Any, area: Scalar) -> PyTree[Array]:
    """The error of the state for an error of Lambda: the weights have the factor exp(-Lambda)."""
    weights = jax.tree.map(lambda w: area * jnp.abs(w), y[0])
    return weights, *jax.tree.map(jnp.zeros_like, tuple(y[1:]))


def _velocity(states: DecayedSpace, loss: Loss, y: Any, rate: Array, total: Array) -> PyTree[Array]:
    velocity, dual_velocity = states.velocity_at(total, y[0], loss)
    return _decaying((velocity, None if y[1] is None else dual_velocity), y, rate)


def _decaying(moved: Any, y: Any, rate: Array) -> PyTree[Array]:
    velocity, dual_velocity = moved
    velocity = jax.tree.map(lambda speed, v: speed - rate * v, velocity, y[0])
    return velocity, dual_velocity, jnp.full_like(y[2], rate)
