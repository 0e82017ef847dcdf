"""The state evolution of the limit: its error for Gaussian data of many dimensions."""

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import all_finite
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Float, Scalar
from ddln._validation import is_known, require_not_negative, require_positive
from ddln.asymptotics._arguments import signal_of, weights_of
from ddln.asymptotics._fixed_point import Equations, solve, with_derivatives
from ddln.asymptotics._moments import Moments, Sample
from ddln.asymptotics._signal import Signal
from ddln.asymptotics._sum_chart import chart_of
from ddln.engine.internal import check_start
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import AbstractCurve, mirror_geometry


class StateEvolution(eqx.Module):
    """Limits, as the dimension grows, of means over the coordinates of `ddln.limit`.

    Attributes:
        mse: E (theta - theta*)^2, the limit of |theta - theta*|^2 / d.
        overlap: E theta theta*.
        l1: E |theta|.
        l2: E theta^2.
        effective_noise: s^2, the variance of the noise of z = theta* + s V.
        effective_penalty: gamma, with theta + gamma grad Q(theta) = z.
        active: E d theta / d z = alpha (1 - lambda / gamma), the effective number of parameters over d; for
            vanishing starts the share of coordinates that are not zero.
        training_error: the limit of |X theta - y|^2 / n, s^2 (lambda / gamma)^2; 0 without a penalty if
            ratio < 1.
        observed: E observe(theta), or None.
        result: a `ddln.RESULTS` code; where it is not `successful`, all numbers are nan.
        stats: `num_steps`, and `mass_error`, the error of the quadrature for E 1.
    """

    mse: Float[Array, ""]
    overlap: Float[Array, ""]
    l1: Float[Array, ""]
    l2: Float[Array, ""]
    effective_noise: Float[Array, ""]
    effective_penalty: Float[Array, ""]
    active: Float[Array, ""]
    training_error: Float[Array, ""]
    observed: Any
    result: RESULTS
    stats: dict[str, Any]


def state_evolution(
    start: AbstractParameterization,
    signal: Signal,
    ratio: float | Float[Array, ""],
    noise: float | Float[Array, ""] = 0.0,
    *,
    penalty: float | Float[Array, ""] = 0.0,
    weights: Float[Array, " K"] | None = None,
    observe: Callable[[Float[Array, "..."]], Any] | None = None,
    max_steps: int = 100,
    throw: bool = True,
) -> StateEvolution:
    r"""The error of the limit of gradient flow on Gaussian data, as d grows with n/d fixed.

    For X with independent entries N(0, 1/n), y = X theta* + sigma * normal and n = alpha d, the limit
    argmin { D_Q(theta, theta_0) : X theta = y } of the gradient flow has, coordinate by coordinate, the law
    of the theta with

        theta + gamma grad Q(theta) = z,     z = theta* + s V,     V ~ N(0, 1),

    where the effective noise s and the effective penalty gamma solve

        s^2 = sigma^2 + E (theta - theta*)^2 / alpha,     alpha = E M / (M + gamma),

    with M = d theta / d xi the metric of the flow at theta. Expectations are over V, theta* and the start,
    independent of each other. With a penalty lambda the minimizer of |X theta - y|^2 / 2 + lambda D_Q(theta,
    theta_0) is described, and the second equation is alpha (1 - lambda / gamma) = E M / (M + gamma). For
    alpha > 1 without a penalty the limit is the least-squares solution: s^2 = sigma^2 alpha / (alpha - 1).

    Expectations are integrals over the coordinate of the flow's curve, in which they are smooth for every
    scale: errors are below 1e-10 for scales from 1e-5 on, and below 1e-8 down to 1e-8; of a sum with terms of
    eight layers below 1e-9. Differentiable in every array in both modes by the implicit function theorem; to
    be used under `jax.jit` and `jax.vmap`.

    Source: [@thrampoulidis2018] for convex penalties that are sums over coordinates; that Q is one, and which
    steps are proven, is on the page "How good the end is".

    Example:
        >>> start = ddln.DeepDiagonal.zero_last(jnp.ones(1), depth=3, scale=0.3)
        >>> end = ddln.state_evolution(start, ddln.Signal.sparse(0.1), ratio=0.35)
        >>> end.mse.round(6)
        Array(0.045259, dtype=float64)

    Args:
        start: a parameterization with a curve (`DeepDiagonal`, `Square`, `Power`, `PowerDifference`,
            `Identity`, `FourVector`, a `Sum` of these). Its coordinates are the starts that occur: a single
            one for equal starts; some hundred draws, or the nodes of a quadrature, for random ones. Where
            theta cannot change its sign, as at a tie, neither does the limit.
        signal: the law of theta*, of the shape [J], or [J, K] if it depends on the start.
        ratio: alpha = n/d.
        noise: sigma, the standard deviation of the noise in y.
        penalty: lambda.
        weights: the probabilities of the K starts; None takes all as equally likely.
        observe: an elementwise function of theta to an array, or a pytree of arrays, of the same shape. The
            quadrature is accurate for smooth functions, and for those with a kink at 0, such as |theta|^r,
            r >= 1.
        max_steps: the most evaluations of the equations.
        throw: True raises if the equations are not solved, also under `jax.jit`; False leaves the reason in
            `StateEvolution.result`.

    Returns:
        The limits; `result` is `successful`, `no_fixed_point` or `nonfinite_initialization`.

    Raises:
        ValueError: for arguments that do not fit.
        RuntimeError: if `throw=True` and the equations are not solved.
    """
    require_positive("ratio", ratio)
    require_not_negative("noise", noise)
    require_not_negative("penalty", penalty)
    if max_steps < 1:
        raise ValueError(f"Argument `max_steps` must be at least 1, but it is {max_steps}.")
    geometry = mirror_geometry(start)
    if geometry is None or geometry.curve is None:
        raise ValueError(
            "Argument `start` must have a curve, but a "
            f"{type(start).__name__} has none. Use a separable map, or register its `mirror_geometry`."
        )
    check_start(start)
    curve = geometry.curve()
    _require_moving(curve)
    dtype = start.effective().dtype
    alpha, sigma, decay = (jnp.asarray(value, dtype) for value in (ratio, noise, penalty))
    shares, signal = weights_of(weights, start), signal_of(signal, start)
    end = _evolve(start, signal, shares, alpha, sigma, decay, observe, max_steps)
    if throw:
        end = end.result.error_if(end, ~is_okay(end.result))
    return end


def _require_moving(curve: AbstractCurve) -> None:
    metric = curve.metric(curve.origin)
    if is_known(metric) and bool(jnp.any(metric == 0)):
        raise ValueError(
            "Argument `start` must be able to move in every coordinate, but two layers of coordinate "
            f"{int(jnp.argmin(metric))} are zero. Perturb one of them."
        )


@eqx.filter_jit
def _evolve(
    start: AbstractParameterization,
    signal: Signal,
    weights: Float[Array, " K"],
    ratio: Scalar,
    noise: Scalar,
    penalty: Scalar,
    observe: Callable[[Array], Any] | None,
    max_steps: int,
) -> StateEvolution:
    geometry = mirror_geometry(start)
    assert geometry is not None  # as `state_evolution` checks
    assert geometry.curve is not None
    curve = geometry.curve()
    finite = all_finite(curve)
    valid = (ratio > 0) & (noise >= 0) & (penalty >= 0) & jnp.isfinite(ratio + noise + penalty)
    # More samples than coordinates, and no penalty: the least-squares solution, gamma = 0.
    over = (ratio > 1) & (penalty == 0) & (noise > 0)
    usable = finite & valid
    safe = jnp.where(usable & ~over, ratio, 0.5)
    equations = Equations(curve, signal, weights, safe, jnp.square(noise), penalty)
    excess = jnp.where(over, ratio - 1, 1)
    least_squares = jnp.sqrt(ratio / excess) * noise
    tiny = jnp.finfo(noise.dtype).tiny
    known = jnp.log(jnp.stack([jnp.where(over, least_squares, 1), jnp.full_like(noise, tiny)]))
    chart = chart_of(curve)
    search = solve(equations, chart, known, usable & ~over, max_steps)
    nodes = chart.nodes(search.panels)
    found = jax.lax.stop_gradient((search.x, search.jacobian))
    s, gamma = jnp.exp(with_derivatives(*found, equations, nodes))
    s, gamma = jnp.where(over, least_squares, s), jnp.where(over, 0, gamma)
    sample = Sample.at(nodes, curve, moving_start=True)
    m = Moments.of(sample, signal, weights, s, gamma, observe=observe)
    error = jnp.abs(m.mass - 1)
    good = usable & (over | search.converged()) & (error < float(jnp.finfo(s.dtype).eps) ** 0.5)
    share = jnp.where(over, (ratio - 1) / ratio, penalty / jnp.where(over, 1, gamma))
    result = RESULTS.where(
        good, RESULTS.promote(diffrax.RESULTS.successful), RESULTS.no_fixed_point
    )

    def checked(value: Array) -> Array:
        return jnp.where(good, value, jnp.nan)

    return StateEvolution(
        mse=checked(m.mse),
        overlap=checked(m.overlap),
        l1=checked(m.l1),
        l2=checked(m.l2),
        effective_noise=checked(jnp.square(s)),
        effective_penalty=checked(gamma),
        active=checked(m.divergence),
        training_error=checked(jnp.square(s * share)),
        observed=jax.tree.map(checked, m.observed),
        result=RESULTS.where(finite, result, RESULTS.nonfinite_initialization),
        stats={"num_steps": search.count, "mass_error": error},
    )
