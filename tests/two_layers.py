"""The flow of two layers with orthonormal features in closed form, for tests of flows and sweeps."""

import jax.numpy as jnp


def closed_form(X, layers, target, t1):
    """theta(t1) of theta' = -sqrt(4 theta^2 + D^2) (theta - b), with b = X^T y and D = |u^2 - v^2|.

    X is square and orthogonal. With theta = (D/2) sinh(log z) this is the Riccati equation
    z' = -(D/2) (z - e^beta) (z + e^-beta), sinh(beta) = 2 b / D, whose cross-ratio decays like
    exp(-D cosh(beta) t).
    """
    u, v = layers
    gap = jnp.abs(u**2 - v**2)
    beta = jnp.arcsinh(2 * (X.T @ target) / gap)
    z = jnp.abs((u + v) / (u - v))
    up, down = jnp.exp(beta), jnp.exp(-beta)
    ratio = (z - up) / (z + down) * jnp.exp(-gap * jnp.cosh(beta) * t1)
    z = (up + down * ratio) / (1 - ratio)
    return gap / 4 * (z - 1 / z)
