"""Step sizes at which a minimum, and the orbit of period two that is born there, lose their stability."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import first_order, twice_differentiable
from ddln._results import RESULTS
from ddln._types import Array, Float, Loss, Scalar
from ddln.engine.internal import known
from ddln.parameterizations import AbstractParameterization
from ddln.theory.edge._period_two import PeriodTwoOrbit, Steps, check_orbit, newton
from ddln.theory.edge._spectrum import hessian_spectrum

# The orbit is followed to larger step sizes by this factor at a time, at most so often: up to 2.7 times.
MOVE, MOST_MOVES = 1.01, 100


def stable_step_size(
    parameterization: AbstractParameterization,
    loss: Loss,
    *,
    momentum: float | Float[Array, ""] = 0.0,
    nesterov: bool = False,
) -> Scalar:
    """The step size beyond which descent leaves a minimum: that of the edge of stability.

    With the largest eigenvalue S of the Hessian and momentum beta,

        2 / S for gradient descent,   2 (1 + beta) / S for heavy ball,
        2 (1 + beta) / ((1 + 2 beta) S) for Nesterov's method:

    the root of the recursion along the eigenvector passes -1. Infinite if no eigenvalue is positive.
    Differentiable once; for `jax.jit` and `jax.vmap`.

    Example:
        >>> ddln.theory.stable_step_size(ddln.limit(network, loss).parameterization, loss)

    Args:
        parameterization: the weights, at a minimum.
        loss: L(theta), twice differentiable.
        momentum: beta, in [0, 1).
        nesterov: whether the gradient is taken after the momentum.

    Raises:
        ValueError: if the momentum is out of its range, or the loss has no second derivatives.

    Source: Cohen et al. 2021.
    """
    beta = known(momentum)
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"Argument `momentum` must be in [0, 1), but it is {beta}.")
    sharpness = hessian_spectrum(parameterization, loss).values[-1]
    beta = jnp.asarray(momentum, sharpness.dtype)
    edge = 2 * (1 + beta) / (1 + 2 * beta if nesterov else 1)
    positive = sharpness > 0
    return jnp.where(positive, edge / jnp.where(positive, sharpness, 1), jnp.inf)


def period_doubling(
    parameterization: AbstractParameterization,
    loss: Loss,
    step_size: float | Float[Array, ""],
    *,
    max_steps: int = 50,
) -> PeriodTwoOrbit:
    """The orbit of period two of gradient descent that loses its stability to one of period four.

    Newton's method for the orbit, the step size eta and a vector v with

        D v = -v,   |v| = 1,

    D the derivative of two steps. It starts next to the threshold: where det(1 + D) changes its sign as the
    orbit is followed from `step_size` upward by 1 % at a time. `step_size` of the result is the threshold.
    Differentiable once in the loss's arrays; for `jax.jit` and `jax.vmap`.

    Example:
        >>> doubled = ddln.theory.period_doubling(run.final, loss, 1.2)
        >>> doubled.step_size, doubled.multipliers[0]

    Args:
        parameterization: the weights near one of the points of the orbit at `step_size`.
        loss: L(theta), three times differentiable.
        step_size: a step size below the threshold, or slightly above it, positive.
        max_steps: the most Newton steps, for each orbit and for the threshold.

    Returns:
        The orbit; `result` is `RESULTS.no_orbit` if none was found with a multiplier of -1.

    Raises:
        ValueError: as `period_two_orbit`.
    """
    check_orbit(parameterization, loss, step_size, max_steps)
    with twice_differentiable():
        return _doubling(parameterization, loss, step_size, max_steps)


@eqx.filter_jit
def _doubling(parameterization, loss, step_size, max_steps: int) -> PeriodTwoOrbit:
    steps = Steps(parameterization)
    size, dtype = steps.flat.size, steps.flat.dtype
    loss = steps.with_arrays(loss)
    arrays, rest = eqx.partition(loss, eqx.is_inexact_array)
    fixed = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    eta = jax.lax.stop_gradient(jnp.asarray(step_size, dtype))

    def sum_with_one(y, eta):
        """1 + D."""

        def two_steps(w):
            for _ in range(2):
                w = w - eta * steps.gradient(fixed, w)
            return w

        mean, half = jnp.split(y, 2)
        return jax.jacfwd(two_steps)(mean + half) + jnp.eye(size, dtype=dtype)

    def going(state):
        return ~state[2] & (state[3] < MOST_MOVES)

    def advance(state):
        y, eta, _, number = state
        eta = jnp.where(number > 0, MOVE * eta, eta)
        y = newton(lambda eta, y: steps.equations(fixed, eta, y), eta, y, max_steps)
        # The determinant is positive until a first multiplier passes -1.
        return y, eta, jnp.linalg.slogdet(sum_with_one(y, eta))[0] < 0, number + 1

    half_step = jax.lax.stop_gradient(steps.half_step(fixed, eta))
    orbit, eta, _, _ = jax.lax.while_loop(going, advance, (half_step, eta, jnp.asarray(False), 0))
    # The vector whose image is nearest to its opposite.
    vector = jnp.linalg.svd(sum_with_one(orbit, eta))[2][-1]
    start = jnp.concatenate([orbit, vector, eta[None]])
    loss = first_order("period_doubling", loss)

    def equations(loss, unknown):
        y, v, eta = unknown[: 2 * size], unknown[2 * size : -1], unknown[-1]
        mean, half = jnp.split(y, 2)
        image = v
        for w in (mean + half, mean - half):
            image -= eta * jax.jvp(lambda w: steps.gradient(loss, w), (w,), (image,))[1]
        length = (jnp.sum(jnp.square(v)) - 1) / 2
        return jnp.concatenate([steps.equations(loss, eta, y), image + v, length[None]])

    unknown = newton(equations, loss, start, max_steps)
    found = steps.orbit(loss, unknown[-1], unknown[: 2 * size])
    # The multiplier is -1 up to the rounding of D.
    error = jnp.max(jnp.abs(equations(loss, unknown)[2 * size :]))
    rounding = 1e3 * float(jnp.finfo(dtype).eps) * (1 + jnp.max(jnp.abs(found.derivative)))
    solved = (error <= rounding) & (unknown[-1] > 0)
    result = RESULTS.where(solved, found.result, RESULTS.no_orbit)  # pyright: ignore
    return eqx.tree_at(lambda one: one.result, found, result)
