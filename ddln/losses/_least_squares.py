"""The squared loss."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx

from ddln._numerics import above_rounding
from ddln._types import Array, Float, Scalar, Theta
from ddln._validation import float_array
from ddln.losses._base import AbstractPredictionLoss, regression_data


class LeastSquares(AbstractPredictionLoss):
    """L(theta) = scale * |X theta - y|^2.

    With k outputs, y of shape [n, k] and X of shape [n, d], theta has shape [d, k]. The loss is then
    kept as that of n k single predictions, X of shape [n k, d, k] and y of shape [n k]; noise and
    mini-batches draw among these.

    Args:
        X: the inputs, shape [n, *theta.shape]; measurement matrices for a matrix theta; [n, d] for
            several outputs.
        y: the targets, shape [n]; or an array [n, k] for k > 1 outputs.
        scale: the factor; 0.5 gives the gradient X^T (X theta - y), 1 the loss of the figures of
            Labarrière et al. 2024, 0.5 / n a mean.

    Raises:
        ValueError: if the numbers of samples differ, an axis is empty, or known values are not finite.
    """

    X: Array
    y: Float[Array, " n"]
    scale: float = eqx.field(static=True)

    def __init__(self, X, y, scale: float = 0.5):
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            X, y = _single_outputs(float_array("X", X, "n d"), float_array("y", y, "n k"))
        self.X, self.y, self.scale = regression_data(X, y, scale)

    def pointwise(self, prediction, target):
        return jnp.square(prediction - target)

    def pointwise_gradient(self, prediction, target):
        return 2 * (prediction - target)

    def pointwise_curvature(self, prediction, target):
        return jnp.full_like(prediction, 2)

    @property
    def minimizer(self) -> Theta:
        """The minimizer of least l2 norm, X^+ y, with singular values below rounding taken as zero."""
        operator = lx.MatrixLinearOperator(self.design)
        flat = lx.linear_solve(operator, self.y, lx.SVD(), throw=False).value
        return flat.reshape(self.X.shape[1:])

    @property
    def minimum(self) -> Scalar:
        """L* = min L, zero up to rounding if and only if X theta = y is solvable."""
        return self(self.minimizer)

    @property
    def pl_constant(self) -> Scalar:
        """mu = 2 * scale * (smallest nonzero eigenvalue of X^T X).

        The largest mu with 2 mu (L - L*) <= |grad L|^2 everywhere (Polyak-Lojasiewicz), as in
        Theorem 2 of Labarrière et al. 2024. Eigenvalues below rounding are taken as zero; X = 0 gives inf.
        """
        singular = jnp.linalg.svd(self.design, compute_uv=False)
        kept = above_rounding(singular, self.design.shape)
        return 2 * self.scale * jnp.square(jnp.min(jnp.where(kept, singular, jnp.inf)))


def _single_outputs(
    X: Float[Array, "n d"], y: Float[Array, "m k"]
) -> tuple[Float[Array, "nk d k"], Float[Array, " mk"]]:
    """The inputs and targets of each output of each sample, as those of samples of their own."""
    if len(X) != len(y):
        raise ValueError(
            f"Arguments `X` and `y` must have the same number of samples (axis 0), but `X` has {len(X)} "
            f"and `y` has {len(y)}."
        )
    outputs = y.shape[1]
    one = jnp.eye(outputs, dtype=X.dtype)
    inputs = X[:, None, :, None] * one[None, :, None, :]
    return inputs.reshape(-1, X.shape[1], outputs), y.reshape(-1)
