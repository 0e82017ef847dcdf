"""Weight decay: the law of the gaps, and the decrease of the regularized loss."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Loss
from ddln.flows import Trajectory, integrated_decay
from ddln.theory._decrease import decrease
from ddln.theory._errors import loss_error, rounding, weight_error
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached
from ddln.theory.layers._network import deep_diagonal


@law(
    source="Jacobs et al. 2025, for two layers; here for every depth",
    relation="==",
    axes=("time", "layer", "coordinate"),
)
def decayed_gap(trajectory: Trajectory, loss: Loss, weight_decay: Any) -> Sides:
    """Under weight decay the gaps shrink at twice its rate:
    u^j(t)^2 - u^k(t)^2 = exp(-2 Lambda(t)) (u^j(0)^2 - u^k(0)^2), k the smallest layer at the start.

    Lambda is the integral of the weight decay, common to all layers. In reduced coordinates the law holds
    by construction; integrate with `coordinates="full"` to test the flow rather than the coordinates.

    Args:
        trajectory: a gradient flow of a `DeepDiagonal` with weight decay.
        loss: any loss; the law does not depend on it.
        weight_decay: that of the flow: a number, a function of time or a `ddln.PiecewiseConstant`.

    Returns:
        a check with axes (time, layer, coordinate), shape [T, L, d].

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.
    """
    network, rows = deep_diagonal(trajectory.initial), fill_unreached(trajectory)
    start, layers = network.layers, deep_diagonal(rows.parameterization).layers
    k = jnp.argmin(jnp.abs(start), axis=0)[None]
    smallest = jnp.take_along_axis(start, k, axis=0)
    last = jnp.take_along_axis(layers, k[None], axis=1)
    off = weight_error(trajectory, rows).layers
    square = 2 * jnp.abs(layers) * off + jnp.square(off)
    ts = jnp.where(rows.reached, trajectory.ts, 0)
    factor = jnp.exp(-2 * integrated_decay(weight_decay, ts))[:, None, None]
    # (u - v)(u + v) keeps the digits of a small gap.
    shrunk = factor * ((start - smallest) * (start + smallest))[None]
    return Sides(
        lhs=(layers - last) * (layers + last),
        rhs=shrunk,
        tolerance=square + jnp.take_along_axis(square, k[None], axis=1) + rounding(shrunk),
        compared=rows.reached[:, None, None],
    )


@law(source="the chain rule", relation="<=", axes=("time",))
def regularized_loss(trajectory: Trajectory, loss: Loss, weight_decay: Any) -> Sides:
    """With a constant weight decay lambda the regularized loss never increases:
    L(theta(t_k)) + lambda/2 |w(t_k)|^2 <= L(theta(t_{k-1})) + lambda/2 |w(t_{k-1})|^2.

    Holds for every parameterization and every loss: the flow is the gradient flow of the sum. Each saved
    time is compared with the one before it, the first with the start, until the flow has converged.

    Args:
        trajectory: a gradient flow with this weight decay.
        loss: the loss it was integrated with.
        weight_decay: lambda, a number.

    Returns:
        a check with axes (time,), shape [T].

    Raises:
        ValueError: if the weight decay is a function of time.
    """
    if callable(weight_decay):
        raise ValueError(
            "Argument `weight_decay` must be a number: with a schedule the regularized loss may increase "
            f"with lambda. It is {weight_decay!r}."
        )

    def norm(parameterization) -> Any:
        leaves = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
        return sum(jnp.sum(jnp.square(leaf)) for leaf in leaves)

    rows = fill_unreached(trajectory)
    half = 0.5 * jnp.asarray(weight_decay, rows.loss.dtype)
    first = (loss(trajectory.initial.effective()) + half * norm(trajectory.initial))[None]
    values = rows.loss + half * eqx.filter_vmap(norm)(rows.parameterization)

    def slack(weights, error) -> Any:
        parts = jax.tree.map(lambda w, e: jnp.sum(2 * jnp.abs(w) * e + e * e), weights, error)
        return sum(jax.tree.leaves(parts))

    weights = eqx.filter(rows.parameterization, eqx.is_inexact_array)
    error = loss_error(trajectory, rows, loss) + rounding(values)
    error = error + half * jax.vmap(slack)(weights, weight_error(trajectory, rows))
    return decrease(first, values, rounding(first), error, rows.reached)
