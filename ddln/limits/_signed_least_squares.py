"""Least squares with given signs, by the active-set method of Lawson and Hanson."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, product
from ddln._types import Array, Bool, Float, Int

# Rounding of a gradient, in units of the dtype's rounding times the size of its terms.
NOISE = 64


class Span(eqx.Module):
    """Independent columns of X, gathered into as many slots as there can be.

    Attributes:
        index: the column in each slot; d for an empty one, shape [m], m = min(n, d).
        columns: the columns, of unit norm; 0 in empty slots, shape [n, m].
        norms: their norms; 1 in empty slots, shape [m].
        inverse: the inverse Cholesky factor of their Gram matrix, shape [m, m].
    """

    index: Int[Array, " m"]
    columns: Float[Array, "n m"]
    norms: Float[Array, " m"]
    inverse: Float[Array, "m m"]

    @classmethod
    def of(cls, X: Float[Array, "n d"], members: Bool[Array, " d"]) -> "Span":
        index, columns, norms = _gathered(X, members)
        return cls(index, columns, norms, _inverse_gram_factor(columns))

    def solve(self, sides: Float[Array, "n k"]) -> Float[Array, "m k"]:
        """The coefficients of the columns nearest to each side.

        Refined: the squared condition of the Gram matrix and its regularization leave no trace.
        """

        def nearest(rest):
            return product(self.inverse.T, product(self.inverse, product(self.columns.T, rest)))

        solution = nearest(sides)
        solution = solution + nearest(sides - product(self.columns, solution))
        return solution / self.norms[:, None]

    def combined(self, coefficients: Float[Array, "m k"]) -> Float[Array, "n k"]:
        """The sums of the columns with these coefficients."""
        return product(self.columns * self.norms[None], coefficients)

    def spread(self, coefficients: Float[Array, " m"], size: int) -> Float[Array, " d"]:
        """theta, of `size` entries, with these coefficients, and 0 besides the columns."""
        theta = jnp.zeros(size, coefficients.dtype)
        return theta.at[self.index].set(coefficients, mode="drop")

    def signed(self, signs: Float[Array, " d"]) -> "Span":
        """The span of the columns times signs, which are not zero in it."""
        turns = jnp.where(
            self.index < len(signs), signs[jnp.minimum(self.index, len(signs) - 1)], 1
        )
        return dataclasses.replace(
            self,
            columns=self.columns * turns[None],
            inverse=turns[:, None] * self.inverse * turns[None],
        )

    def differentiable(self, X: Float[Array, "n d"]) -> "Span":
        """The span with the derivatives of its columns in X.

        Those of solutions are exact nevertheless, as these are refined: to first order by `solve`.
        """
        return dataclasses.replace(self, columns=_columns(X, self.index) / self.norms[None])


def independent(
    X: Float[Array, "n d"], members: Bool[Array, " d"], tolerance: float
) -> Bool[Array, ""]:
    """True if each member has a squared sine above `tolerance` to the span of the members before it."""
    pivots = 1 / jnp.diagonal(_inverse_gram_factor(_gathered(X, members)[1]))
    return jnp.min(jnp.square(pivots)) > tolerance


def spanning(
    rest: Float[Array, "n d"], among: Bool[Array, " d"], tolerance: float
) -> tuple[Bool[Array, " d"], Bool[Array, ""]]:
    """Choose columns that span all of some columns, by elimination, the longest first.

    Args:
        rest: what of the columns a space leaves that is spanned already, relative to their norms.
        among: the columns to be spanned.
        tolerance: a column is spanned if no more of it than this is left.

    Returns:
        The chosen columns, and True if they are all: independent, also of that space.
    """

    def longest(rest):
        lengths = jnp.linalg.norm(rest, axis=0)
        return jnp.argmax(lengths), jnp.max(lengths)

    def choose(state):
        rest, chosen, index, length, count = state
        direction = rest[:, index] / length
        rest = rest - direction[:, None] * product(direction, rest)[None]
        chosen = chosen | (jnp.arange(len(chosen)) == index)
        return rest, chosen, *longest(rest), count + 1

    def unfinished(state):
        return (state[3] > tolerance) & (state[4] < len(rest))

    rest = jnp.where(among[None], rest, 0)
    state = (rest, jnp.zeros_like(among), *longest(rest), jnp.asarray(0))
    chosen = jax.lax.while_loop(unfinished, choose, state)[1]
    return chosen, jnp.all(chosen | ~among)


def _columns(X: Array, index: Array) -> Array:
    d = X.shape[1]
    return jnp.where((index < d)[None], X[:, jnp.minimum(index, d - 1)], 0)


def _gathered(X: Array, members: Array) -> tuple[Array, Array, Array]:
    n, d = X.shape
    (index,) = jnp.nonzero(members, size=min(n, d), fill_value=d)
    columns = _columns(X, index)
    norms = jnp.where(index < d, jax.lax.stop_gradient(jnp.linalg.norm(columns, axis=0)), 1)
    return index, columns / norms[None], norms


def _inverse_gram_factor(columns: Array) -> Array:
    """Inverse Cholesky factor of the Gram matrix, raised by its rounding; 1 for a zero column."""
    gram = product(columns.T, columns)
    rounding = float(jnp.finfo(columns.dtype).eps) * (4 + len(gram) / 8)
    return inverse_factor(gram + jnp.diag(jnp.where(jnp.diagonal(gram) > 0, rounding, 1)))


def noise(
    X: Float[Array, "n d"], y: Float[Array, " n"], theta: Float[Array, " d"]
) -> Float[Array, " d"]:
    """Bound of the rounding of X^T (X theta - y)."""
    norms = jnp.linalg.norm(X, axis=0)
    size = jnp.linalg.norm(y) + jnp.sum(norms * jnp.abs(theta))
    return NOISE * float(jnp.finfo(X.dtype).eps) * norms * size


class _Iterate(eqx.Module):
    theta: Float[Array, " d"]
    members: Bool[Array, " d"]
    # That of the members before the step: of the support at the end.
    span: Span
    done: Bool[Array, ""]
    count: Int[Array, ""]


def signed_least_squares(
    X: Float[Array, "n d"],
    y: Float[Array, " n"],
    signs: Float[Array, " d"],
    theta: Float[Array, " d"],
) -> tuple[Float[Array, " d"], Span, Bool[Array, ""]]:
    """A minimizer of |X theta - y|^2 with theta_i of sign `signs[i]`, 0 where that is 0.

    The columns of its support are independent: the residual is orthogonal to the columns in the
    support, and a column enters only if the residual is not orthogonal to it.

    Args:
        X: the inputs.
        y: the targets.
        signs: 1, -1, or 0.
        theta: a start with the signs, on independent columns.

    Returns:
        The minimizer, the columns of its support, and True if the iteration ended.

    Source: Lawson and Hanson 1974, Chapter 23.
    """
    n, d = X.shape
    norms = jnp.linalg.norm(X, axis=0)
    norms = jnp.where(norms > 0, norms, 1)

    def step(state: _Iterate) -> _Iterate:
        theta, members = state.theta, state.members
        span = Span.of(X, members)
        goal = span.spread(span.solve(y[:, None])[:, 0], d)
        wrong = members & (goal * signs <= 0)
        backward = jnp.any(wrong)
        # Go as far as the first change of sign; its coordinate leaves the support.
        share = jnp.where(wrong, theta / jnp.where(wrong & (theta != goal), theta - goal, 1), 1)
        shortest = jnp.min(share)
        stays = members & ~(wrong & (share <= shortest))
        # Without a change of sign, the coordinate of steepest descent enters.
        pull = signs * product(X.T, y - product(X, goal))
        eligible = (signs != 0) & ~members & (pull > noise(X, y, goal))
        entering = jnp.arange(d) == jnp.argmax(jnp.where(eligible, pull / norms, 0))
        moved = jnp.where(stays, theta + shortest * (goal - theta), 0)
        return _Iterate(
            theta=jnp.where(backward, moved, goal),
            members=jnp.where(backward, stays, members | (entering & eligible)),
            span=span,
            done=~backward & ~jnp.any(eligible),
            count=state.count + 1,
        )

    m = min(n, d)
    blank = Span(
        jnp.full(m, d), jnp.zeros((n, m), X.dtype), jnp.ones(m, X.dtype), jnp.zeros((m, m), X.dtype)
    )
    start = _Iterate(theta, theta != 0, blank, jnp.asarray(False), jnp.asarray(0))
    most = 8 * m + 16
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < most), step, start)
    return end.theta, end.span, end.done
