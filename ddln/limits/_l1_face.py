"""The point of a face of l1 minimizers at which the flow from a vanishing start ends."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, product
from ddln._types import Array, Bool, Float
from ddln.limits._ends import Ends
from ddln.limits._signed_least_squares import Span, noise, signed_least_squares, spanning

MOST_STEPS, HALVINGS = 100, 8


def point_of_face(
    X: Float[Array, "n d"],
    y: Float[Array, " n"],
    basic: Float[Array, " d"],
    support: Span,
    signs: Float[Array, " d"],
    ends: Ends,
    wanted: Bool[Array, ""],
) -> tuple[Float[Array, " d"], Bool[Array, ""]]:
    """The limit of the flow among the minimizers of |X theta - y|^2 with the given signs.

    Near the ends of its range xi_i = s_i + delta_i, where s = X^T nu_0 has reached an end for every
    coordinate of the face and delta = X^T nu_1 is of lower order in the scale. theta is a function of
    delta alone,

        two layers:  W_i log(|theta_i| / share_i) = sign_i x_i^T nu_1,
        L > 2:       -(share_i / |theta_i|)^(1 - 2/L) = sign_i x_i^T nu_1,

    so that it is the point of the face with the least sum of W |theta| (log(|theta| / share) - 1), or the
    largest sum of share^(1 - 2/L) |theta|^(2/L) (Wind et al. 2023, for equal starts). Both are steep at 0:
    coordinates are zero there only where the whole face is.

    Args:
        X: the inputs.
        y: the targets.
        basic: a minimizer on independent columns.
        support: these columns.
        signs: of the coordinates whose s is at an end, 0 for the others.
        ends: the ends and the shares.
        wanted: False skips the search; what is returned has no meaning then.

    Returns:
        theta, differentiable in X, y and the shares along changes that keep the dependences of the
        columns, and True if Newton's method has converged.
    """
    signed = X * signs[None]
    columns, residual = jax.lax.stop_gradient((signed, y - product(X, basic)))
    idle = (signs != 0) & (jnp.abs(product(columns.T, residual)) <= noise(X, y, basic))
    idle = wanted & idle & (jnp.linalg.norm(columns, axis=0) > 0)
    inside = _inside(columns, jnp.abs(basic), support.signed(signs), idle)
    # The face is parts t = b, t >= 0: the coefficients of independent columns that span all others.
    span, free = inside.span, inside.free
    parts = jnp.where(free[None], span.solve(columns), 0)
    upper = signs > 0
    law = _Law(
        jnp.where(free, jnp.where(upper, *ends.weights), 1),
        jnp.where(free, jnp.where(upper, *ends.shares), 1),
        ends.bend,
    )
    fixed = jax.lax.stop_gradient(law)
    t, mu, inverse, converged = _newton(fixed, parts, product(parts, inside.point), inside, wanted)
    # One step more has the derivatives of the implicit function theorem. The error in b is that of the
    # normal equations of the members: zero, with the derivative of b.
    slots = span.index < len(t)
    members = jnp.where(slots[None], signed[:, jnp.minimum(span.index, len(t) - 1)], 0)
    misfit = product(members.T, y - product(signed, jnp.where(free, t, 0))) / span.norms
    error = product(span.inverse.T, product(span.inverse, misfit)) / span.norms
    t = t + _step(law, fixed.metric(t), parts, inverse, error, t, mu)[0]
    return jnp.where(free, signs * t, 0), converged


class _Inside(eqx.Module):
    """A point in the relative interior of a face.

    Attributes:
        free: the coordinates that are not zero on the whole face.
        point: positive there, 1 elsewhere.
        span: independent columns that span those of the free coordinates.
    """

    free: Bool[Array, " d"]
    point: Float[Array, " d"]
    span: Span


def _inside(
    columns: Float[Array, "n d"], size: Float[Array, " d"], first: Span, idle: Bool[Array, " d"]
) -> _Inside:
    """The free coordinates by theorems of the alternative, each by least squares with signs.

    Off the span of the support of a minimizer let a_j be the parts of the other columns. A direction of
    the face has sum_j delta_j a_j = 0, delta >= 0. The residual r of least squares with delta >= 1 has
    a_j^T r >= 0, so that delta_j = 0 where it is positive; where r = 0, delta is positive everywhere.
    """
    norms = jnp.linalg.norm(columns, axis=0)
    norms = jnp.where(norms > 0, norms, 1)
    close = float(jnp.finfo(columns.dtype).eps) ** 0.6
    support = size > 0

    rest = (columns - first.combined(first.solve(columns))) / norms[None]
    rest = jnp.where(jnp.linalg.norm(rest, axis=0) > close, rest, 0)

    def exclude(state):
        free, _, _ = state
        others = free & ~support
        parts = jnp.where(others[None], rest, 0)
        total = jnp.sum(parts, axis=1)
        more, _, _ = signed_least_squares(
            parts, -total, others.astype(size.dtype), jnp.zeros_like(size)
        )
        push = product(parts.T, total + product(parts, more))
        forced = others & (push > close * jnp.sum(others).astype(size.dtype))
        return free & ~forced, jnp.where(others, 1 + more, 0), ~jnp.any(forced)

    start = (idle | support, jnp.zeros_like(size), ~jnp.any(idle & ~support))
    free, delta, _ = jax.lax.while_loop(lambda state: ~state[2], exclude, start)

    # From the minimizer into the face, half as far as its own entries allow.
    delta = jnp.where(free & ~support, delta / norms, 0)
    change = -first.solve(product(columns, delta)[:, None])[:, 0]
    change = first.spread(change, len(size)) + delta
    falls = change < 0
    longest = jnp.min(jnp.where(falls, size / jnp.where(falls, -change, 1), jnp.inf))
    point = size + 0.5 * jnp.where(jnp.isfinite(longest), longest, 1) * change
    more, _ = spanning(rest, free & ~support, close)
    return _Inside(free, jnp.where(free, point, 1), Span.of(columns, support | more))


class _Law(eqx.Module):
    """delta as a function of t = |theta|, increasing; see `point_of_face`."""

    weights: Float[Array, " d"]
    shares: Float[Array, " d"]
    bend: float = eqx.field(static=True)

    def dual(self, t: Float[Array, "*lengths d"]) -> Float[Array, "*lengths d"]:
        shares, weights = (jnp.broadcast_to(a, t.shape) for a in (self.shares, self.weights))
        if self.bend == 0:
            return weights * jnp.log(t / shares)
        return -((shares / t) ** self.bend)

    def metric(self, t: Float[Array, " d"]) -> Float[Array, " d"]:
        """dt / d delta."""
        if self.bend == 0:
            return t / self.weights
        return t / (self.bend * (self.shares / t) ** self.bend)


def _step(
    law: _Law, metric: Array, parts: Array, inverse: Array, error: Array, t: Array, mu: Array
) -> tuple[Float[Array, " d"], Float[Array, " m"]]:
    """Newton's steps of t and mu for delta(t) = parts^T mu, with `error` missing in parts t.

    From a mu nearby the step is small, and so is what the rounding of the inverse does to it.
    """
    gap = law.dual(t) - product(parts.T, mu)
    moved = product(inverse.T, product(inverse, product(parts, metric * gap) + error))
    return metric * (product(parts.T, moved) - gap), moved


def _newton(
    law: _Law, parts: Array, b: Array, inside: _Inside, wanted: Bool[Array, ""]
) -> tuple[Array, Array, Array, Bool[Array, ""]]:
    """The point of the face by damped Newton steps, which stay positive; mu and the last inverse factor."""
    free = inside.free
    close = float(jnp.finfo(b.dtype).eps) ** 0.6
    rounding = float(jnp.finfo(b.dtype).eps) * (4 + len(b) / 8)

    def step(state):
        t, mu, _, _, count = state
        metric = law.metric(t)
        matrix = product(parts * metric[None], parts.T)
        diagonal = jnp.diagonal(matrix)
        raised = jnp.where(diagonal > 0, rounding * diagonal, 1)
        inverse = inverse_factor(matrix + jnp.diag(raised))
        change, moved = _step(law, metric, parts, inverse, b - product(parts, t), t, mu)
        change = jnp.where(free, change, 0)
        falls = change < 0
        room = jnp.min(jnp.where(falls, t / jnp.where(falls, -change, 1), jnp.inf))
        # The objective is convex: where its slope has not turned, it has fallen. The multipliers take what
        # is constant on the face, and with it the rounding, out of the slope.
        mu = mu + moved
        held = product(parts.T, mu)
        lengths = jnp.minimum(1, 0.9 * room) * 0.5 ** jnp.arange(HALVINGS, dtype=t.dtype)
        reached = t[None] + lengths[:, None] * change[None]
        slopes = product(law.dual(reached) - held[None], change)
        begun = jnp.abs(product(law.dual(t) - held, change))
        fine = slopes <= 0.5 * begun
        taken = jnp.where(jnp.any(fine), jnp.argmax(fine), HALVINGS - 1)
        far = jnp.any(jnp.abs(change) > close * t)
        return reached[taken], mu, inverse, far, count + 1

    def unfinished(state):
        return state[3] & (state[4] < MOST_STEPS)

    blank = jnp.zeros((len(b), len(b)), b.dtype)
    state = (inside.point, jnp.zeros_like(b), blank, wanted, jnp.asarray(0))
    t, mu, inverse, far, _ = jax.lax.while_loop(unfinished, step, state)
    return t, mu, inverse, ~far & jnp.all(jnp.isfinite(t))
