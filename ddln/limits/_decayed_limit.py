"""The end of a gradient flow with constant weight decay."""

from functools import singledispatch
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import product, pull_back
from ddln._results import RESULTS
from ddln._types import Array, Float, Scalar
from ddln.flows import gradient_flow
from ddln.limits._l1_program import constant, l1_program
from ddln.losses import AbstractPredictionLoss, loss_gradient
from ddln.parameterizations import (
    AbstractParameterization,
    DeepDiagonal,
    Power,
    PowerDifference,
    Square,
)

# The longest time of a flow, in units of 1 / lambda.
HORIZON = 1e9
NEWTON_STEPS = 5


class DecayedEnd(NamedTuple):
    """The findings about an end, for `Limit`."""

    theta: Float[Array, " d"]
    weights: tuple[Array, ...]
    residual: Float[Array, ""]
    gap: Float[Array, ""]
    result: RESULTS
    count: Any
    method: str


class Balance(NamedTuple):
    """The least |w|^2 of weights with theta = h(w): factor * sum |theta|^(2/L), from where a flow starts.

    Attributes:
        depth: L.
        factor: of the sum.
        signs: whether theta_i can become positive, and negative, shape [2, d].
        weights: from theta to the weights that attain it, with the signs of the start.
    """

    depth: int | float
    factor: float
    signs: Array
    weights: Any


def _root(theta: Array, depth: int | float) -> Array:
    """|theta|^(1/L), with derivative 0 where it is 0."""
    zero = theta == 0
    return jnp.where(zero, 0, jnp.abs(jnp.where(zero, 1, theta)) ** (1 / depth))


def _one_sign(theta: Array) -> Array:
    return jnp.stack([theta > 0, theta < 0])


@singledispatch
def balance(parameterization: AbstractParameterization) -> Balance:
    """The balance of a map at its start.

    Raises:
        ValueError: for a map without one.
    """
    raise ValueError(
        "Argument `weight_decay` of `ddln.limit` must be None for a parameterization other than "
        "`ddln.DeepDiagonal`, `Square`, `Power` and `PowerDifference`, but it is a "
        f"{type(parameterization).__name__}. Integrate with `ddln.gradient_flow`."
    )


@balance.register
def _(start: DeepDiagonal) -> Balance:
    form, depth, c = start.canonical(), start.depth, start.factor
    # A layer at zero that is not alone freezes its coordinate, and a tie keeps its sign.
    tied = form.gaps[0] == 0
    signs = jnp.where(tied[None], _one_sign(start.effective()), True)

    def weights(theta):
        size = _root(theta / c, depth)
        v = jnp.sign(theta / c) * jnp.prod(form.signs, axis=0) * size
        ordered = jnp.concatenate([v[None], form.signs * size[None]])
        return (jax.lax.sort((form.permutation, ordered), dimension=0, num_keys=1)[1],)

    return Balance(depth, depth * abs(c) ** (-2 / depth), signs, weights)


@balance.register
def _(start: Square) -> Balance:
    w = start.weights.reshape(-1)
    signs = _one_sign(jnp.square(w))
    return Balance(2, 2.0, signs, lambda theta: (jnp.sign(w) * _root(2 * theta, 2),))


@balance.register
def _(start: Power) -> Balance:
    w, depth = start.weights.reshape(-1), start.depth
    return Balance(
        depth, 1.0, _one_sign(w**depth), lambda theta: (jnp.sign(w) * _root(theta, depth),)
    )


@balance.register
def _(start: PowerDifference) -> Balance:
    u, v, depth = start.positive.reshape(-1), start.negative.reshape(-1), start.depth
    grows, falls = _one_sign(u**depth), _one_sign(v**depth)[::-1]

    def weights(theta):
        up, down = jnp.where(theta > 0, theta, 0), jnp.where(theta < 0, theta, 0)
        return jnp.sign(u) * _root(up, depth), jnp.sign(v) * _root(down, depth)

    return Balance(depth, 1.0, grows | falls, weights)


def decayed_end(
    parameterization: AbstractParameterization,
    loss: AbstractPredictionLoss,
    weight_decay: Float[Array, ""],
    rtol: Float[Array, ""],
    max_steps: int,
) -> DecayedEnd:
    """The end: a minimizer of L + (lambda / 2) factor sum |theta|^(2/L), or a stationary point of it."""
    at = balance(parameterization)
    if at.depth == 2:
        return _two_layers(at, loss, weight_decay, rtol)
    return _deeper(at, parameterization, loss, weight_decay, rtol, max_steps)


def _two_layers(at: Balance, loss, weight_decay, rtol) -> DecayedEnd:
    penalty = 0.5 * at.factor * weight_decay
    okay = jnp.isfinite(penalty) & (penalty > 0)
    found = l1_program(loss, jnp.where(at.signs, jnp.where(okay, penalty, 1), jnp.inf))
    result = RESULTS.where(found.unique, _code("successful"), RESULTS.ambiguous_minimum)
    result = RESULTS.where(found.residual <= rtol, result, _code("max_steps_reached"))
    result = RESULTS.where(okay, result, RESULTS.unusable_weight_decay)
    theta = jnp.where(okay, found.theta, jnp.nan)
    return DecayedEnd(
        theta, at.weights(theta), found.residual, found.gap, result, found.count, "convex"
    )


def _code(name: str) -> RESULTS:
    return RESULTS.promote(getattr(diffrax.RESULTS, name))


class _Rests(eqx.Module):
    """Event at which |w'|^2 of a flow with weight decay falls below a threshold."""

    weight_decay: Scalar
    threshold: Scalar

    def __call__(self, t: Scalar, parameterization: AbstractParameterization, loss: Any) -> Scalar:
        return _squared_speed(parameterization, loss, self.weight_decay) - self.threshold


def _squared_speed(parameterization, loss, weight_decay) -> Scalar:
    weights = eqx.filter(parameterization, eqx.is_inexact_array)
    slope = pull_back(parameterization, loss_gradient(loss, parameterization.effective()))
    moved = jax.tree.map(lambda g, w: jnp.sum(jnp.square(g + weight_decay * w)), slope, weights)
    return sum(jax.tree.leaves(moved), jnp.zeros_like(weight_decay))


def _deeper(at: Balance, parameterization, loss, weight_decay, rtol, max_steps) -> DecayedEnd:
    """The point of rest of the flow, refined by Newton's method for 0 = grad L + phi' on its support.

    A coordinate at zero stays there: phi = (lambda / 2) factor |theta|^(2/L) has a kink without bound.
    """
    start, plain, decay = constant((parameterization, loss, weight_decay))
    okay = jnp.isfinite(decay) & (decay > 0)
    decay = jnp.where(okay, decay, 1)
    threshold = jnp.square(rtol) * _squared_speed(start, plain, decay)
    flow = gradient_flow(
        start,
        plain,
        HORIZON / decay,
        weight_decay=decay,
        rtol=1e-6,
        atol=1e-9,
        max_steps=max_steps,
        event=_Rests(decay, threshold),
        dual=False,
        throw=False,
    )
    theta = flow.theta[-1].reshape(-1)
    # A weight that decays freely has the speed lambda |w|.
    inside = _root(theta, at.depth) * decay > 100 * jnp.sqrt(threshold)
    signs = jnp.where(inside, jnp.sign(theta), 0)

    def solver(theta):
        hessian = product(plain.design.T * plain.curvature(theta)[None], plain.design)
        both = inside[:, None] & inside[None]
        bend = _penalty_force(at, decay, theta, signs, order=2)
        matrix = jnp.where(both, hessian, 0) + jnp.diag(jnp.where(inside, bend, 1))
        return jax.lax.stop_gradient(jnp.linalg.inv(matrix))

    def forces(loss, decay, theta):
        push = _penalty_force(at, decay, theta, signs, order=1)
        return jnp.where(inside, loss.gradient(theta) + push, 0)

    theta = jnp.where(inside, theta, 0)
    for _ in range(NEWTON_STEPS):
        theta = theta - product(solver(theta), forces(plain, decay, theta))
    size = jnp.max(jnp.abs(loss_gradient(plain, start.effective()).reshape(-1))) + decay
    residual = jnp.max(jnp.abs(forces(plain, decay, theta))) / jax.lax.stop_gradient(size)
    kept = jnp.all(theta * signs >= 0) & jnp.all(inside <= (theta != 0))
    residual = jnp.where(kept, residual, jnp.inf)
    # One step more has the derivatives of the implicit function theorem.
    theta = theta - product(solver(theta), forces(loss, jnp.where(okay, weight_decay, 1), theta))
    rests = flow.result == RESULTS.event_occurred
    rests = rests | (threshold == 0)
    result = RESULTS.where(rests, _code("max_steps_reached"), flow.result)
    result = RESULTS.where(rests & (residual <= rtol), _code("successful"), result)
    result = RESULTS.where(okay, result, RESULTS.unusable_weight_decay)
    theta = jnp.where(okay, theta, jnp.nan)
    infinite = jnp.full_like(residual, jnp.inf)
    count = flow.stats["num_steps"]
    return DecayedEnd(theta, at.weights(theta), residual, infinite, result, count, "stationary")


def _penalty_force(at: Balance, decay: Scalar, theta: Array, signs: Array, *, order: int) -> Array:
    """The first or second derivative of (lambda / 2) factor |theta|^(2/L) on the support, 0 elsewhere."""
    power, factor = 2 / at.depth, decay * at.factor / at.depth
    size = jnp.where(signs != 0, jnp.abs(theta), 1)
    if order == 1:
        return jnp.where(signs != 0, factor * signs * size ** (power - 1), 0)
    return jnp.where(signs != 0, factor * (power - 1) * size ** (power - 2), 0)
