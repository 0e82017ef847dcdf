"""Leading term of the excess of the l1 norm for small initializations."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Loss
from ddln.limits._vanishing_limit import vanishing_limit
from ddln.parameterizations import DeepDiagonal
from ddln.potentials import potential


def excess_law(network: DeepDiagonal, loss: Loss, scales) -> Float[Array, " scale"]:
    """Leading term, for small alpha, of the excess of the l1 norm at the end of the flow from alpha * w_0.

    With the weights W = `l1_weights(network)`, the minimizer theta* of the weighted norm, and its
    certificate s = X^T nu, s = +-W on the support of theta*, the excess is exactly
    sum_i (W |theta_i| - s_i theta_i) over the coordinates off the support, W that of the sign of
    theta_i, and there for small alpha

        L >= 3:  theta_i = alpha^L theta(s_i),    theta(xi) the inverse mirror map at alpha = 1;
        L = 2:   |theta_i| = (|c| D_i / 4) alpha^(2 (1 - |c s_i|)) exp(sign(c s_i) (2 x_i . e + k_i)),

    D = |u^2 - v^2|, k = log |(u + v)/(u - v)|, and e with 2 x_i . e + k_i = sign(theta_i*)
    log(4 |theta_i*| / (|c| D_i)) on the support. So the excess falls like alpha^L for L >= 3, whatever
    the data, and like a power of alpha between 0 and 2 that the data set for L = 2.

    Example:
        >>> scales = jnp.geomspace(1e-3, 1e-1, 9)
        >>> starts = jax.vmap(lambda scale: ddln.DeepDiagonal(scale * network.layers))(scales)
        >>> ends = jax.vmap(lambda start: ddln.limit(start, loss, throw=False).theta)(starts)
        >>> ddln.excess_l1(ends, X, y, ddln.l1_weights(network)), ddln.excess_law(network, loss, scales)

    Args:
        network: w_0, the start at alpha = 1, without ties.
        loss: the squared loss, with X theta = y solvable; theta* must be unique and have as many
            entries as X has independent rows, so that nu is unique.
        scales: alpha, shape [scale].

    Returns:
        The excess, relative to the weighted norm of theta*, as `excess_l1(theta, X, y, W)` measures it.

    Raises:
        ValueError: if theta* has fewer entries than X has independent rows. Not for use inside `jax.jit`.
    """
    path = vanishing_limit(network, loss)
    end, dual, weights = path.theta[-1], path.dual[-1], path.weights
    X = np.asarray(loss.X)  # pyright: ignore[reportFunctionMemberAccess]
    support = np.asarray(end != 0)
    rank = np.linalg.matrix_rank(X)
    if support.sum() != rank:
        raise ValueError(
            f"Argument `loss` must have a minimizer of smallest l1 norm with {rank} entries, as X has "
            f"independent rows, but it has {support.sum()}: the certificate is not unique."
        )
    off = ~support
    scales = jnp.asarray(scales, end.dtype)
    s = dual[off]
    if network.layers.shape[0] == 2:
        u, v = network.layers
        c = network.factor
        width, tilt = jnp.abs(c * (u**2 - v**2)), jnp.log(jnp.abs((u + v) / (u - v)))
        sign = jnp.sign(c * dual)
        level = sign * jnp.log(4 * jnp.abs(jnp.where(support, end, 1)) / width) - tilt
        e = np.linalg.lstsq(X[:, support].T, np.asarray(level[support]) / 2, rcond=None)[0]
        shift = sign[off] * (2 * X[:, off].T @ e + tilt[off])
        room = 1 - jnp.abs(c * s)
        sizes = scales[:, None] ** (2 * room)[None] * (width[off] / 4 * jnp.exp(shift))[None]
        excess = sizes @ (room / abs(c))
    else:
        # Coordinates at an end of their range are replaced by xi = 0, which is inside.
        q = potential(network)
        theta = q.inverse_mirror_map(jnp.where(support, 0, dual))[off]
        weight = jnp.where(theta > 0, weights[0, off], weights[1, off])
        excess = scales ** network.layers.shape[0] * jnp.sum(weight * jnp.abs(theta) - s * theta)
    return excess / jnp.sum(jnp.where(end > 0, *weights) * jnp.abs(end), where=support)
