"""Least squares with given signs, by the active-set method of Lawson and Hanson."""

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


def independent(
    X: Float[Array, "n d"], members: Bool[Array, " d"], tolerance: float
) -> Bool[Array, ""]:
    """True if each member has a squared sine above `tolerance` to the span of the members before it."""
    pivots = 1 / jnp.diagonal(_inverse_gram_factor(_gathered(X, members)[1]))
    return jnp.min(jnp.square(pivots)) > tolerance


def _gathered(X: Array, members: Array) -> tuple[Array, Array, Array]:
    n, d = X.shape
    (index,) = jnp.nonzero(members, size=min(n, d), fill_value=d)
    filled = index < d
    columns = jnp.where(filled[None], X[:, jnp.minimum(index, d - 1)], 0)
    norms = jnp.where(filled, jax.lax.stop_gradient(jnp.linalg.norm(columns, axis=0)), 1)
    return index, columns / norms[None], norms


def _inverse_gram_factor(columns: Array) -> Array:
    """Inverse Cholesky factor of the Gram matrix, raised by its rounding; 1 for a zero column."""
    gram = product(columns.T, columns)
    rounding = float(jnp.finfo(columns.dtype).eps) * (4 + len(gram) / 8)
    return inverse_factor(gram + jnp.diag(jnp.where(jnp.diagonal(gram) > 0, rounding, 1)))


def least_squares(
    X: Float[Array, "n d"], y: Float[Array, " n"], members: Bool[Array, " d"]
) -> Float[Array, " d"]:
    """The minimizer of |X theta - y|^2 among the theta that are zero outside of the members."""
    span = Span.of(X, members)
    coefficients = span.solve(y[:, None])[:, 0]
    return jnp.zeros(X.shape[1], X.dtype).at[span.index].set(coefficients, mode="drop")


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
    done: Bool[Array, ""]
    count: Int[Array, ""]


def signed_least_squares(
    X: Float[Array, "n d"],
    y: Float[Array, " n"],
    signs: Float[Array, " d"],
    theta: Float[Array, " d"],
) -> tuple[Float[Array, " d"], Bool[Array, ""]]:
    """A minimizer of |X theta - y|^2 with theta_i of sign `signs[i]`, 0 where that is 0.

    The columns of its support are independent: the residual is orthogonal to the columns in the
    support, and a column enters only if the residual is not orthogonal to it.

    Args:
        X: the inputs.
        y: the targets.
        signs: 1, -1, or 0.
        theta: a start with the signs, on independent columns.

    Returns:
        The minimizer, and True if the iteration ended.

    Source: Lawson and Hanson 1974, Chapter 23.
    """
    d = X.shape[1]
    norms = jnp.linalg.norm(X, axis=0)
    norms = jnp.where(norms > 0, norms, 1)

    def step(state: _Iterate) -> _Iterate:
        theta, members = state.theta, state.members
        goal = least_squares(X, y, members)
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
            done=~backward & ~jnp.any(eligible),
            count=state.count + 1,
        )

    most = 8 * min(X.shape) + 16
    start = _Iterate(theta, theta != 0, jnp.asarray(False), jnp.asarray(0))
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < most), step, start)
    return end.theta, end.done
