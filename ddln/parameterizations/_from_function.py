"""Parameterizations by any function of any tree of weights."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, PyTree, Theta
from ddln._validation import float_array, require_finite
from ddln.parameterizations._base import AbstractParameterization


class FromFunction(AbstractParameterization):
    """theta = function(weights).

    Metric, flow and checks follow from h alone, and so does a numerical potential if h has one.

    Example:
        >>> FromFunction(lambda w: w["a"] ** 3 + w["b"], {"a": jnp.ones(2), "b": jnp.ones(2)})()
        Array([2., 2.], dtype=float64)

    Args:
        function: h, differentiable, from the tree of weights to a real array. Compilation caches
            compare it by identity, so define it once.
        weights: a tree of arrays, all of which are trained, such as a model of equinox, or the parameters
            of one of flax or haiku. Functions and texts among its leaves stay as they are.

    Raises:
        ValueError: if a leaf of `weights` is not a real array with known values that are finite, or
            the function does not give a real array, finite where its values are known.
    """

    function: Callable[[PyTree[Array]], Theta] = eqx.field(static=True)
    weights: PyTree[Array]

    def __init__(self, function, weights: PyTree):
        leaves, structure = jax.tree.flatten_with_path(weights)
        # Models of equinox have functions among their leaves.
        arrays = [
            x
            if callable(x) or isinstance(x, str)
            else float_array(f"weights{jax.tree_util.keystr(path)}", x, "...")
            for path, x in leaves
        ]
        if not any(map(eqx.is_array, arrays)):
            raise ValueError("Argument `weights` must have at least one array, but it has none.")
        self.function = function
        self.weights = jax.tree.unflatten(structure, arrays)
        theta = function(self.weights)
        if not (isinstance(theta, jax.Array) and jnp.issubdtype(theta.dtype, jnp.floating)):
            raise ValueError(
                "Argument `function` must give a real array, but it gives "
                f"{getattr(theta, 'dtype', type(theta).__name__)}."
            )
        require_finite("function(weights)", theta)

    def effective(self) -> Theta:
        return self.function(self.weights)
