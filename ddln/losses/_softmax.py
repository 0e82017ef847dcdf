"""The softmax cross-entropy loss."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._numerics import product
from ddln._types import Array, Float, Int, Scalar, Theta
from ddln._validation import constant, float_array, is_known, require_positive
from ddln.losses._base import AbstractLoss


class Softmax(AbstractLoss):
    """L(theta) = scale * sum_i (log sum_j exp z_ij - z_i,y_i), z = X theta the scores, theta of shape [d, k].

    The cross-entropy of k classes; its infimum over separable data is 0 and is not attained. It is
    convex, and its Hessian couples the classes, so that flows integrate all weights.

    Args:
        X: the inputs, shape [n, d].
        y: the classes, integers from 0 to k - 1, shape [n].
        classes: k; None takes the largest known class plus one.
        scale: the factor of the sum.

    Raises:
        ValueError: if the numbers of samples differ, a known class is no integer from 0 to k - 1, an
            axis is empty, X has known values that are not finite, or `classes` is None for traced y.
    """

    X: Float[Array, "n d"]
    y: Int[Array, " n"]
    classes: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(self, X, y, classes: int | None = None, scale: float = 1.0):
        self.X = float_array("X", X, "n d")
        # While tracing, an array of JAX is traced even where its values are known.
        labels = y if isinstance(y, jax.Array) else np.asarray(y)
        if labels.shape != self.X.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(
                f"Argument `y` must have one integer for each of the {len(self.X)} rows of `X`, but it "
                f"has shape {labels.shape} and dtype {labels.dtype}."
            )
        if classes is None:
            if not is_known(labels):
                raise ValueError("Argument `classes` must be given where `y` is traced.")
            classes = int(np.asarray(labels).max()) + 1
        if is_known(labels):
            known = np.asarray(labels)
            wrong = np.flatnonzero((known < 0) | (known >= classes))
            if wrong.size:
                raise ValueError(
                    f"Argument `y` must have classes from 0 to {classes - 1}, but entry {wrong[0]} is "
                    f"{known[wrong[0]]}. Number the classes from 0, or raise `classes`."
                )
        require_positive("scale", scale)
        self.y, self.classes, self.scale = (
            jnp.asarray(labels),
            int(classes),
            constant("scale", scale),
        )

    def __call__(self, theta: Theta) -> Scalar:
        return self.scale * jnp.sum(
            jax.nn.logsumexp(self._scores(theta), axis=1) - self._own(theta)
        )

    def margins(self, theta: Theta) -> Float[Array, " n"]:
        """The score of each sample's class minus the largest score of another class."""
        scores = self._scores(theta)
        own = jax.nn.one_hot(self.y, self.classes, dtype=bool)
        return self._own(theta) - jnp.max(jnp.where(own, -jnp.inf, scores), axis=1)

    def _own(self, theta: Theta) -> Float[Array, " n"]:
        """The score of each sample's class."""
        own = jax.nn.one_hot(self.y, self.classes, dtype=theta.dtype)
        return jnp.sum(own * self._scores(theta), axis=1)

    def _scores(self, theta: Theta) -> Float[Array, "n k"]:
        if theta.shape != (self.X.shape[1], self.classes):
            raise ValueError(
                f"Argument `theta` must have the shape {(self.X.shape[1], self.classes)} of inputs and "
                f"classes, but it has shape {theta.shape}."
            )
        return product(self.X, theta)
