"""Convex losses with an l1 penalty: an interior point method, then Newton's method on the support."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, product
from ddln._types import Array, Bool, Float, Int
from ddln.limits._signed_least_squares import independent
from ddln.losses import AbstractPredictionLoss
from ddln.solvers import DiagonalPlusLowRank, Woodbury

MOST_STEPS, MOST_ROUNDS, REFINEMENTS = 100, 50, 4
# Candidates for a step, of which the first that decreases the residual is taken.
HALVINGS = 6
SIDES = (1.0, -1.0)


class L1Solution(eqx.Module):
    """A minimizer of L(theta) + sum_i W_i |theta_i|.

    Attributes:
        theta: the minimizer, exactly zero outside of its support; differentiable.
        residual: the largest violation of the optimality conditions, relative to that of theta = 0.
        gap: a bound of the excess of the objective, relative to the objective.
        unique: whether no other theta is a minimizer.
        count: the number of factorizations.
    """

    theta: Float[Array, " d"]
    residual: Float[Array, ""]
    gap: Float[Array, ""]
    unique: Bool[Array, ""]
    count: Int[Array, ""]


def l1_program(loss: AbstractPredictionLoss, weights: Float[Array, "2 d"]) -> L1Solution:
    """The minimizer of a convex loss L with a penalty, L(theta) + sum_i (W+_i theta_i^+ + W-_i theta_i^-).

    With theta = a - b, a, b >= 0, the optimality conditions are

        grad L + W+ = z_a,   -grad L + W- = z_b,   a z_a = b z_b = 0,   z >= 0.

    Newton's method on them with a z = mu eliminates all but theta: (I + E H) dtheta = r with the Hessian
    H = X^T C X and E = a / z_a + b / z_b, which `Woodbury` solves by min(n, d) unknowns. What it finds
    tells the support up to coordinates near zero; an active set corrects that, and ends at rounding.

    Args:
        loss: L, convex.
        weights: W+ and W-, positive; infinite for a sign that theta_i cannot have.
    """
    plain, limits = constant((loss, weights))
    theta, count = _interior_point(plain, limits)
    theta, signs, rounds = _active_set(plain, limits, theta)
    theta = _refined(
        loss, weights, jax.lax.stop_gradient(theta), signs, _solver(plain, theta, signs)
    )
    residual, gap = _quality(plain, limits, jax.lax.stop_gradient(theta), signs)
    gradient = plain.gradient(jax.lax.stop_gradient(theta))
    tight = jnp.asarray(SIDES, theta.dtype)[:, None] * -gradient[None] > (1 - 1e-6) * limits
    members = jnp.any(tight, axis=0) | (signs != 0)
    full = jnp.sum(members) <= min(loss.design.shape)
    alone = full & independent(plain.design, members, 1e-10)
    return L1Solution(theta, residual, gap, alone, count + rounds)


def constant(tree: Any) -> Any:
    """The tree without the derivatives of its arrays."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


class _Iterate(eqx.Module):
    x: Float[Array, "2 d"]
    z: Float[Array, "2 d"]
    done: Bool[Array, ""]
    count: Int[Array, ""]


def _interior_point(
    loss: AbstractPredictionLoss, weights: Float[Array, "2 d"]
) -> tuple[Float[Array, " d"], Int[Array, ""]]:
    design, dtype = loss.design, weights.dtype
    sides = jnp.asarray(SIDES, dtype)[:, None]
    allowed = jnp.isfinite(weights)
    w = jnp.where(allowed, weights, 1)
    zero = jnp.zeros(design.shape[1], dtype)
    first, curvature = loss.gradient(zero), loss.curvature(zero)
    steepest = jnp.max(jnp.abs(first))
    stiffest = jnp.max(product(curvature, jnp.square(design)))
    size = jnp.where(steepest > 0, steepest, 1) / jnp.where(stiffest > 0, stiffest, 1)
    force = steepest + jnp.max(w)
    number = jnp.maximum(jnp.sum(allowed), 1).astype(dtype)
    tolerance = float(jnp.finfo(dtype).eps) ** 0.65

    def theta_of(x):
        return jnp.sum(sides * x, axis=0)

    def residuals(x, z, gradient, mu):
        dual = jnp.where(allowed, sides * gradient[None] + w - z, 0)
        return dual, jnp.where(allowed, x * z - mu, 0)

    def merit(dual, centred):
        return jnp.sum(jnp.square(dual / force)) + jnp.sum(jnp.square(centred / (force * size)))

    def step(state: _Iterate) -> _Iterate:
        x, z = state.x, state.z
        theta = theta_of(x)
        complementarity = jnp.sum(jnp.where(allowed, x * z, 0)) / number
        mu = 0.1 * complementarity
        curvature, prediction = loss.curvature(theta), product(design, theta)
        dual, centred = residuals(x, z, loss.gradient(theta), mu)
        ratio = jnp.where(allowed, x / z, 0)
        side = jnp.sum(sides * (jnp.where(allowed, mu / z - x, 0) - ratio * dual), axis=0)
        change, outer = _factorized(design, curvature, jnp.sum(ratio, axis=0))(side)
        dz = jnp.where(allowed, dual + sides * outer[None], 0)
        dx = jnp.where(allowed, mu / z - x - ratio * dz, 0)

        def longest(value, slope):
            falls = slope < 0
            return jnp.min(jnp.where(falls, -value / jnp.where(falls, slope, -1), jnp.inf))

        reach = jnp.minimum(1, 0.99 * jnp.minimum(longest(x, dx), longest(z, dz)))
        lengths = reach * 0.5 ** jnp.arange(HALVINGS, dtype=dtype)
        along = product(design, change)

        def at(length):
            slope = loss.scale * loss.pointwise_gradient(prediction + length * along, loss.y)
            gradient = product(slope, design)
            return merit(*residuals(x + length * dx, z + length * dz, gradient, mu))

        merits = jax.vmap(at)(lengths)
        falls = merits <= (1 - 0.01 * lengths) * merit(dual, centred)
        length = lengths[jnp.where(jnp.any(falls), jnp.argmax(falls), HALVINGS - 1)]
        small = complementarity <= tolerance * force * size
        return _Iterate(
            x=x + length * dx,
            z=z + length * dz,
            done=small & (jnp.max(jnp.abs(dual)) <= tolerance * force),
            count=state.count + 1,
        )

    start = _Iterate(
        x=jnp.where(allowed, size, 0), z=w, done=jnp.asarray(False), count=jnp.asarray(0)
    )
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < MOST_STEPS), step, start)
    # A weight that keeps its complement is in the support.
    inside = (end.x / size > end.z / w) & allowed
    return theta_of(jnp.where(inside, end.x, 0)), end.count


def _solver(loss: AbstractPredictionLoss, theta: Array, signs: Array):
    """The map r -> (rho I + H_SS)^-1 r on the support; rho makes up for dependent columns."""
    inside = (signs != 0).astype(theta.dtype)
    curvature = loss.curvature(theta)
    stiffest = jnp.max(product(curvature, jnp.square(loss.design)))
    rho = float(jnp.finfo(theta.dtype).eps) ** 0.5 * jnp.where(stiffest > 0, stiffest, 1)
    solve = _factorized(loss.design, curvature, inside / rho)
    return lambda side: solve(inside * side / rho)[0]


def _factorized(design: Array, curvature: Array, ratio: Array):
    """The map r -> (x, H x) with (I + E H) x = r, H = X^T C X, for any E >= 0, and r = 0 where E is 0."""
    n, d = design.shape
    if n <= d:
        ones = jnp.ones_like(ratio)
        woodbury = Woodbury()
        matrix = DiagonalPlusLowRank(ones, ratio, ones, design, curvature)
        state = jax.lax.stop_gradient(woodbury.init(matrix, {}))
        return lambda side: woodbury.solution(state, side)
    # There Woodbury's identity loses the digits that E H has above those of I.
    hessian = product(design.T * curvature[None], design)
    root = jnp.sqrt(ratio)
    inverse = inverse_factor(jnp.eye(d, dtype=root.dtype) + root[:, None] * hessian * root[None])
    inverse = jax.lax.stop_gradient(inverse)
    divisor = jnp.where(root > 0, root, 1)

    def solve(side):
        x = root * product(inverse.T, product(inverse, side / divisor))
        return x, product(hessian, x)

    return solve


def _forces(loss, weights, theta, signs):
    """grad L + W sign on the support, 0 elsewhere."""
    side = jnp.where(signs > 0, weights[0], -weights[1])
    return jnp.where(signs != 0, loss.gradient(theta) + jnp.where(signs != 0, side, 0), 0)


def _refined(loss, weights, theta, signs, solve) -> Float[Array, " d"]:
    """theta after proximal Newton steps on its support, each of which carries the derivatives on."""
    for _ in range(REFINEMENTS):
        theta = theta - solve(_forces(loss, weights, theta, signs))
    return jnp.where(signs != 0, theta, 0)


def _active_set(loss, weights, theta) -> tuple[Array, Array, Int[Array, ""]]:
    """theta and its signs, corrected until the optimality conditions hold."""
    sides = jnp.asarray(SIDES, theta.dtype)[:, None]
    rounding = 64 * float(jnp.finfo(theta.dtype).eps)

    def correct(state):
        theta, signs, _, count = state
        goal = _refined(loss, weights, theta, signs, _solver(loss, theta, signs))
        wrong = (signs != 0) & (goal * signs <= 0)
        # Go as far as the first change of sign; its coordinate leaves the support.
        share = jnp.where(wrong, theta / jnp.where(wrong & (theta != goal), theta - goal, 1), 1)
        shortest = jnp.min(share)
        leaves = wrong & (share <= shortest)
        theta = jnp.where(leaves, 0, theta + shortest * (goal - theta))
        # Without a change of sign, the coordinate of the largest violation enters.
        gradient = loss.gradient(goal)
        excess = jnp.max(-sides * gradient[None] - weights, axis=0)
        size = jnp.max(jnp.abs(gradient)) + jnp.max(jnp.where(jnp.isfinite(weights), weights, 0))
        enters = (excess > rounding * size) & (signs == 0) & ~jnp.any(wrong)
        entering = enters & (jnp.arange(theta.size) == jnp.argmax(jnp.where(enters, excess, 0)))
        new = jnp.where(leaves, 0, jnp.where(entering, -jnp.sign(gradient), signs))
        return theta, new, ~jnp.any(wrong) & ~jnp.any(enters), count + 1

    start = theta, jnp.sign(theta), jnp.asarray(False), jnp.asarray(0)
    theta, signs, _, count = jax.lax.while_loop(
        lambda s: ~s[2] & (s[3] < MOST_ROUNDS), correct, start
    )
    return theta, signs, count


def _quality(loss, weights, theta, signs) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The relative residual of the optimality conditions, and the relative duality gap."""
    sides = jnp.asarray(SIDES, theta.dtype)[:, None]
    gradient = loss.gradient(theta)
    largest = jnp.max(jnp.where(jnp.isfinite(weights), weights, 0))
    size = jnp.max(jnp.abs(loss.gradient(jnp.zeros_like(theta)))) + largest
    inside = jnp.max(jnp.abs(_forces(loss, weights, theta, signs)))
    outside = jnp.maximum(jnp.max(-sides * gradient[None] - weights), 0)
    wrong = jnp.max(jnp.where(signs != 0, -theta * signs, 0))
    violation = jnp.maximum(inside, outside)
    side = jnp.where(theta > 0, weights[0], weights[1])
    penalty = jnp.sum(jnp.where(theta != 0, side, 0) * jnp.abs(theta))
    # L(theta) - L(theta*) <= <grad L, theta - theta*> for every other minimizer theta*.
    gap = jnp.vdot(gradient, theta, precision="highest") + penalty
    gap = jnp.abs(gap) + outside * jnp.sum(jnp.abs(theta))
    value = jnp.abs(loss(theta.reshape(loss.X.shape[1:]))) + penalty
    bad = jnp.where(wrong > 0, jnp.inf, 0)
    return violation / jnp.where(size > 0, size, 1) + bad, gap / jnp.where(value > 0, value, 1)
