"""The flow map of theta = h(w) by SciPy, independent of the package."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp


def dual_path(effective, weights, xi):
    """theta(s xi) and Q*(s xi) for s = 1, from dw/ds = J(w)^T xi and dQ*/ds = <xi, theta>.

    Args:
        effective: h, a function from a vector of weights to theta.
        weights: w_0, a vector.
        xi: the end of the path, of the shape of theta.
    """
    pull = jax.jit(lambda w: jax.vjp(effective, w)[1](jnp.asarray(xi))[0])
    h = jax.jit(effective)

    def field(_, state):
        w = jnp.asarray(state[:-1])
        return np.append(pull(w), np.vdot(xi, h(w)))

    end = solve_ivp(field, (0, 1), np.append(weights, 0.0), "DOP853", rtol=1e-13, atol=1e-15).y[
        :, -1
    ]
    return np.asarray(h(jnp.asarray(end[:-1]))), end[-1]
