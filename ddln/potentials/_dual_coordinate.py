"""Scalar maps of a deep diagonal network: theta(v), xi(v) and their inverses.

All functions act elementwise on arrays of any shape. With the gaps 0 <= Delta_1 <= ... <= Delta_m
along the first axis (m = L - 1 layers besides the smallest one) let

    rho(r) = prod_j sqrt(r^2 + Delta_j),      theta = v rho(v),      xi = int_{v_0}^{v} dr / rho(r).

A network with signs s and factor c has theta and xi in units of c s: theta / (c s) and c s xi. For
m >= 2 the integral converges at infinity, so xi has a bounded range.

Where Delta_1 = 0 (a tie), 1/rho is not integrable at 0: v keeps its sign, and v_0 = 0 is excluded.

Accuracy: relative, near rounding, in xi, in v, in theta, and in the distance of xi to the ends of
its range, whatever the ratio of the gaps. Squares of v and of sqrt(Delta), and rho itself, must be
normal numbers: roots between 1e-150 and 1e150 in float64 and between 1e-18 and 1e18 in float32, and
no more layers than keep theta, xi in range.

Derivatives are exact to any order in both modes. A derivative of 1/rho in a gap is
-1/2 / (rho (r^2 + Delta_k)), which is the integrand with the gap Delta_k repeated twice more: the
integrals are closed under differentiation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from ddln._types import Array, Bool, Float
from ddln.potentials._quadrature import folded_integral


def is_zero(tangent: Any) -> bool:
    """True for a tangent that is known to vanish while tracing: its derivative is left out."""
    return isinstance(tangent, SymbolicZero)


def rho(v: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]) -> Float[Array, "*shape"]:
    """Product of the layers besides v: rho(v) = prod_j sqrt(v^2 + Delta_j)."""
    return jnp.prod(jnp.sqrt(jnp.square(v)[None] + gaps), axis=0)


def log_slope(v: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]) -> Float[Array, "*shape"]:
    """d log theta / d log v = 1 + sum_j v^2 / (v^2 + Delta_j), in [1, L]."""
    squares = jnp.square(v)[None]
    return 1 + jnp.sum(squares / (squares + gaps), axis=0)


@jax.custom_jvp
@jax.jit
def smallest_layer(
    theta: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """The smallest layer at theta: the v with v rho(v) = theta.

    By Newton's method for log(v rho(v)) as a function of log v. The function is convex with slopes
    in [1, L], so that the iteration, started from above, converges monotonically.
    """
    count = gaps.shape[0]
    zero = theta == 0
    size = jnp.where(zero, 1, jnp.abs(theta))
    # v rho(v) >= v^(k+1) prod_{j > k} sqrt(Delta_j) bounds v from above, k = 0, ..., m.
    roots = 0.5 * jnp.log(gaps)
    bounds = [(jnp.log(size) - jnp.sum(roots[k:], axis=0)) / (k + 1) for k in range(count + 1)]
    bound = jnp.exp(jnp.min(jnp.stack(bounds), axis=0))
    # (theta / size)^2 as a product of ratios to its value at the bound: one logarithm and one division
    # a step, for any number of layers. The last step, without ratios, is accurate to rounding.
    top = jnp.square(bound * rho(bound, gaps) / size)
    shift = gaps / (jnp.square(bound)[None] + gaps)

    def newton(_, ratio):
        square = jnp.square(ratio)
        product, slope = jnp.ones_like(ratio), jnp.zeros_like(ratio)
        for j in range(count):
            moving = square * (1 - shift[j])
            slope = slope * (moving + shift[j]) + product * moving
            product = product * (moving + shift[j])
        step = jnp.log(top * square * product) * product / (product + slope)
        return ratio * jnp.exp(-0.5 * step)

    steps = 5 if theta.dtype == jnp.float64 else 4
    v = bound * jax.lax.fori_loop(0, steps, newton, jnp.ones_like(bound))
    v = v * jnp.exp(-jnp.log(v * rho(v, gaps) / size) / log_slope(v, gaps))
    return jnp.where(zero, 0, jnp.sign(theta) * v)


def _smallest_layer_jvp(primals, tangents):
    theta, gaps = primals
    theta_dot, gaps_dot = tangents
    v = smallest_layer(theta, gaps)
    moved = jnp.zeros_like(v) if is_zero(theta_dot) else theta_dot / rho(v, gaps)
    if not is_zero(gaps_dot):
        moved = moved - v * jnp.sum(gaps_dot / (2 * (jnp.square(v)[None] + gaps)), axis=0)
    return v, moved / log_slope(v, gaps)


smallest_layer.defjvp(_smallest_layer_jvp, symbolic_zeros=True)


def _crosses_zero(start: Array, end: Array, gaps: Array) -> Bool[Array, "*shape"]:
    """True if v = 0 lies between start and end at a tie: xi is infinite there."""
    return (jnp.min(gaps, axis=0) == 0) & (jnp.sign(start) != jnp.sign(end))


def _sinh_of_integral(start: Array, end: Array, gap: Array) -> Array:
    """sinh of int_start^end dr / sqrt(r^2 + gap), a difference without cancellation."""
    root_start, root_end = jnp.sqrt(start**2 + gap), jnp.sqrt(end**2 + gap)
    same = (jnp.sign(start) == jnp.sign(end)) & (start != 0)
    together = end * root_start + start * root_end
    difference = (end - start) * (end + start) / jnp.where(same, together, 1)
    opposite = (end * root_start - start * root_end) / jnp.where(same, 1, gap)
    return jnp.where(same, difference, opposite)


def _slope_in_gap(start: Array, end: Array, gap: Array) -> Array:
    """-1/2 int_start^end (r^2 + gap)^(-3/2) dr, the derivative of an arcsinh in its gap."""
    crosses = _crosses_zero(start, end, gap[None])
    infinite = jnp.where(crosses, jnp.sign(start - end) * jnp.inf, 0)
    start, end = jnp.where(crosses, 1, start), jnp.where(crosses, 1, end)
    roots = jnp.sqrt(start**2 + gap) * jnp.sqrt(end**2 + gap)
    return infinite - _sinh_of_integral(start, end, gap) / (2 * roots)


def _repeated(gaps: Float[Array, "m *shape"]) -> Float[Array, "m+2 m *shape"]:
    """The gaps with Delta_k repeated twice more, for each k along the second axis."""
    all_gaps = jnp.broadcast_to(gaps[:, None], (gaps.shape[0], *gaps.shape))
    return jnp.concatenate([all_gaps, gaps[None], gaps[None]])


@jax.custom_jvp
@jax.jit
def dual(
    start: Float[Array, "*shape"], end: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """int_start^end dr / rho(r): an arcsinh for m = 1, a quadrature otherwise.

    Infinite, with the sign of end - start, if v = 0 lies between them at a tie.
    """
    crosses = _crosses_zero(start, end, gaps)
    infinite = jnp.where(crosses, jnp.sign(end - start) * jnp.inf, 0)
    start, end = jnp.where(crosses, 1, start), jnp.where(crosses, 1, end)
    if gaps.shape[0] == 1:
        return infinite + jnp.arcsinh(_sinh_of_integral(start, end, gaps[0]))
    near, far = (f(jnp.abs(start), jnp.abs(end)) for f in (jnp.minimum, jnp.maximum))
    lowest = jnp.where(jnp.sign(start) == jnp.sign(end), near, 0)
    return infinite + jnp.sign(end - start) * folded_integral(lowest, near, far, gaps)


def _dual_jvp(primals, tangents):
    start, end, gaps = primals
    start_dot, end_dot, gaps_dot = tangents
    out = dual(start, end, gaps)
    out_dot = jnp.zeros_like(out)
    if not is_zero(end_dot):
        out_dot = out_dot + end_dot / rho(end, gaps)
    if not is_zero(start_dot):
        out_dot = out_dot - start_dot / rho(start, gaps)
    if not is_zero(gaps_dot) and gaps.shape[0] == 1:
        # With the general formula the integrals take most of the time of a derivative.
        out_dot = out_dot + _slope_in_gap(start, end, gaps[0]) * gaps_dot[0]
    elif not is_zero(gaps_dot):
        starts, ends = (jnp.broadcast_to(v, gaps.shape) for v in (start, end))
        slopes = -0.5 * dual(starts, ends, _repeated(gaps))
        out_dot = out_dot + jnp.sum(slopes * gaps_dot, axis=0)
    return out, out_dot


dual.defjvp(_dual_jvp, symbolic_zeros=True)


def dual_tail(
    start: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """int_start^infinity dr / rho(r), the distance of xi to the upper end of its range.

    Infinite for m = 1, and for start <= 0 at a tie.

    Args:
        start: the coordinate v.
        gaps: Delta, ascending along the first axis, shape [m, *shape].
    """
    # A constant may not come out of a custom rule: under `jax.vmap` JAX takes it for one lane's.
    return jnp.full_like(start, jnp.inf) if gaps.shape[0] == 1 else _finite_tail(start, gaps)


@jax.custom_jvp
@jax.jit
def _finite_tail(
    start: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """`dual_tail` for m >= 2."""
    crosses = _crosses_zero(start, jnp.ones_like(start), gaps)
    safe = jnp.where(crosses, 1, start)
    size = jnp.abs(safe)
    lowest = jnp.maximum(safe, 0)
    tail = folded_integral(lowest, size, jnp.full_like(size, jnp.inf), gaps)
    return jnp.where(crosses, jnp.inf, tail)


def _finite_tail_jvp(primals, tangents):
    start, gaps = primals
    start_dot, gaps_dot = tangents
    out = _finite_tail(start, gaps)
    out_dot = jnp.zeros_like(out)
    if not is_zero(start_dot):
        out_dot = out_dot - start_dot / rho(start, gaps)
    if not is_zero(gaps_dot):
        slopes = -0.5 * dual_tail(jnp.broadcast_to(start, gaps.shape), _repeated(gaps))
        out_dot = out_dot + jnp.sum(slopes * gaps_dot, axis=0)
    return out, out_dot


_finite_tail.defjvp(_finite_tail_jvp, symbolic_zeros=True)


def _newton_step(v: Array, remaining: Array, gaps: Array) -> Array:
    """The step s in t, v = sqrt(Delta_1) sinh(t), over which the integral is at most `remaining`.

    In t the integrand g(t) = prod_{j > 1} (Delta_1 sinh(t)^2 + Delta_j)^(-1/2) is log-concave on
    the whole line: with k = (log g)'(t), the integral over a step s is at most g (exp(k s) - 1)/k.
    The step that makes this bound equal to `remaining` never overshoots, is exact for power laws,
    and matches the integrand to first order: repeated steps converge with order three.
    """
    root = jnp.sqrt(jnp.square(v) + gaps[0])
    slope = -root * v * jnp.sum(1 / (jnp.square(v)[None] + gaps[1:]), axis=0)
    plain = remaining * rho(v, gaps[1:])
    x = jnp.maximum(slope * plain, -1 + jnp.finfo(v.dtype).eps)
    small = jnp.abs(x) < jnp.finfo(v.dtype).eps
    safe = jnp.where(small, 1, x)
    return plain * jnp.where(small, 1, jnp.log1p(safe) / safe)


def _sinh_shift(v: Array, step: Array, gaps: Array) -> Array:
    """sqrt(Delta_1) sinh(t + step) at v = sqrt(Delta_1) sinh(t), in the form that does not cancel."""
    root = jnp.sqrt(jnp.square(v) + gaps[0])
    larger = root + jnp.abs(v)
    smaller = gaps[0] / larger
    signed = jnp.sign(v) * step
    apart = 0.5 * jnp.sign(v) * (larger * jnp.exp(signed) - smaller * jnp.exp(-signed))
    return jnp.where(
        (jnp.abs(step) < 1) | (v == 0), v * jnp.cosh(step) + root * jnp.sinh(step), apart
    )


@jax.jit
def _invert_integral(start: Array, amount: Array, unit: Array, gaps: Array) -> Array:
    """The v with int_start^v dr / rho(r) = amount, to rounding relative to `unit`.

    The remaining amount is updated by the integral over each step: these add up without
    cancellation, and each costs one short quadrature.
    """
    tolerance = float(jnp.finfo(start.dtype).eps) ** (1 / 3)

    def unfinished(state):
        _, _, active, count = state
        return jnp.any(active) & (count < 64)

    def step(state):
        v, remaining, active, count = state
        stride = _newton_step(v, remaining, gaps)
        there = _sinh_shift(v, stride, gaps)
        left = remaining - dual(v, there, gaps)
        # Below both bounds the error of one more step is the cube of the tolerance.
        far = (jnp.abs(left) > tolerance * unit) | (
            jnp.abs(_newton_step(there, left, gaps)) > tolerance
        )
        return (
            jnp.where(active, there, v),
            jnp.where(active, left, remaining),
            active & far,
            count + 1,
        )

    state = (start, amount, amount != 0, jnp.asarray(0))
    v, remaining, _, _ = jax.lax.while_loop(unfinished, step, state)
    return _sinh_shift(v, _newton_step(v, remaining, gaps), gaps)


def _tail_upper_bound(distance: Array, gaps: Array) -> Array:
    """Upper bound of the v with int_v^infinity dr / rho(r) = `distance`.

    Exact where one power of r dominates rho: the tail integral is at most
    v^(1-k) / ((k - 1) prod_{j > k} sqrt(Delta_j)), k = 2, ..., m.
    """
    count = gaps.shape[0]
    roots = 0.5 * jnp.log(gaps)
    log_distance = jnp.log(distance)
    bounds = [
        -(log_distance + jnp.log(float(k - 1)) + jnp.sum(roots[k:], axis=0)) / (k - 1)
        for k in range(2, count + 1)
    ]
    return jnp.exp(jnp.min(jnp.stack(bounds), axis=0))


@jax.custom_jvp
@jax.jit
def primal(
    start: Float[Array, "*shape"], xi: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """The v with int_start^v dr / rho(r) = xi; the inverse of `dual` in its second argument.

    Infinite, with the sign of xi, for xi at or beyond the ends of its range. Beyond half of the
    way to an end, the distance to that end is inverted instead.
    """
    if gaps.shape[0] == 1:
        return _sinh_shift(start, xi, gaps)
    sign, amount = jnp.where(xi < 0, -1, 1).astype(xi.dtype), jnp.abs(xi)
    start = sign * start
    reach = dual_tail(start, gaps)
    distance = reach - amount
    inside = distance > 0
    near = (amount <= distance) | ~inside
    far_distance = jnp.where(near, jnp.where(jnp.isinf(reach), 1, 0.5 * reach), distance)
    far_start = _tail_upper_bound(far_distance, gaps)
    far_amount = dual_tail(far_start, gaps) - far_distance
    v = _invert_integral(
        jnp.where(near, start, far_start),
        jnp.where(inside, jnp.where(near, amount, far_amount), 0),
        jnp.where(near, amount, far_distance),
        gaps,
    )
    return sign * jnp.where(inside, v, jnp.inf)


def _primal_jvp(primals, tangents):
    start, xi, gaps = primals
    start_dot, xi_dot, gaps_dot = tangents
    v = primal(start, xi, gaps)
    # From xi = dual(v_0, v, gaps): dv / rho(v) = dxi + dv_0 / rho(v_0) - (d dual / d gaps) dgaps.
    moved = jnp.zeros_like(v) if is_zero(xi_dot) else xi_dot
    if not is_zero(start_dot):
        moved = moved + start_dot / rho(start, gaps)
    if not is_zero(gaps_dot):
        moved = moved - jax.jvp(lambda g: dual(start, v, g), (gaps,), (gaps_dot,))[1]
    return v, rho(v, gaps) * moved


primal.defjvp(_primal_jvp, symbolic_zeros=True)


@jax.custom_jvp
@jax.jit
def primal_from_tail(
    distance: Float[Array, "*shape"], gaps: Float[Array, "m *shape"]
) -> Float[Array, "*shape"]:
    """The v with int_v^infinity dr / rho(r) = distance > 0, the inverse of `dual_tail`, for m >= 2.

    Minus infinity for a distance at or beyond the length of the range of xi.
    """
    whole = 2 * dual_tail(jnp.zeros_like(distance), gaps)
    inside = distance < whole
    # Beyond the middle of the range the distance to its other end is the smaller one.
    mirrored = inside & (distance > 0.5 * whole) & jnp.isfinite(whole)
    near = jnp.where(mirrored, whole - distance, jnp.where(inside, distance, 0.5 * whole))
    start = _tail_upper_bound(near, gaps)
    v = _invert_integral(start, dual_tail(start, gaps) - near, near, gaps)
    return jnp.where(inside, jnp.where(mirrored, -v, v), -jnp.inf)


def _primal_from_tail_jvp(primals, tangents):
    distance, gaps = primals
    distance_dot, gaps_dot = tangents
    v = primal_from_tail(distance, gaps)
    moved = jnp.zeros_like(v) if is_zero(distance_dot) else -distance_dot
    if not is_zero(gaps_dot):
        moved = moved + jax.jvp(lambda g: dual_tail(v, g), (gaps,), (gaps_dot,))[1]
    return v, rho(v, gaps) * moved


primal_from_tail.defjvp(_primal_from_tail_jvp, symbolic_zeros=True)
