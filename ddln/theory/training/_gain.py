"""The gain of two layers: the divergence that gradient descent with a finite step minimizes."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, Loss
from ddln.flows import Trajectory, TwoLayerFactors
from ddln.parameterizations import DeepDiagonal, PowerDifference
from ddln.theory._check import ROUNDING
from ddln.theory._law import Sides, law
from ddln.theory._row_space import projection, row_space
from ddln.theory._rows import Rows, fill_unreached
from ddln.theory.layers import deep_diagonal


class Gain(eqx.Module):
    """The effective start of a descent of two layers, at each saved step.

    Attributes:
        shrink: G_K = -log(A_K / A_0), the gain of each coordinate, shape [T, d]. Positive if the steps
            have made the effective scale smaller, which favours sparse ends.
        scale: A_K = |c| a_+ a_-, the effective scale, shape [T, d].
        centre: c (a_+^2 - a_-^2) / 2, the reference point of the divergence, shape [T, d].
        start: theta = p^2 - q^2 with p, q = sqrt(|c| / 2) a_+- (the other way round for c < 0), at the
            last saved step. The gradient flow from there has the end of the descent, so that
            `ddln.limit(gain.start, loss)` predicts it. (Two layers u, v would lose the smaller a.)
    """

    shrink: Float[Array, "T d"]
    scale: Float[Array, "T d"]
    centre: Float[Array, "T d"]
    start: PowerDifference


def gain(trajectory: Trajectory, *, momentum: bool = False) -> Gain:
    """The effective scale and centre of (stochastic) gradient descent on theta = c u v.

    With w_+- = (u +- v) / sqrt 2, a gradient step multiplies w_+- by 1 -+ x_k, x_k = gamma_k c g_k, so that
    a_+-^2 = w_+-(0)^2 exp(-sum_{k<K} q_+-(x_k)) with q_+-(x) = -+2x - log (1 -+ x)^2. At every step K,
    converged or not, with any batches, label noise and step sizes, for |x_k| < 1 and beyond,

        theta_K = argmin {D_psi(theta, centre_K) : X theta = X theta_K},
        grad psi(theta) = arcsinh(theta / A_K) / 2.

    For heavy ball, `optax.sgd(rate, momentum=beta)` with a constant rate, the a_+- are w_+-(K) carried
    back along the dual, a_+- = |w_+-(K)| exp(-+c xi_K), and the statement is the same, also through
    changes of sign of w_+-.

    Example:
        >>> run = ddln.descend(ddln.DeepDiagonal(layers), loss, optax.sgd(0.1), 10_000)
        >>> ddln.limit(ddln.theory.gain(run).start, loss).theta - run.theta[-1]

    Args:
        trajectory: a `ddln.descend` of a `DeepDiagonal` with two layers, with its dual.
        momentum: False takes the recorded factors 1 -+ x_k, valid for gradient steps; True the
            weights, valid for heavy ball as well, with the rounding error of small |u^2 - v^2|.

    Returns:
        The gain, NaN in rows that were not reached. The scale of a coordinate that x_k = +-1 has
        killed is zero.

    Raises:
        ValueError: if the trajectory is not such a descent.

    Source: Even et al. 2023, Theorem 1; for heavy ball the discrete form of Papazov et al. 2024; see
    "Discrete steps" in the documentation.
    """
    descent = _two_layer_descent(trajectory)
    c, reached = descent.network.factor, descent.rows.reached[:, None]
    logarithm = descent.logarithm(momentum)
    a = jnp.exp(logarithm)
    start = jnp.log(jnp.abs(_sum_and_difference(descent.network.layers)))
    size = (abs(c) / 2) ** 0.5
    plus, minus = (size * end for end in a[-1, :: 1 if c > 0 else -1])
    ends = PowerDifference(plus, minus, 2)
    return Gain(
        shrink=jnp.where(reached, jnp.sum(start[None] - logarithm, axis=1), jnp.nan),
        scale=jnp.where(reached, _scale(c, logarithm), jnp.nan),
        centre=jnp.where(reached, c / 2 * (a[:, 0] - a[:, 1]) * (a[:, 0] + a[:, 1]), jnp.nan),
        start=jax.tree.map(lambda leaf: jnp.where(reached[-1], leaf, jnp.nan), ends),
    )


@law(
    source="Even et al. 2023, proof of Theorem 1",
    relation="==",
    axes=("step", "sign", "coordinate"),
)
def gain_identity(trajectory: Trajectory, loss: Loss) -> Sides:
    """log|w(K) / w(0)| = sum_{k<K} log|1 -+ x_k|, w = u + v and u - v, x_k = gamma_k c g_k.

    A gradient step multiplies w_+- = (u +- v) / sqrt 2 by 1 -+ x_k, and so |w_+ w_-| by |1 - x_k^2|. The
    left side is measured at the weights, the right side is recorded. True of gradient steps with
    any batches and step sizes, and false with momentum, normalization by coordinate or weight decay.

    Args:
        trajectory: a `ddln.descend` of a `DeepDiagonal` with two layers, with its dual.
        loss: any loss; the law does not depend on it.

    Returns:
        a check with axes (step, sign, coordinate), shape [T, 2, d], w_+ first. Coordinates with
        w_+-(0) = 0 are not compared.

    Raises:
        ValueError: if the trajectory is not such a descent.
    """
    descent = _two_layer_descent(trajectory)
    start = _sum_and_difference(descent.network.layers)[None]
    weights = _sum_and_difference(descent.layers)
    moving = (start != 0) & (weights != 0)
    start, weights = jnp.where(start != 0, start, 1), jnp.where(moving, weights, 1)
    return Sides(
        lhs=jnp.log(jnp.abs(weights / start)),
        rhs=jnp.where(moving, descent.log_factors, 0),
        tolerance=_rounding(trajectory, descent.layers) / jnp.abs(weights),
        compared=descent.rows.reached[:, None, None] & moving,
    )


@law(source="Even et al. 2023, Theorem 1", relation="==", axes=("step", "coordinate"))
def gain_optimality(trajectory: Trajectory, loss: Loss, *, momentum: bool = False) -> Sides:
    """theta_K minimizes the divergence from the centre among all theta with the same predictions:
    the difference of the gradients is in the range of X^T.

    That is the optimality condition of theta_K = argmin {D_psi(theta, centre_K) : X theta = X theta_K}:
    grad psi(theta_K) - grad psi(centre_K) equals its projection on the range of X^T, with the scale and
    the centre of `gain` and grad psi(theta) = arcsinh(theta / A_K) / 2. Without the shift of the centre,
    or with the scale of the start, the condition fails.

    Args:
        trajectory: a `ddln.descend` of a `DeepDiagonal` with two layers, with its dual.
        loss: the loss of linear predictions that it was run with.
        momentum: as for `gain`.

    Returns:
        a check with axes (step, coordinate), shape [T, d]. Its hypothesis is that no layers tie at
        the start and none was killed, so that the scale is positive.

    Raises:
        ValueError: if the trajectory is not such a descent, or the loss not of linear predictions.
    """
    descent = _two_layer_descent(trajectory)
    c, rows, layers = descent.network.factor, descent.rows, descent.layers
    logarithm = descent.logarithm(momentum)
    scale = _scale(c, logarithm)
    positive = scale > 0
    scale = jnp.where(positive, scale, 1)
    sign = 1 if c > 0 else -1
    # arcsinh(centre / A) = sign(c) log(a_+ / a_-).
    centre = jnp.where(positive, sign * (logarithm[:, 0] - logarithm[:, 1]), 0)
    gradient = (jnp.arcsinh(rows.theta / scale) - centre) / 2
    # theta = u v, and arcsinh has the slope 1 / hypot.
    rounding = _rounding(trajectory, layers)[:, 0] * jnp.max(jnp.abs(layers), axis=1)
    error = rounding / jnp.hypot(rows.theta, scale) + _rounding(trajectory, gradient[:, None])[:, 0]
    projected, tolerance = projection(gradient, error, row_space(loss))
    return Sides(
        lhs=gradient,
        rhs=projected,
        tolerance=tolerance,
        compared=rows.reached[:, None],
        hypotheses={"the effective scale is positive": jnp.all(positive)},
    )


class _Descent(NamedTuple):
    """A descent of two layers: its start, its record and its rows."""

    network: DeepDiagonal
    factors: TwoLayerFactors
    rows: Rows

    @property
    def layers(self) -> Float[Array, "T 2 d"]:
        """The layers at each saved step."""
        return deep_diagonal(self.rows.parameterization).layers

    @property
    def log_factors(self) -> Float[Array, "T 2 d"]:
        """sum log|1 -+ x_k|, zero in rows that were not reached."""
        product = jnp.where(self.rows.reached[:, None, None], self.factors.product, 1)
        return jnp.log(jnp.abs(product))

    def logarithm(self, momentum: bool) -> Float[Array, "T 2 d"]:
        """log a_+-; rows that were not reached hold the start."""
        if momentum:
            logarithm = jnp.log(jnp.abs(_sum_and_difference(self.layers)))
        else:
            start = _sum_and_difference(self.network.layers)[None]
            logarithm = jnp.log(jnp.abs(start)) + self.log_factors
        carried = self.network.factor * self.rows.dual
        return logarithm - jnp.stack([carried, -carried], axis=1)


def _two_layer_descent(trajectory: Trajectory) -> _Descent:
    """The descent of two layers.

    Raises:
        ValueError: if the trajectory is of another run.
    """
    network = deep_diagonal(trajectory.initial)
    if not isinstance(trajectory.record, TwoLayerFactors):
        raise ValueError(
            "Argument `trajectory` must be a `ddln.descend` of two layers with its dual, but it has "
            f"{network.depth} layers and the method {trajectory.method!r}. More layers have no gain: see "
            "`ddln.theory.gap_recursion`. For flows see `ddln.theory.effective_start`."
        )
    return _Descent(network, trajectory.record, fill_unreached(trajectory))


def _scale(c: float, logarithm: Float[Array, "T 2 d"]) -> Float[Array, "T d"]:
    """|c| a_+ a_-."""
    return abs(c) * jnp.exp(jnp.sum(logarithm, axis=1))


def _sum_and_difference(layers: Float[Array, "*T 2 d"]) -> Float[Array, "*T 2 d"]:
    """(u +- v) / sqrt 2."""
    u, v = layers[..., 0, :], layers[..., 1, :]
    return jnp.stack([u + v, u - v], axis=-2) * 0.5**0.5


def _rounding(trajectory: Trajectory, values: Float[Array, "T k d"]) -> Float[Array, "T 1 d"]:
    """The accumulated rounding of all steps, in values of the size of these."""
    steps = 1 + trajectory.stats["num_accepted_steps"].astype(values.dtype)
    largest = jnp.max(jnp.abs(values), axis=(0, 1), keepdims=True)
    size = jnp.broadcast_to(largest, (values.shape[0], 1, values.shape[2]))
    return ROUNDING * steps * jnp.finfo(values.dtype).eps * size
