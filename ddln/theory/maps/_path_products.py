"""ReLU networks as maps to the products of their weights along paths."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp

from ddln._types import Array, Float, PyTree
from ddln._validation import float_array
from ddln.parameterizations import FromFunction


def path_products(layers: Sequence, biases: Sequence | None = None) -> FromFunction:
    """theta = the products of the weights along all paths to an output of a ReLU network.

    A path starts at an input, or at a bias, and takes one weight of each later layer. Away from
    kinks, the output of the network on any data is linear in these products (a path counts where
    all its neurons are active), so the conservation laws of the products are those of the network
    for every loss and data: one for each hidden neuron, the squared norm of its incoming weights and
    bias minus that of its outgoing weights. Source: Marcotte, Gribonval and Peyré 2023.

    Args:
        layers: the weight matrices, from the input on, shapes [n_1, n_0], [n_2, n_1], ...
        biases: the bias of each layer, shapes [n_1], [n_2], ..., fewer if the last layers have none.

    Returns:
        a parameterization whose weights are the tree (layers, biases).

    Raises:
        ValueError: if neighbouring layers do not fit, a bias does not fit its layer, or there are
            more biases than layers.
    """
    matrices = tuple(
        float_array(f"layers[{i}]", one, "outputs inputs") for i, one in enumerate(layers)
    )
    vectors = tuple(
        float_array(f"biases[{i}]", one, "outputs") for i, one in enumerate(biases or ())
    )
    for i, (one, other) in enumerate(itertools.pairwise(matrices)):
        if other.shape[1] != one.shape[0]:
            raise ValueError(
                f"Argument `layers` must be a chain, but layers[{i}] has shape {one.shape} and "
                f"layers[{i + 1}] has shape {other.shape}."
            )
    if not matrices or len(vectors) > len(matrices):
        raise ValueError(
            f"Argument `biases` must have at most one vector for each of the {len(matrices)} layers, "
            f"but it has {len(vectors)}."
        )
    for i, bias in enumerate(vectors):
        if bias.shape[0] != matrices[i].shape[0]:
            raise ValueError(
                f"Argument `biases[{i}]` must have one entry for each of the {matrices[i].shape[0]} "
                f"rows of layers[{i}], but it has {bias.shape[0]}."
            )
    return FromFunction(_products, (matrices, vectors))


def _products(weights: PyTree[Array]) -> Float[Array, "outputs paths"]:
    """The products of the weights along the paths to each output."""
    matrices, vectors = weights
    # Products along the paths to each neuron of a layer; 1 for an input.
    products = jnp.ones((matrices[0].shape[1], 1), matrices[0].dtype)
    for i, matrix in enumerate(matrices):
        longer = (matrix[:, :, None] * products[None]).reshape(matrix.shape[0], -1)
        if i < len(vectors):
            longer = jnp.concatenate([longer, vectors[i][:, None]], axis=1)
        products = longer
    return products
