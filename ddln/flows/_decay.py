"""Weight decay as a function of time, and what one step of a solver sees of it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from ddln._numerics import gauss_legendre, product
from ddln._types import Array, Float, Scalar
from ddln._validation import float_array, is_known, require_not_negative

# Nodes of a step at which a function of time is sampled: its interpolant is of the order of Rodas5P, and
# its integral of twice that order.
NODES = 6
# Pieces between two times on which a function of time is integrated for its own sake.
PIECES = 8


class PiecewiseConstant(eqx.Module):
    """A function of time that is constant between jumps: values[k] after k of the times.

    As a weight decay no step of the solver crosses a jump, so that the jumps cost no accuracy; the solver
    must be a Rosenbrock method, as `ddln.Rodas5P`, which it is by default. Differentiable in
    the values, not in the times.

    Example (weight decay that is switched off at t = 50):
        >>> decay = ddln.PiecewiseConstant([50.0], [0.1, 0.0])
        >>> ddln.gradient_flow(network, loss, 100.0, weight_decay=decay)

    Args:
        times: the times of the jumps, positive and increasing, shape [K].
        values: the values before the first, between, and after the last of them, shape [K + 1].

    Raises:
        ValueError: if the shapes do not fit, the times are not positive and increasing, or a known value
            is negative or not finite.
    """

    times: Float[Array, " K"]
    values: Float[Array, " K+1"]

    def __init__(self, times, values):
        self.times, self.values = (
            float_array("times", times, "K"),
            float_array("values", values, "K+1"),
        )
        if self.values.shape[0] != self.times.shape[0] + 1:
            raise ValueError(
                f"Argument `values` must have {self.times.shape[0] + 1} entries, one more than `times`, "
                f"but it has {self.values.shape[0]}."
            )
        if is_known(self.times):
            known = np.asarray(self.times)
            if not (known[0] > 0 and np.all(np.diff(known) > 0)):
                raise ValueError(
                    f"Argument `times` must be positive and increasing, but it is {known}."
                )
        require_not_negative("values", self.values)

    def __call__(self, t: float | Scalar) -> Scalar:
        """The value at time t; at a jump the value after it."""
        after = jnp.searchsorted(_without_derivative(self.times), t, side="right")
        return jnp.take(self.values, after, mode="clip")


@jax.custom_jvp
def _without_derivative(times: Array) -> Array:
    return times


def _refuse(primals, tangents):
    if not isinstance(tangents[0], jax.custom_derivatives.SymbolicZero):
        raise ValueError(
            "Argument `times` of `ddln.PiecewiseConstant` must not be differentiated: a flow has no "
            "derivative in the times of jumps here. Differentiate in `values`, or pass a smooth function."
        )
    return primals[0], jnp.zeros_like(primals[0])


_without_derivative.defjvp(_refuse, symbolic_zeros=True)


def integrated_decay(
    weight_decay: float | Scalar | PiecewiseConstant | Callable, ts: Float[ArrayLike, " T"]
) -> Float[Array, " T"]:
    """Lambda(t) = integral_0^t lambda(s) ds of a weight decay, as `ddln.potential` takes it.

    Exact for numbers and for `ddln.PiecewiseConstant`; of a function of time by Gauss quadrature, on eight
    pieces between two times and six nodes on each. A function that jumps between them is a case for
    `ddln.PiecewiseConstant`.

    Example (the potential of a flow at each of its times):
        >>> for total in ddln.integrated_decay(0.1, flow.ts):
        ...     ddln.potential(network, integrated_decay=total)

    Args:
        weight_decay: lambda, as in `ddln.gradient_flow`.
        ts: times, increasing and not negative, shape [T]; inf where a flow was not reached.

    Returns:
        Lambda at these times, shape [T]; inf or NaN at inf.

    Source: Jacobs et al. 2025, for two layers; here for every depth.
    """
    ts = jnp.asarray(ts)
    if isinstance(weight_decay, PiecewiseConstant):
        starts = jnp.concatenate([jnp.zeros_like(weight_decay.times[:1]), weight_decay.times])
        ends = jnp.append(weight_decay.times, jnp.inf)
        spent = jnp.clip(ts[:, None], starts[None], ends[None]) - starts[None]
        return product(spent.astype(ts.dtype), weight_decay.values.astype(ts.dtype))
    if is_number(weight_decay):
        return jnp.asarray(weight_decay, ts.dtype) * ts
    known = jnp.where(jnp.isfinite(ts), ts, 0)
    edges = jnp.concatenate([jnp.zeros_like(ts[:1]), known])
    lengths = jnp.diff(edges) / PIECES
    nodes, weights = gauss_legendre(NODES, ts.dtype)
    inner = (np.arange(PIECES)[:, None] + nodes[None]).reshape(-1).astype(ts.dtype)
    times = edges[:-1, None] + lengths[:, None] * inner[None]
    rates = jax.vmap(jax.vmap(lambda t: rate_at(weight_decay, t, ts.dtype)))(times)
    areas = lengths * product(rates, jnp.tile(jnp.asarray(weights), PIECES))
    return jnp.where(jnp.isfinite(ts), jnp.cumsum(areas), jnp.inf)


def is_number(decay: Any) -> bool:
    """Test whether a weight decay is a number, which does not depend on time."""
    return not callable(decay)


def rate_at(decay: Any, t: Any, dtype: Any) -> Scalar:
    """lambda(t)."""
    value = decay if is_number(decay) else decay(jnp.asarray(t, dtype))
    return jnp.asarray(value).astype(dtype)


def unresolved_area(decay: Any, t0: Any, t1: Any, dtype: Any) -> Scalar | None:
    """The error of Lambda in a step across a jump or another feature that its samples do not resolve.

    0 where they do: where the polynomial through the samples meets lambda at the ends and in the middle to
    a twentieth of its variation. None if lambda is constant within every step.
    """
    if is_number(decay) or isinstance(decay, PiecewiseConstant):
        return None
    sampled = SampledDecay.of(decay, t0, t1, jnp.zeros((), dtype))
    times = sampled.t0 + 0.5 * sampled.length * jnp.arange(3, dtype=dtype)
    rates, seen = jax.vmap(lambda t: (rate_at(decay, t, dtype), sampled.at(t)[0]))(times)
    residual = jnp.max(jnp.abs(rates - seen))
    rounding = 64 * float(jnp.finfo(dtype).eps) * jnp.max(jnp.abs(rates))
    resolved = residual <= 0.05 * (jnp.max(rates) - jnp.min(rates)) + rounding
    area = jnp.where(resolved, 0, 0.1 * jnp.asarray(t1 - t0, dtype) * residual)
    # An estimate for the control of steps alone.
    return jax.lax.stop_gradient(area)


class SampledDecay(eqx.Module):
    """lambda in one step, from samples between the ends of the step: a polynomial, and its integral.

    A jump at an end of the step is not seen, and the integral Lambda is a function of time, as a
    Rosenbrock method wants it. `unresolved_area` is the error across a jump inside of the step.

    Attributes:
        t0: the start of the step.
        length: its length, 1 if it is zero.
        coefficients: those of lambda in x = 2 (t - t0) / length - 1, from x^0 on.
        start: Lambda at t0.
    """

    t0: Scalar
    length: Scalar
    coefficients: Float[Array, " k"]
    start: Scalar

    @classmethod
    def of(cls, decay: Any, t0: Any, t1: Any, start: Scalar) -> "SampledDecay":
        """The samples of a weight decay for the step from t0 to t1."""
        dtype = start.dtype
        t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
        length = jnp.where(t1 == t0, 1, t1 - t0)
        if is_number(decay):
            coefficients = rate_at(decay, t0, dtype)[None]
        else:
            nodes = gauss_legendre(1 if isinstance(decay, PiecewiseConstant) else NODES, dtype)[0]
            samples = jax.vmap(lambda x: rate_at(decay, t0 + x * (t1 - t0), dtype))(nodes)
            powers = np.vander(2 * nodes.astype(float) - 1, increasing=True)
            coefficients = product(jnp.asarray(np.linalg.inv(powers), dtype), samples)
        return cls(t0, length, coefficients, start)

    def at(self, t: Any) -> tuple[Scalar, Scalar]:
        """lambda(t) and Lambda(t)."""
        dtype = self.start.dtype
        x = 2 * (jnp.asarray(t, dtype) - self.t0) / self.length - 1
        rate = area = jnp.zeros_like(x)
        for k in reversed(range(self.coefficients.shape[0])):
            rate = rate * x + self.coefficients[k]
            area = area * x + self.coefficients[k] / (k + 1)
        # The integral from x = -1, where each power is +-1.
        ones = (-1.0) ** np.arange(1, self.coefficients.shape[0] + 1)
        below = sum(float(one) / (k + 1) * self.coefficients[k] for k, one in enumerate(ones))
        return rate, self.start + 0.5 * self.length * (area * x - below)
