"""Directions of flows on separable classification problems."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from ddln._numerics import product, pull_back
from ddln._types import Array, Float, Scalar
from ddln._validation import float_array
from ddln.parameterizations import AbstractParameterization


def max_margin_l1(X, y) -> np.ndarray:
    """The direction of largest l1 margin: max min_i y_i <x_i, theta> subject to |theta|_1 = 1.

    Gradient flow of two layers, `DeepDiagonal` of depth 2 with |u| != |v| in every coordinate at the
    start, on a logistic or exponential loss of separable data, converges to it in direction, from any
    such start; slowly: the share of other coordinates decays like a power of 1/|theta|. For three and
    more layers no such statement can be made: the direction depends on the start, and has neither the
    largest l1 margin nor the largest one in the norm of `ddln.l1_weights`. Only its stationarity is
    known: see `margin_stationarity`. Not for use inside `jax.jit`: a linear program, solved by HiGHS.

    Source: for L = 2, Gunasekar et al. 2018, with theta = (c D / 2) sinh(2 c xi + k): of
    xi / |xi|_inf only the entries of largest size survive, and it certifies the margin.

    Args:
        X: the inputs, shape [n, d].
        y: the labels, -1 or 1, shape [n].

    Returns:
        theta, shape [d], float64, with |theta|_1 = 1.

    Raises:
        ValueError: if the shapes do not fit, or the data are not separable.
        RuntimeError: if the linear program is not solved.
    """
    rows = np.asarray(_signed_rows(X, y), np.float64)
    n, d = rows.shape

    # Imported late: SciPy takes a third of the time of importing this package.
    from scipy.optimize import linprog

    answer = linprog(
        np.ones(2 * d), A_ub=np.hstack([-rows, rows]), b_ub=-np.ones(n), method="highs-ds"
    )
    if answer.status == 2:
        raise ValueError(
            "Arguments `X` and `y` must be separable by some theta, y_i <x_i, theta> > 0 for all i, "
            "but they are not."
        )
    if answer.x is None:
        raise RuntimeError(f"The program of `max_margin_l1` was not solved: {answer.message}")
    return (answer.x[:d] - answer.x[d:]) / answer.fun


def l1_margin(theta, X, y) -> Float[Array, "*batch"]:
    """min_i y_i <x_i, theta> / |theta|_1; 0 for theta = 0.

    Args:
        theta: effective parameters along the last axis; any leading axes.
        X: the inputs, shape [n, d].
        y: the labels, -1 or 1, shape [n].
    """
    theta = float_array("theta", theta, "... d")
    size = jnp.sum(jnp.abs(theta), axis=-1)
    margins = product(theta, _signed_rows(X, y).T)
    return jnp.min(margins, axis=-1) / jnp.where(size > 0, size, 1)


class MarginStationarity(eqx.Module):
    """Distance of weights, in direction, from a KKT point of min |w|^2 with all margins at least 1.

    Attributes:
        misalignment: 1 - cos of the angle between w and -grad of the loss; 0 at a KKT point.
        slack: sum_i p_i (m_i - min m) / min m, the violation of complementarity, with p_i the share of
            sample i in the gradient; 0 at a KKT point, infinite while a sample is misclassified.
    """

    misalignment: Scalar
    slack: Scalar


def margin_stationarity(parameterization: AbstractParameterization, X, y) -> MarginStationarity:
    """Measures of stationarity of weights for the largest margin, for any depth.

    With the margins m_i = y_i <x_i, theta> and p_i = exp(-m_i) / sum_k exp(-m_k), the gradient of the
    exponential loss is -sum_i p_i grad_w m_i times the loss. Along a gradient flow of an exponential
    or logistic loss of separable data, of a homogeneous map, both measures tend to 0, at powers of
    1/|theta| for L >= 3. That is first-order stationarity, and all that is known for L >= 3: no margin
    of theta, l1 or weighted, is claimed to be largest.

    The flow itself is too slow in t: theta grows like log t. The losses log sum exp(-m_i) (which grows
    without bound in a finite time for L >= 3) and -log(-log sum exp(-m_i)) (once that is defined) have
    the same path in another time.

    Source: Lyu and Li 2020; Ji and Telgarsky 2020.

    Example:
        >>> stationarity = ddln.margin_stationarity(trajectory.final, X, y)
        >>> stationarity.misalignment, stationarity.slack

    Args:
        parameterization: the weights.
        X: the inputs, shape [n, *theta].
        y: the labels, -1 or 1, shape [n].
    """
    X = float_array("X", X, "... d")
    rows = _signed_rows(X.reshape(X.shape[0], -1), y)
    theta = parameterization.effective()
    margins = product(rows, theta.reshape(-1))
    shares = jax.nn.softmax(-margins)
    direction = product(shares, rows).reshape(theta.shape)
    weights = eqx.filter(parameterization, eqx.is_inexact_array)
    trees = weights, pull_back(parameterization, direction)
    flat = [jax.flatten_util.ravel_pytree(tree)[0] for tree in trees]
    # |a - b|^2 / 2 of unit vectors is 1 - cos without cancellation.
    w, push = (vector / jnp.linalg.norm(vector) for vector in flat)
    least = jnp.min(margins)
    separated = least > 0
    slack = jnp.sum(shares * (margins - least)) / jnp.where(separated, least, 1)
    return MarginStationarity(
        misalignment=0.5 * jnp.sum(jnp.square(w - push)),
        slack=jnp.where(separated, slack, jnp.inf),
    )


def _signed_rows(X, y) -> Float[Array, "n d"]:
    X, y = float_array("X", X, "n d"), float_array("y", y, "n")
    if X.shape[:1] != y.shape:
        raise ValueError(
            f"Argument `y` must have {len(X)} entries, as X has rows, but it has {len(y)}."
        )
    return X * y.astype(X.dtype)[:, None]
