"""Deep diagonal networks: the guard of the statements about them, and their constants."""

import itertools

import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Bool, Float, Scalar
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.theory._rows import Rows


def deep_diagonal(parameterization: AbstractParameterization) -> DeepDiagonal:
    """The parameterization, known to be a deep diagonal network.

    Raises:
        ValueError: if it is another.
    """
    if not isinstance(parameterization, DeepDiagonal):
        raise ValueError(
            "Argument `parameterization` (or the trajectory's) must be a `ddln.DeepDiagonal`, "
            f"but it is a {type(parameterization).__name__}. "
            "`ddln.theory.checks` picks the checks that apply."
        )
    return parameterization


def one_smallest_layer(network: DeepDiagonal) -> Bool[Array, ""]:
    """Assumption A as a truth value, for statements that assume it."""
    sizes = jnp.sort(jnp.abs(network.layers), axis=0)
    return jnp.all(sizes[1] > sizes[0])


def sigma(parameterization: AbstractParameterization) -> Scalar:
    """sigma = c^2 min_i prod_{k != k_i} ((u^k_i)^2 - (u^{k_i}_i)^2), k_i the smallest layer at i.

    A lower bound, for all times, of the smallest eigenvalue of the metric along every gradient flow
    from these layers; zero exactly if Assumption A is violated (or by underflow).

    Args:
        parameterization: the start of the flow.

    Raises:
        ValueError: if the parameterization is not a `DeepDiagonal`.

    Source: Labarrière et al. 2024, equation 13 (there c = 1).
    """
    network = deep_diagonal(parameterization)
    gaps = network.canonical().gaps
    return network.factor**2 * jnp.min(jnp.prod(gaps, axis=0))


def squared_layer_change(network: DeepDiagonal, rows: Rows) -> Float[Array, "T L d"]:
    """u^j(t)^2 - u^j(0)^2, factored so that small changes keep their digits."""
    start, layers = network.layers[None], deep_diagonal(rows.parameterization).layers
    return (layers - start) * (layers + start)


def squares_of_others(layers: Float[Array, "T L d"]) -> Float[Array, "T pairs d"]:
    """prod_{l != j, k} (u^l)^2 for the pairs j < k, in the order (1, 2), (1, 3), ..., (2, 3), ...."""
    squares, every = jnp.square(layers), np.arange(layers.shape[1])
    others = [np.delete(every, pair) for pair in itertools.combinations(every, 2)]
    return jnp.stack([jnp.prod(squares[:, other], axis=1) for other in others], axis=1)
