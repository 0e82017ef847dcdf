"""Exact solutions of linear networks of two layers on whitened data."""

import jax
import jax.numpy as jnp

from ddln._numerics import product
from ddln._types import Array, Float
from ddln._validation import float_array, is_known, require_finite, require_positive
from ddln.parameterizations import MatrixFactorization


def mode_strength(target, start, ts) -> Float[Array, "T *modes"]:
    """The strengths theta(t) of aligned modes of a linear network with two balanced layers.

    theta' = 2 theta (s - theta): for L = |U V^T - Y|^2 / 2 and layers that are balanced and aligned with the
    singular vectors of Y, each singular value of U V^T is learned by itself,

        theta(t) = s exp(2 s t) / (exp(2 s t) - 1 + s / theta_0).

    It takes the time log(theta (s - theta_0) / (theta_0 (s - theta))) / (2 s) to go from theta_0 to theta.
    Differentiable in both modes; for `jax.jit` and `jax.vmap`.

    Args:
        target: s, the singular values of Y, not negative; any shape.
        start: theta_0 > 0, of the shape of `target`.
        ts: the times, shape [T].

    Returns:
        theta(t), shape [T, *modes].

    Raises:
        ValueError: if the shapes differ, or a known value is not finite or out of its range.

    Source: Saxe, McClelland and Ganguli 2014.
    """
    s = float_array("target", target, "*modes")
    first = float_array("start", start, "*modes")
    times = float_array("ts", ts, "T")
    if s.shape != first.shape:
        raise ValueError(
            f"Argument `start` must have the shape of `target`, {s.shape}, but it has {first.shape}."
        )
    require_finite("target", s)
    require_positive("start", first)
    times = times.reshape(-1, *(1,) * s.ndim)
    # (1 - exp(-2 s t)) / s, which tends to 2 t as s vanishes.
    still = s == 0
    grown = -jnp.expm1(-2 * s[None] * times) / jnp.where(still, jnp.ones_like(s), s)[None]
    grown = jnp.where(still[None], 2 * times, grown)
    return first[None] / (jnp.exp(-2 * s[None] * times) + first[None] * grown)


def linear_network_path(start: MatrixFactorization, target, ts) -> Float[Array, "T m k"]:
    """theta(t) = U V^T along the gradient flow of |U V^T - Y|^2 / 2 from a lambda-balanced start, exactly.

    Least squares on whitened data has this loss. A start with U^T U - V^T V = lambda I keeps this, and for
    Q = (V, U) stacked the product Q Q^T solves a matrix Riccati equation,

        (Q Q^T)' = F Q Q^T + Q Q^T F - (Q Q^T)^2,    F = [[-lambda/2 I, Y^T], [Y, lambda/2 I]],
        Q Q^T (t) = e^{Ft} Q_0 (I + Q_0^T E Q_0)^{-1} Q_0^T e^{Ft},    E = int_0^t e^{2Fs} ds,

    of which theta is a block. No time is too large: growing exponentials are divided out. Differentiable in
    both modes where the eigenvalues of F are distinct; for `jax.jit` and `jax.vmap`.

    Example:
        >>> start = ddln.MatrixFactorization(0.1 * jnp.eye(3), 0.1 * jnp.eye(3))
        >>> ddln.theory.linear_network_path(start, Y, jnp.linspace(0.0, 10.0, 100))

    Args:
        start: U_0, V_0 of shapes [m, r] and [k, r], with U_0^T U_0 - V_0^T V_0 = lambda I for some lambda.
        target: Y, shape [m, k].
        ts: the times, not negative, shape [T].

    Returns:
        theta(t), shape [T, m, k]; NaN for a traced start that is not lambda-balanced.

    Raises:
        ValueError: if the shapes do not fit, a known value is not finite, or a known start is not
            lambda-balanced.

    Source: Saxe, McClelland and Ganguli 2014 for aligned modes and lambda = 0; Dominé et al. 2025.
    """
    U, V = start.left, start.right
    Y = float_array("target", target, "m k")
    if Y.shape != (len(U), len(V)):
        raise ValueError(
            f"Argument `target` must have the shape of theta, {(len(U), len(V))}, but it has {Y.shape}."
        )
    require_finite("target", Y)
    balance = product(U.T, U) - product(V.T, V)
    size = U.shape[1]
    rate = jnp.trace(balance) / size
    identity = jnp.eye(size, dtype=U.dtype)
    allowed = jnp.finfo(U.dtype).eps ** 0.5 * (jnp.sum(U**2) + jnp.sum(V**2))
    balanced = jnp.max(jnp.abs(balance - rate * identity)) <= allowed
    if is_known(balanced) and not balanced:
        raise ValueError(
            "Argument `start` must be lambda-balanced, U^T U - V^T V = lambda I, but it is not. Integrate "
            "its flow with `ddln.gradient_flow`."
        )
    # Eigenvalues of F, the largest first: the rows of the matrix below are then sorted by their size.
    half = rate / 2
    corner = -half * jnp.eye(len(V), dtype=Y.dtype), half * jnp.eye(len(U), dtype=Y.dtype)
    f, basis = jnp.linalg.eigh(jnp.block([[corner[0], Y.T], [Y, corner[1]]]))
    f, basis = f[::-1], basis[:, ::-1]
    first = product(basis.T, jnp.concatenate([V, U]))
    # A mode that has grown by more is learned to rounding, and its row must not underflow the others.
    saturated = -0.4 * jnp.log(jnp.finfo(f.dtype).tiny)

    def at(t):
        # R = E^{1/2} O^T Q_0 and I, both times e^{-high}; e^{Ft} = O D E^{1/2} O^T.
        moving = t > 0
        t = jnp.where(moving, t, jnp.ones_like(t))
        growth = jnp.minimum(jnp.maximum(f, 0.0) * t, saturated)
        high = growth[0]
        still = f == 0
        safe = jnp.where(still, jnp.ones_like(f), f)
        square = jnp.where(still, t, -jnp.expm1(-2 * jnp.abs(f) * t) / (2 * jnp.abs(safe)))
        root = jnp.sqrt(square)
        grown = jnp.exp(growth - high) * root
        scaled = jnp.exp(jnp.minimum(f, 0.0) * t) / root
        rows = jnp.concatenate([grown[:, None] * first, jnp.exp(-high) * identity])
        # R (I + R^T R)^{-1} R^T = H H^T.
        hat = jnp.linalg.qr(rows)[0][: len(f)]
        stacked = product(basis, scaled[:, None] * hat)
        moved = product(stacked[len(V) :], stacked[: len(V)].T)
        return jnp.where(moving & balanced, moved, jnp.where(balanced, product(U, V.T), jnp.nan))

    return jax.vmap(at)(float_array("ts", ts, "T"))
