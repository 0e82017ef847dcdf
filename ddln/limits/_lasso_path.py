"""The solutions of the Lasso for all penalties."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import product
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Bool, Float, Int
from ddln._validation import float_array
from ddln.limits._signed_least_squares import Span


class LassoPath(eqx.Module):
    """Breakpoints of the Lasso, between which the solution is linear in the penalty.

    There are K rows, of which `count` are breakpoints; the others repeat the end.

    Attributes:
        penalties: the penalties, falling from the least one with theta = 0 to 0, shape [K].
        theta: the solutions there, shape [K, d].
        count: the number of breakpoints.
        result: a `ddln.RESULTS` code.
    """

    penalties: Float[Array, " K"]
    theta: Float[Array, "K d"]
    count: Int[Array, ""]
    result: RESULTS

    def at(self, penalty: float | Float[Array, ""]) -> Float[Array, " d"]:
        """The solution for any penalty, by interpolation, which is exact."""
        rising = self.penalties[::-1]
        return jax.vmap(lambda column: jnp.interp(penalty, rising, column[::-1]), in_axes=1)(
            self.theta
        )


class _Knot(eqx.Module):
    theta: Float[Array, " d"]
    signs: Float[Array, " d"]
    dropped: Bool[Array, " d"]
    penalty: Float[Array, ""]
    count: Int[Array, ""]
    penalties: Float[Array, " K"]
    rows: Float[Array, "K d"]


def lasso_path(X, y, *, max_breakpoints: int | None = None, throw: bool = True) -> LassoPath:
    """The path of argmin |X theta - y|^2 / 2 + penalty |theta|_1 over all penalties, exactly.

    The homotopy: with the signs s on the support S the solution is (X_S^T X_S)^-1 (X_S^T y - penalty s)
    until a coordinate of S reaches zero, which leaves, or a correlation |x_j^T (y - X theta)| outside
    reaches the penalty, which enters. The end is the limit of the path, a least l1 norm among the
    minimizers of |X theta - y|. A flow of `ddln.DeepDiagonal` of two layers with weight decay lambda ends
    at the penalty lambda / |c| (`ddln.limit`), from every start without ties.

    Columns need general position: of equal columns, or of others that arrive together, one stays out. To
    be used under `jax.jit` and `jax.vmap`; differentiable in neither.

    Source: Osborne, Presnell and Turlach 2000; Efron, Hastie, Johnstone and Tibshirani 2004.

    Args:
        X: the inputs, shape [n, d].
        y: the targets, shape [n].
        max_breakpoints: K; None is 8 min(n, d) + 16.
        throw: True raises if there are more breakpoints; False leaves `max_steps_reached` in `result`.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if `throw=True` and the path has more breakpoints.
    """
    X, y = float_array("X", X, "n d"), float_array("y", y, "n")
    if X.shape[:1] != y.shape:
        raise ValueError(
            f"Argument `y` must have {len(X)} entries, as X has rows, but it has {len(y)}."
        )
    most = 8 * min(X.shape) + 16 if max_breakpoints is None else max_breakpoints
    if most < 2:
        raise ValueError(f"Argument `max_breakpoints` must be at least 2, but it is {most}.")
    path = _path(X, y.astype(X.dtype), most)
    if throw:
        path = path.result.error_if(path, ~is_okay(path.result))
    return path


@eqx.filter_jit
def _path(X: Array, y: Array, most: int) -> LassoPath:
    d = X.shape[1]
    correlation = product(y, X)
    first = jnp.argmax(jnp.abs(correlation))
    largest = jnp.abs(correlation[first])
    rounding = 64 * float(jnp.finfo(X.dtype).eps)

    def step(knot: _Knot) -> _Knot:
        members = knot.signs != 0
        span = Span.of(X, members)
        # delta = (X_S^T X_S)^-1 s, the velocity of theta as the penalty falls.
        sides = jnp.where(
            span.index < d, knot.signs[jnp.minimum(span.index, d - 1)] / span.norms, 0
        )
        inner = product(span.inverse.T, product(span.inverse, sides))
        # What is left by the regularization of the Gram matrix.
        left = sides - product(span.columns.T, product(span.columns, inner))
        inner = (inner + product(span.inverse.T, product(span.inverse, left))) / span.norms
        base = span.solve(y[:, None])[:, 0]

        def scattered(values):
            return jnp.zeros(d, X.dtype).at[span.index].set(values, mode="drop")

        delta, base = scattered(inner), scattered(base)
        theta = jnp.where(members, base - knot.penalty * delta, 0)
        c = product(y - product(X, theta), X)
        a = product(product(X, delta), X)
        outside = ~members & ~knot.dropped

        def arrival(gap, closing):
            reachable = outside & (closing > rounding)
            return jnp.where(reachable, gap / jnp.where(reachable, closing, 1), jnp.inf)

        up, down = arrival(knot.penalty - c, 1 - a), arrival(knot.penalty + c, 1 + a)
        enters = jnp.maximum(jnp.minimum(up, down), 0)
        shrinks = members & (knot.signs * delta < 0)
        zero = jnp.where(shrinks, -theta / jnp.where(shrinks, delta, 1), jnp.inf)
        leaves = jnp.maximum(zero, 0)
        entering, leaving = jnp.argmin(enters), jnp.argmin(leaves)
        length = jnp.minimum(knot.penalty, jnp.minimum(enters[entering], leaves[leaving]))
        # With as many columns as samples nothing arrives before the end, but for rounding.
        last = knot.penalty - length <= rounding * largest
        drops = ~last & (leaves[leaving] <= enters[entering])
        gone = (jnp.arange(d) == leaving) & drops
        comes = (jnp.arange(d) == entering) & ~last & ~drops
        penalty = jnp.where(last, 0, knot.penalty - length)
        theta = jnp.where(members & ~gone, base - penalty * delta, 0)
        sign = jnp.where(up <= down, 1, -1).astype(X.dtype)
        later = jnp.arange(most) >= knot.count
        return _Knot(
            theta=theta,
            signs=jnp.where(gone, 0, jnp.where(comes, sign, knot.signs)),
            # It left for the inside of the range of its correlation.
            dropped=gone,
            penalty=penalty,
            count=knot.count + 1,
            penalties=jnp.where(later, penalty, knot.penalties),
            rows=jnp.where(later[:, None], theta[None], knot.rows),
        )

    start = _Knot(
        theta=jnp.zeros(d, X.dtype),
        signs=jnp.zeros(d, X.dtype).at[first].set(jnp.sign(correlation[first])),
        dropped=jnp.zeros(d, bool),
        penalty=largest,
        count=jnp.asarray(1),
        penalties=jnp.full(most, largest),
        rows=jnp.zeros((most, d), X.dtype),
    )
    end = jax.lax.while_loop(lambda k: (k.penalty > 0) & (k.count < most), step, start)
    result = RESULTS.where(
        end.penalty > 0,
        RESULTS.max_steps_reached,  # pyright: ignore
        RESULTS.successful,  # pyright: ignore
    )
    return LassoPath(end.penalties, end.rows, end.count, result)
