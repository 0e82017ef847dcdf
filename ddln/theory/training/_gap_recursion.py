"""Finite steps and the differences of squared layers, at every depth."""

import jax.numpy as jnp
import numpy as np

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._errors import rounding
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached
from ddln.theory.layers import deep_diagonal, squares_of_others


@law(
    source="Even et al. 2023, for two layers; here for every depth",
    relation="==",
    axes=("step", "pair", "coordinate"),
)
def gap_recursion(trajectory: Trajectory, loss: Loss) -> Sides:
    """gap_jk after a step = gap_jk (1 - gamma^2 g^2 c^2 prod (u^l)^2, l != j, k),
    gap_jk = (u^j)^2 - (u^k)^2.

    Exact for every depth, full or mini-batch gradient g and step size gamma. To first order in gamma
    the gaps are conserved; to second order they shrink, for L = 2 to the gain of `gain`. See
    "Discrete steps" in the documentation.

    Saved steps that follow each other are compared: run `ddln.descend` with `ts` such as
    `range(100)`. gamma g is the difference of the duals.

    Args:
        trajectory: a `ddln.descend` of a `DeepDiagonal`, with its dual.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (step, pair, coordinate), shape [T - 1, L (L - 1) / 2, d], the pairs j < k in
        the order (1, 2), (1, 3), ..., (2, 3), ....

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`, or fewer than two rows or no dual
            were saved.
    """
    network = deep_diagonal(trajectory.initial)
    if trajectory.dual is None or trajectory.ts.shape[0] < 2:
        raise ValueError(
            "Argument `trajectory` must have two saved steps or more, and the dual. "
            "Run `ddln.descend` with `ts=range(100)`."
        )
    rows = fill_unreached(trajectory)
    first, second = np.triu_indices(network.depth, 1)
    layers = deep_diagonal(rows.parameterization).layers
    # (u^j - u^k)(u^j + u^k) keeps the digits of a small gap.
    j, k = layers[:, first], layers[:, second]
    gaps = (j - k) * (j + k)
    product = squares_of_others(layers[:-1])
    step = network.factor * (rows.dual[1:] - rows.dual[:-1])
    factor = jnp.square(step)[:, None] * product
    step_error = abs(network.factor) * rounding(jnp.abs(rows.dual[1:]) + jnp.abs(rows.dual[:-1]))
    error = rounding(j[1:] ** 2 + k[1:] ** 2 + j[:-1] ** 2 + k[:-1] ** 2)
    slope = 2 * jnp.abs(gaps[:-1] * product) * (jnp.abs(step) * step_error)[:, None]
    follows = (trajectory.ts[1:] == trajectory.ts[:-1] + 1) & rows.reached[1:]
    return Sides(
        lhs=gaps[1:],
        rhs=gaps[:-1] * (1 - factor),
        tolerance=error * (1 + jnp.sqrt(factor)) + slope,
        compared=follows[:, None, None],
    )
