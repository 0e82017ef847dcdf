"""The momentum flow that models gradient descent with momentum."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Float, Scalar
from ddln._validation import is_known, require_positive


class MomentumScaling(eqx.Module):
    """The constants of a momentum flow for a descent.

    Attributes:
        inertia: lambda.
        time_per_step: what one step takes in the time of the flow.
        first_step: the step size of the first step; gamma in all others.
    """

    inertia: Scalar
    time_per_step: Scalar
    first_step: Scalar


def momentum_scaling(
    step_size: float | Float[Array, ""],
    momentum: float | Float[Array, ""],
    *,
    order: int = 2,
) -> MomentumScaling:
    """The momentum flow near w_{k+1} = w_k - gamma grad F(w_k) + beta (w_k - w_{k-1}), w_{-1} = w_0.

    This descent is that of `optax.sgd(gamma, momentum=beta)`. One step takes the time
    h = gamma / (1 - beta), and

        order 1:  lambda = gamma / (1 - beta)^2,                 error O(h) at fixed lambda,
        order 2:  lambda = gamma (1 + beta) / (2 (1 - beta)^2),  error O(h^2),

    the second one only if the first step is made with gamma / (1 + beta), since from rest
    w(h) = w_0 + h^2 w''(0) / 2 + ... = w_0 - gamma / (1 + beta) grad F(w_0) + ... For `optax.sgd` set its
    trace to -grad F(w_0) / (1 + beta) at the start.

    Example:
        >>> scaling = ddln.momentum_scaling(0.01, 0.9)
        >>> flow = ddln.momentum_flow(
        ...     network, loss, 1000 * scaling.time_per_step, inertia=scaling.inertia
        ... )

    Args:
        step_size: gamma, positive.
        momentum: beta, at least 0 and below 1.
        order: 2 or 1.

    Raises:
        ValueError: if an argument is outside its range.

    Source: Papazov et al. 2024, for order 1; order 2 by expanding
    w(t + h) - w(t) - beta (w(t) - w(t - h)) in h to the third derivative.
    """
    if order not in (1, 2):
        raise ValueError(f"Argument `order` must be 1 or 2, but it is {order}.")
    require_positive("step_size", step_size)
    if is_known(momentum) and not 0 <= momentum < 1:
        raise ValueError(
            f"Argument `momentum` must be at least 0 and below 1, but it is {momentum}."
        )
    step_size, momentum = jnp.asarray(step_size, float), jnp.asarray(momentum, float)
    time_per_step = step_size / (1 - momentum)
    inertia = time_per_step / (1 - momentum)
    if order == 1:
        return MomentumScaling(inertia, time_per_step, step_size)
    return MomentumScaling(inertia * (1 + momentum) / 2, time_per_step, step_size / (1 + momentum))
