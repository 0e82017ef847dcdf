"""Modified equations: the flow that a descent with finite steps follows to higher order."""

import itertools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function
from ddln._types import Array, Float, Loss
from ddln._validation import require_positive
from ddln.engine.internal import check_model, known
from ddln.parameterizations import AbstractParameterization

Field = Callable[[Float[Array, " P"]], Float[Array, " P"]]
MOST_ORDER = 4


def modified_gradient(
    parameterization: AbstractParameterization,
    loss: Loss,
    step_size: float | Float[Array, ""],
    *,
    order: int = 2,
    momentum: float | Float[Array, ""] = 0.0,
    nesterov: bool = False,
) -> AbstractParameterization:
    """The velocity of the flow that descent with steps of size eta follows up to O(eta^order).

    With F(w) = L(h(w)), momentum beta and time t = k eta, heavy ball and Nesterov's method

        w_{k+1} = w_k + beta (w_k - w_{k-1}) - eta grad F(w_k + nu beta (w_k - w_{k-1})),   nu = 0 or 1,

    have solutions w_k = phi(k eta) of a flow phi' = f_1 + eta f_2 + ... + eta^(p-1) f_p, p the order,
    whose terms follow from those before: with f = -grad F and D_i g = g' f_i,

        sum_{m >= 1} (1 + (-1)^m beta) / m! sum_{i_1 + ... + i_m = n} D_{i_1} ... D_{i_{m-1}} f_{i_m}
            = the coefficient of eta^(n-1) in f(y),

    y the point of the gradient. For beta = 0 it is gradient descent: f_2 = -H grad F / 2, that is gradient
    flow on F + eta |grad F|^2 / 4; for heavy ball the flow is, to order two,

        phi' = -1 / (1 - beta) (grad F + eta (1 + beta) / (2 (1 - beta)^2) H grad F).

    The iterates are on the flow from a start on it, w_{-1} = phi(-eta), and near it, after a transient of
    1 / (1 - beta) steps, from rest. By nested forward derivatives of grad F; differentiable, for
    `jax.jit` and `jax.vmap`. The series does not converge: it describes steps well below
    2 / sharpness.

    Example:
        >>> ddln.theory.modified_gradient(network, loss, 0.1, order=3).layers

    Args:
        parameterization: the weights.
        loss: L(theta), differentiable `order` times.
        step_size: eta, positive.
        order: p, 1 (gradient flow, in the time of the method) to 4.
        momentum: beta, in [0, 1).
        nesterov: whether the gradient is taken after the momentum.

    Returns:
        The parameterization with its weights replaced by the velocity.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Barrett and Dherin 2021 for gradient descent of order two; Hairer, Lubich and Wanner 2006,
    chapter IX, for the recursion.
    """
    if order not in range(1, MOST_ORDER + 1):
        raise ValueError(f"Argument `order` must be from 1 to {MOST_ORDER}, but it is {order}.")
    if known(step_size) is not None:
        require_positive("step_size", step_size)
    beta = known(momentum)
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"Argument `momentum` must be in [0, 1), but it is {beta}.")
    check_model(parameterization, loss)
    effective, weights = as_function(parameterization)
    flat, unravel = ravel_pytree(weights)
    eta, beta = (jnp.asarray(value, flat.dtype) for value in (step_size, momentum))

    def force(w):
        return -jax.grad(lambda w: loss(effective(unravel(w))))(w)

    terms = _terms(force, beta, order, nesterov)
    velocity = sum((eta**n * term(flat) for n, term in enumerate(terms)), jnp.zeros_like(flat))
    _, static = eqx.partition(parameterization, eqx.is_inexact_array)
    return eqx.combine(unravel(velocity), static)


def _terms(force: Field, beta: Array, order: int, nesterov: bool) -> list[Field]:
    """f_1, ..., f_p."""
    terms: list[Field] = []
    for n in range(1, order + 1):
        terms.append(_next_term(force, beta, tuple(terms), n, nesterov))
    return terms


def _next_term(
    force: Field, beta: Array, before: tuple[Field, ...], n: int, nesterov: bool
) -> Field:
    def term(w):
        known = _coefficient_of_force(force, beta, before, n, w) if nesterov else None
        if known is None:
            known = force(w) if n == 1 else jnp.zeros_like(w)
        for m in range(2, n + 1):
            weight = (1 + (-1) ** m * beta) / math.factorial(m)
            known = known - weight * _derivative(before, m, n, w)
        return known / (1 - beta)

    return term


def _derivative(terms: tuple[Field, ...], m: int, n: int, w: Array) -> Array:
    """The coefficient of eta^n in eta^m times the m-th time derivative of the flow."""
    total = jnp.zeros_like(w)
    for indices in itertools.product(range(1, n), repeat=m):
        if sum(indices) == n:
            *outer, last = (terms[i - 1] for i in indices)
            field = last
            for along in reversed(outer):
                field = _along(field, along)
            total = total + field(w)
    return total


def _along(field: Field, direction: Field) -> Field:
    return lambda w: jax.jvp(field, (w,), (direction(w),))[1]


def _coefficient_of_force(
    force: Field, beta: Array, before: tuple[Field, ...], n: int, w: Array
) -> Array:
    """The coefficient of eta^(n-1) in f(w + beta (w - phi(-eta)))."""
    lags = []
    for i in range(1, n):
        lag = before[i - 1](w)
        for m in range(2, i + 1):
            lag = lag - (-1) ** m / math.factorial(m) * _derivative(before, m, i, w)
        lags.append(lag)

    def shifted(eta):
        move = sum((eta ** (i + 1) * lag for i, lag in enumerate(lags)), jnp.zeros_like(w))
        return force(w + beta * move)

    rate: Callable[[Array], Array] = shifted
    for _ in range(n - 1):
        rate = _rate(rate)
    return rate(jnp.zeros((), w.dtype)) / math.factorial(n - 1)


def _rate(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda eta: jax.jvp(function, (eta,), (jnp.ones_like(eta),))[1]
