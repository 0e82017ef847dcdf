"""The limit of a gradient flow: by a convex problem, or by integration where there is none."""

from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._card import card, outcomes, readable
from ddln._numerics import all_finite, product
from ddln._plot import figures
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Float, Loss, PyTree, Scalar, Theta
from ddln._validation import require_positive
from ddln.engine.internal import check_model, check_start
from ddln.flows import Trajectory, gradient_flow
from ddln.limits._constraints import Constraints, with_derivatives
from ddln.limits._decayed_limit import decayed_end
from ddln.limits._path import follow_path
from ddln.limits._predictions import least_predictions
from ddln.losses import AbstractPredictionLoss, LeastSquares, loss_gradient
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import mirror_geometry

# Longest time of a flow, in units of the fastest linear decay of the predictions.
HORIZON = 1e12


class Limit(eqx.Module):
    """The end of a gradient flow.

    Attributes:
        theta: the effective parameter at t = infinity.
        dual: xi = X^T nu, the accumulated negative gradient, of the shape of theta. With weight decay, where
            that grows without bound: -grad L(theta).
        multipliers: nu, shape [n].
        parameterization: the weights at t = infinity.
        residual: |X theta - y'| / (|y| + |X| |theta_0|), y' the projection of y on the range of X, or the
            predictions where another loss is least. With weight decay: the largest violation of the
            optimality conditions, relative to the size of their terms.
        gap: the duality gap Q(theta) + Q*(X^T nu) - <y', nu>, relative to sum_i |theta_i xi_i|; infinite
            where no potential is known (`method` is "flow"). It is the divergence of theta from grad Q*(xi),
            so that the mirror map of theta may differ from xi by its root, relatively: for ten layers of
            scale 0.1 by 1e-6 where the gap is 3e-11. With weight decay: a bound of the excess of
            the objective, relative to it; infinite for more than two layers.
        result: a `ddln.RESULTS` code.
        stats: `num_steps`.
        method: "path" for the convex problem, "flow" where the flow had to be integrated; with weight decay
            "convex" for two layers, "stationary" for more.
    """

    theta: Theta
    dual: Theta
    multipliers: Float[Array, " n"]
    parameterization: AbstractParameterization
    residual: Float[Array, ""]
    gap: Float[Array, ""]
    result: RESULTS
    stats: dict[str, Any]
    method: str = eqx.field(static=True)

    def plot(self, **options: Any) -> Any:
        """Draw the coefficients at the end: the axes of `ddln.plots.ends`, which takes the options."""
        return figures().ends(self, **options)

    def _repr_html_(self) -> str | None:
        if not readable(self):
            return None
        rows = {"theta": self.theta.shape}
        if self.residual.ndim == 0:
            rows |= {"residual": float(self.residual), "gap": float(self.gap)}
        rows |= {"result": outcomes(self.result), "method": self.method}
        return card(f"Limit of a {type(self.parameterization).__name__}", rows)


def limit(
    parameterization: AbstractParameterization,
    loss: Loss,
    *,
    weight_decay: float | Float[Array, ""] | None = None,
    rtol: float | Float[Array, ""] = 5e-10,
    atol: float | Float[Array, ""] = 0.0,
    max_steps: int | None = None,
    throw: bool = True,
) -> Limit:
    """The limit t -> infinity of the gradient flow w' = -grad_w L(h(w)) - lambda w.

    Where the flow is a mirror flow with a separable potential Q (`DeepDiagonal`, `Square`, `Power`,
    `PowerDifference`, `Identity`, `FourVector`, sums of these), it ends at the minimizer of Q among the
    minimizers of the loss,

        theta = argmin { Q(theta) : X^T (X theta - y) = 0 },     grad Q(theta) = X^T nu,

    and that convex problem is solved, for any number of samples, any rank, and targets that no theta
    meets. The scale of the loss does not matter. For any other parameterization there is no such
    problem: the flow is integrated until its velocity is small, and `Limit.method` says so.

    Any other convex loss of linear predictions, such as `ddln.Logistic`, has unique predictions z = X theta
    where it is least, if it has a minimizer at all, and the limit is that of the squared loss with targets z.

    With weight decay lambda > 0 weights of equal size attain the least |w|^2 for their theta, and

        two layers: theta = argmin L(theta) + (lambda / |c|) |theta|_1

    for `DeepDiagonal`, lambda |theta|_1 for `Square`, (lambda / 2) |theta|_1 for `Power` and
    `PowerDifference`, over the signs that theta can take: a convex problem, with a result code where its
    minimizer is not unique. L layers have the penalty (lambda L / 2) sum |theta / c|^(2/L), which is not
    convex: 0 is always a local minimum, and the end depends on the start. The flow is integrated, and the
    stationary point that it reaches refined by Newton's method; no more is claimed of it. Decay that is
    switched off at T: `limit(gradient_flow(start, loss, T, weight_decay=...).final, loss)`, the limit of the
    start exp(-Lambda(T)) w_0 if some theta meets the targets.

    Differentiable in the weights, X and y in both modes, by the implicit function theorem; in X where
    its rank is full. To be used under `jax.jit` and `jax.vmap`, where `max_steps` is per lane.

    Source: Li et al. 2022, Theorem 4.9; Labarrière et al. 2024, Theorem 1; with weight decay Hoff 2017.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=3, dim=50, scale=0.1)
        >>> end = ddln.limit(network, ddln.LeastSquares(X, y))
        >>> end.theta

    Args:
        parameterization: the start of the flow.
        loss: a convex `ddln` loss of linear predictions; `ddln.LeastSquares` alone for a parameterization
            without a potential in closed form.
        weight_decay: lambda, positive; None has none.
        rtol: the largest relative residual and duality gap of a success; not less than 100 times the
            rounding of the dtype. Newton's method usually ends far below it.
        atol: the residual |X theta - y'| that is small enough whatever the size of the data.
        max_steps: the most steps: of Newton's method (None: 512), or of the integration where there is
            no potential (None: 16384).
        throw: True raises if the limit is not found, also under `jax.jit`; False leaves the reason in
            `Limit.result`, and no host callback in the program.

    Returns:
        The limit; `result` is `successful`, `max_steps_reached`, `nonfinite_initialization`,
        `limit_out_of_reach` where coordinates that keep their sign or never move may be the reason,
        `minimum_at_infinity` for a loss without a minimizer, or with weight decay `ambiguous_minimum` or
        `unusable_weight_decay`.

    Raises:
        ValueError: for arguments that do not fit.
        RuntimeError: if `throw=True` and the limit is not found.
    """
    if not isinstance(loss, AbstractPredictionLoss):
        raise ValueError(
            "Argument `loss` must be a `ddln` loss of linear predictions, such as `ddln.LeastSquares`, but "
            f"it is a {type(loss).__name__}. For other losses integrate with `ddln.gradient_flow`."
        )
    require_positive("rtol", rtol)
    if weight_decay is not None:
        require_positive("weight_decay", weight_decay, " Pass None for none.")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"Argument `max_steps` must be at least 1, but it is {max_steps}.")
    theta = check_model(parameterization, loss)
    if throw:
        check_start(parameterization)
    dtype = theta.dtype
    rtol = jnp.maximum(jnp.asarray(rtol, dtype), 100 * float(jnp.finfo(dtype).eps))
    geometry = mirror_geometry(parameterization)
    has_path = geometry is not None and None not in (geometry.curve, geometry.weights)
    by_path = has_path and weight_decay is None
    most = (512 if by_path else 16384) if max_steps is None else max_steps
    atol = jnp.asarray(atol, dtype)
    if weight_decay is not None:
        end = _end_of_decay(parameterization, loss, jnp.asarray(weight_decay, dtype), rtol, most)
    elif isinstance(loss, LeastSquares):
        solve = _end_of_path if by_path else _end_of_flow
        end = solve(parameterization, loss, rtol, atol, most)
    elif by_path:
        end = _end_at_predictions(parameterization, loss, rtol, atol, most)
    else:
        raise ValueError(
            "Argument `loss` must be a `ddln.LeastSquares` for a parameterization without a potential in "
            f"closed form, but it is a {type(loss).__name__}. Integrate with `ddln.gradient_flow`."
        )
    if throw:
        end = end.result.error_if(end, ~is_okay(end.result))
    return end


@eqx.filter_jit
def _end_of_path(
    parameterization: AbstractParameterization,
    loss: LeastSquares,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    max_steps: int,
) -> Limit:
    weights = eqx.filter(parameterization, eqx.is_inexact_array)
    finite = all_finite((parameterization.effective(), weights))
    # A lane with a bad start takes no steps, from ones: it cannot disturb the others.
    startable = jax.tree.map(
        lambda leaf: jnp.where(finite, leaf, 1) if eqx.is_inexact_array(leaf) else leaf,
        parameterization,
    )
    geometry = mirror_geometry(startable)
    assert geometry is not None  # as `limit` checks
    assert geometry.curve is not None
    curve = geometry.curve()
    # Newton's path is not differentiated: `with_derivatives` has the derivatives of its end.
    design, target, fixed = jax.lax.stop_gradient((loss.design, loss.y, curve))
    data = Constraints.of(design, target)
    theta_0 = fixed.at(fixed.origin)
    size = jnp.linalg.norm(target) + data.norm * jnp.linalg.norm(theta_0)
    tolerance = rtol + atol / jnp.where(size > 0, size, 1)
    steps = jnp.where(finite, max_steps, 0)
    point, quality = follow_path(fixed, data, size, tolerance, steps)
    multipliers = product(data.multiplier, point.multipliers)

    # Recomputed in the backward pass: for many limits the residuals would take much memory. All arrays are
    # arguments: JAX keeps what the function closes over.
    @eqx.filter_checkpoint(prevent_cse=False)
    def end(startable, curve, loss, data, v, multipliers):
        v, multipliers = with_derivatives(v, multipliers, curve, loss.design, loss.y, data)
        dual = product(multipliers, loss.design)
        return curve.at(v), dual, multipliers, _at_point(startable, v)

    theta, dual, multipliers, at_end = end(startable, curve, loss, data, point.v, multipliers)

    out_of_steps = RESULTS.promote(diffrax.RESULTS.max_steps_reached)
    result = RESULTS.where(fixed.confined(), RESULTS.limit_out_of_reach, out_of_steps)
    result = RESULTS.where(point.done, RESULTS.promote(diffrax.RESULTS.successful), result)
    result = RESULTS.where(finite, result, RESULTS.nonfinite_initialization)
    shape = loss.X.shape[1:]

    def blank(tree):
        return jax.tree.map(
            lambda leaf: jnp.where(finite, leaf, jnp.nan) if eqx.is_inexact_array(leaf) else leaf,
            tree,
        )

    return Limit(
        theta=blank(theta.reshape(shape)),
        dual=blank(dual.reshape(shape)),
        multipliers=blank(multipliers),
        parameterization=blank(at_end),
        residual=blank(quality.residual),
        gap=blank(quality.gap),
        result=result,
        stats={"num_steps": point.count},
        method="path",
    )


@eqx.filter_jit
def _end_at_predictions(
    parameterization: AbstractParameterization,
    loss: AbstractPredictionLoss,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    max_steps: int,
) -> Limit:
    """The limit of a loss that is least where X theta = z: that of least squares with the targets z."""
    z, found = least_predictions(loss)
    end = _end_of_path(parameterization, LeastSquares(loss.X, z), rtol, atol, max_steps)
    okay = found | (end.result == RESULTS.nonfinite_initialization)
    result = RESULTS.where(okay, end.result, RESULTS.minimum_at_infinity)
    return eqx.tree_at(lambda e: e.result, end, result)


@eqx.filter_jit
def _end_of_decay(
    parameterization: AbstractParameterization,
    loss: AbstractPredictionLoss,
    weight_decay: Float[Array, ""],
    rtol: Float[Array, ""],
    max_steps: int,
) -> Limit:
    end = decayed_end(parameterization, loss, weight_decay, rtol, max_steps)
    finite = all_finite(eqx.filter(parameterization, eqx.is_inexact_array))
    weights = [jnp.where(finite, leaf, jnp.nan) for leaf in end.weights]
    theta = jnp.where(finite, end.theta, jnp.nan)
    multipliers = -loss.scale * loss.pointwise_gradient(product(loss.design, theta), loss.y)
    shape = loss.X.shape[1:]
    return Limit(
        theta=theta.reshape(shape),
        dual=product(multipliers, loss.design).reshape(shape),
        multipliers=multipliers,
        parameterization=_with_weights(parameterization, weights),
        residual=end.residual,
        gap=end.gap,
        result=RESULTS.where(finite, end.result, RESULTS.nonfinite_initialization),
        stats={"num_steps": end.count},
        method=end.method,
    )


def _at_point(
    start: AbstractParameterization, v: PyTree[Float[Array, " d"]]
) -> AbstractParameterization:
    """The parameterization at the point v of the curve of its flow from the start."""
    geometry = mirror_geometry(start)
    assert geometry is not None
    assert geometry.weights is not None  # as `limit` checks
    return _with_weights(start, geometry.weights(v))


def _with_weights(
    start: AbstractParameterization, flat: Sequence[Array]
) -> AbstractParameterization:
    """The parameterization with other weights, one array a leaf, of any shape with its size."""
    weights, rest = eqx.partition(start, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(weights)
    moved = zip(flat, leaves, strict=True)
    leaves = [new.reshape(old.shape) for new, old in moved]
    return eqx.combine(jax.tree.unflatten(structure, leaves), rest)


@eqx.filter_jit
def _end_of_flow(
    parameterization: AbstractParameterization,
    loss: LeastSquares,
    rtol: Float[Array, ""],
    atol: Float[Array, ""],
    max_steps: int,
) -> Limit:
    data = Constraints.of(*jax.lax.stop_gradient((loss.design, loss.y)))
    theta_0 = parameterization.effective().reshape(-1)
    weights = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
    energy = sum(jnp.sum(jnp.square(leaf)) for leaf in weights)
    rate = 2 * loss.scale * jnp.square(data.norm) * jnp.where(energy > 0, energy, 1)
    flow = _integrate_to_rest(parameterization, loss, rate, rtol, max_steps)
    assert flow.dual is not None  # as `_integrate_to_rest` asks
    end = jax.tree.map(lambda leaf: leaf[-1] if eqx.is_array(leaf) else leaf, flow.parameterization)
    theta, dual = flow.theta[-1].reshape(-1), flow.dual[-1].reshape(-1)
    size = jnp.linalg.norm(loss.y) + data.norm * jnp.linalg.norm(theta_0)
    # The longest time suffices unless the speed of the flow is unrelated to `rate`.
    ran_out = flow.result == RESULTS.successful
    out_of_steps = RESULTS.promote(diffrax.RESULTS.max_steps_reached)
    return Limit(
        theta=flow.theta[-1],
        dual=flow.dual[-1],
        multipliers=product(data.multiplier, product(data.rows, dual)),
        parameterization=end,
        residual=data.residual(theta) / jnp.where(size > 0, size, 1),
        gap=jnp.full_like(size, jnp.inf),
        result=RESULTS.where(ran_out, out_of_steps, flow.result),
        stats={"num_steps": flow.stats["num_steps"]},
        method="flow",
    )


class _StandsStill(eqx.Module):
    """Event at which the squared velocity g^T M g of the weights falls below a threshold."""

    threshold: Scalar

    def __call__(self, t: Scalar, parameterization: AbstractParameterization, loss: Loss) -> Scalar:
        return _squared_velocity(parameterization, loss) - self.threshold


def _squared_velocity(parameterization: AbstractParameterization, loss: Loss) -> Scalar:
    g = loss_gradient(loss, parameterization.effective())
    return jnp.sum(g * parameterization.metric_product(g))


def _integrate_to_rest(
    parameterization: AbstractParameterization,
    loss: Loss,
    rate: Scalar,
    rtol: Scalar,
    max_steps: int,
) -> Trajectory:
    """The flow until its velocity is `rtol` times that of its start, or as long as `rate` admits."""
    threshold = jnp.square(rtol) * _squared_velocity(parameterization, loss)
    return gradient_flow(
        parameterization,
        loss,
        HORIZON / rate,
        rtol=jnp.maximum(rtol, 1e-8),
        atol=1e-2 * jnp.maximum(rtol, 1e-8),
        max_steps=max_steps,
        event=_StandsStill(threshold),
        throw=False,
    )
