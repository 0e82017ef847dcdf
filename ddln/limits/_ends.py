"""Ends of the range of xi as the scale of a start vanishes, and those of maps with blocks of weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, product
from ddln._types import Array, Float
from ddln._validation import is_known
from ddln.parameterizations import AbstractParameterization

# Shares of the weights in an eigenvector that are rounding, and distances of eigenvalues that are.
NOISE = 256


class Ends(eqx.Module):
    """Ends of the range of xi as the scale vanishes, for the two signs of theta.

    Attributes:
        weights: the distances W_+, W_- of the ends from 0, in units of log(1/alpha) or alpha^(2-L).
        shares: near an end theta is share * f(W - |xi|), f the same for all coordinates: a power for L > 2,
            and an exponential function, exp(-2 (W - |xi|) / W), for L = 2.
        bend: 1 - 2/L, the exponent of |theta|^-bend ~ W - |xi|; 0 for L = 2.
    """

    weights: Float[Array, "2 *theta"]
    shares: Float[Array, "2 *theta"]
    bend: float = eqx.field(static=True)


def ends_of_blocks(parameterization: AbstractParameterization) -> Ends | None:
    """The ends of a map whose entries theta_i have a block of weights each, and a Hessian H_i at w = 0.

    Near the saddle w = 0 a block obeys w' = -g_i H_i w, so that w = exp(xi_i H_i) w_0. With P the
    projection on the eigenvectors of the largest eigenvalue lambda,

        theta_i ~ (lambda / 2) |P w_0|^2 exp(2 lambda xi_i),     W_+ = 1 / lambda,

    and likewise for the most negative eigenvalue and W_-. An eigenvector to which the start is orthogonal
    does not count, so that a tie keeps its sign.

    Source: Zhao et al. 2026.

    Returns:
        The ends, or None for a map that is not zero with its derivative at w = 0, has entries without a
        Hessian there, or shares weights between entries.
    """
    effective, weights = as_function(parameterization)
    flat, unravel = ravel_pytree(weights)
    shape = effective(weights).shape

    def entries(w):
        return effective(unravel(w)).reshape(-1)

    # The map at zero does not depend on traced weights.
    with jax.ensure_compile_time_eval():
        zero = jnp.asarray(np.zeros(flat.shape, flat.dtype))
        values, slopes = entries(zero), jax.jacrev(entries)(zero)
        hessians = jax.jacfwd(jax.jacrev(entries))(zero)
        if all(map(is_known, (values, slopes, hessians))):
            used = np.any(np.asarray(hessians) != 0, axis=1)
            saddle = not (np.any(values) or np.any(slopes)) and bool(np.all(np.isfinite(hessians)))
            if not (saddle and np.all(used.any(axis=1)) and np.all(used.sum(axis=0) <= 1)):
                return None
        vectors = jnp.linalg.eigh(jax.lax.stop_gradient(hessians))[1]
        # The derivative of an eigenvalue, where the Hessians have one.
        growth = jnp.sum(vectors * jax.vmap(product)(hessians, vectors), axis=1)
    modes = jnp.square(jax.vmap(lambda rows: product(flat, rows))(vectors))
    eps = NOISE * float(jnp.finfo(flat.dtype).eps)
    used = jnp.any(hessians != 0, axis=1)
    size = jnp.sum(jnp.where(used, jnp.square(flat)[None], 0), axis=1)
    present = modes > jnp.square(eps) * size[:, None]
    sides = []
    for sign in (1, -1):
        rates = jnp.where(present, sign * growth, 0)
        largest = jnp.max(rates, axis=1)
        reached = largest > eps * jnp.max(jnp.abs(growth), axis=1)
        leads = present & (sign * growth > (1 - eps) * largest[:, None])
        share = 0.5 * largest * jnp.sum(jnp.where(leads, modes, 0), axis=1)
        weight = jnp.where(reached, 1 / jnp.where(reached, largest, 1), jnp.inf)
        sides.append((weight.reshape(shape), jnp.where(reached, share, 1).reshape(shape)))
    up, down = sides
    return Ends(jnp.stack([up[0], down[0]]), jnp.stack([up[1], down[1]]), 0.0)
