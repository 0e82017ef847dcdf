"""The number of samples from which vanishing starts recover the signal."""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from ddln._types import Array, Float, Scalar
from ddln.asymptotics._arguments import signal_of, weights_of
from ddln.asymptotics._signal import Signal
from ddln.limits import l1_weights
from ddln.parameterizations import AbstractParameterization

# Newton's steps; from tau = 0 a density of 1e-12 takes 30.
MOST_STEPS = 60


def recovery_threshold(
    start: AbstractParameterization,
    signal: Signal,
    *,
    weights: Float[Array, " K"] | None = None,
) -> Float[Array, ""]:
    r"""The smallest n/d at which the limit from a vanishing start is the signal, for Gaussian data.

    As the scale of the start goes to 0 the limit of the gradient flow minimizes the norm
    sum(W_+ theta^+ + W_- theta^-) of `ddln.l1_weights` subject to X theta = X theta*. For d -> infinity
    that is theta* where n/d is above

        \alpha_c = \min_\tau \operatorname{E} \bigl[ p_+ (1 + \tau^2 W_+^2) + p_- (1 + \tau^2 W_-^2)
            + p_0 (g(\tau W_+) + g(\tau W_-)) \bigr],
        g(x) = (1 + x^2) \Phi(-x) - x \varphi(x),

    with p_+, p_- and p_0 the probabilities that theta* is positive, negative and zero, and the expectation
    over the starts: the law of the values that are not zero does not matter. Below alpha_c the error is
    positive. From starts of finite scale the error is positive everywhere, and small above alpha_c.

    For equal weights it is the weak threshold of the l1 norm, and for a sign that the start cannot take
    (W = infinity) that of non-negative solutions [@donoho2009, eq. 5]; for weights of its own for every
    coordinate and sign the derivation is on the page "How good the end is".

    Differentiable in every array; to be used under `jax.jit` and `jax.vmap`.

    Example:
        >>> start = ddln.DeepDiagonal.zero_last(jnp.ones(1), depth=2)
        >>> recovery_threshold(start, ddln.Signal.sparse(0.1)).round(6)
        Array(0.328794, dtype=float64)

    Args:
        start: a parameterization with `ddln.l1_weights`; its coordinates are the starts that occur, as in
            `ddln.state_evolution`. Its scale does not matter.
        signal: the law of theta*.
        weights: the probabilities of the starts; None takes all as equally likely.

    Returns:
        alpha_c in [0, 1], or infinity if the signal has a sign that the start cannot take.

    Raises:
        ValueError: for arguments that do not fit.
    """
    slopes = l1_weights(start).reshape(2, -1)
    shares, law = weights_of(weights, start), signal_of(signal, start)
    atom = law.deviations == 0
    quotient = law.means / jnp.where(atom, 1, law.deviations)
    positive, negative = (
        jnp.where(atom, (sign * law.means > 0).astype(slopes.dtype), norm.cdf(sign * quotient))
        for sign in (1, -1)
    )
    signs = jnp.stack([jnp.sum(law.probabilities * p, axis=0) for p in (positive, negative)])
    zero = jnp.sum(law.probabilities * (1 - positive - negative), axis=0)
    return _minimum(slopes, shares[None] * signs, shares * zero)


@jax.jit
def _minimum(
    slopes: Float[Array, "2 K"], signs: Float[Array, "2 K"], zero: Float[Array, " K"]
) -> Scalar:
    """The minimum over tau: a convex function with an increasing, concave derivative."""
    reached = jnp.isfinite(slopes)
    finite = jnp.where(reached, slopes, 0)
    curvature = jnp.sum(signs * jnp.square(finite))
    idle = jnp.where(reached, zero[None], 0)

    def derivative(tau: Scalar) -> tuple[Scalar, Scalar]:
        """Half of d/d tau, and its slope."""
        x = tau * finite
        lost = norm.pdf(x) - x * norm.cdf(-x)
        first = tau * curvature - jnp.sum(idle * finite * lost)
        return first, curvature + jnp.sum(idle * jnp.square(finite) * norm.cdf(-x))

    def newton(_, tau: Scalar) -> Scalar:
        value, slope = derivative(tau)
        return tau - value / jnp.where(slope > 0, slope, 1)

    # The tangents of a concave function are above it, so that tau increases to the root.
    tau = jax.lax.fori_loop(0, MOST_STEPS, newton, jnp.zeros_like(curvature))
    # One more step carries the derivative of tau, for derivatives of second order.
    tau = newton(0, jax.lax.stop_gradient(tau))
    x = tau * finite
    passed = (1 + jnp.square(x)) * norm.cdf(-x) - x * norm.pdf(x)
    needed = jnp.sum(signs * (1 + jnp.square(x))) + jnp.sum(idle * passed)
    barred = jnp.any(~reached & (signs > 0))
    return jnp.where(barred, jnp.inf, needed)
