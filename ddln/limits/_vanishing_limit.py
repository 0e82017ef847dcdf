"""The path of the flow as the scale of its initialization goes to zero."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import product
from ddln._plot import figures
from ddln._results import RESULTS, is_okay
from ddln._types import Array, Bool, Float, Loss
from ddln._validation import is_known
from ddln.engine.internal import check_model, check_start
from ddln.limits._ends import Ends
from ddln.limits._l1_face import point_of_face
from ddln.limits._signed_least_squares import (
    Span,
    noise,
    signed_least_squares,
    spanning,
)
from ddln.limits._weights import ends_of
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization


class VanishingLimit(eqx.Module):
    """A path that stands still on plateaus and jumps between them.

    There are K rows, of which the first `stats["num_plateaus"]` are plateaus; the others repeat the
    end, at the time inf.

    Attributes:
        ts: the time tau at which each plateau begins; the first one is 0, shape [K].
        theta: the effective parameter on each plateau; the first one is 0, the last one the end,
            shape [K, *theta].
        active: where theta is not zero, shape [K, *theta].
        dual: xi in its own unit at the beginning of each plateau, between -W_- and W_+, shape
            [K, *theta].
        weights: W_+ and W_-, the ends of the range of xi, as `ddln.l1_weights` gives them, shape
            [2, *theta].
        result: a `ddln.RESULTS` code.
        stats: `num_plateaus`.
    """

    ts: Float[Array, " K"]
    theta: Float[Array, "K *theta"]
    active: Bool[Array, "K *theta"]
    dual: Float[Array, "K *theta"]
    weights: Float[Array, "2 *theta"]
    result: RESULTS
    stats: dict[str, Any]

    def plot(self, **options: Any) -> Any:
        """Draw the plateaus and jumps: the axes of `ddln.plots.staircase`, which takes the options."""
        return figures().staircase(self, **options)


def vanishing_limit(
    parameterization: AbstractParameterization,
    loss: Loss,
    *,
    max_plateaus: int | None = None,
    throw: bool = True,
) -> VanishingLimit:
    """The gradient flow from alpha * w_0 in the limit alpha -> 0: from saddle to saddle.

    In the time tau = t / log(1/alpha) for L = 2, and tau = t alpha^(L-2) for L >= 3, theta tends to
    a path that is constant except for jumps. Its dual s, which is xi / log(1/alpha) or alpha^(L-2) xi,
    follows the inverse scale space flow

        ds/dtau = -grad L(theta),     s in the subdifferential of sum(W_+ theta^+ + W_- theta^-),

    with W = `ddln.l1_weights(parameterization)`: depth and start enter through W alone. A coordinate
    is zero while s_i lies between the ends -W_- and W_+, and moves once s_i has reached one. On each
    plateau theta minimizes the loss, with the signs of the ends reached and zeros elsewhere; at the
    next arrival it jumps. Coordinates may drop out and come back. The last plateau minimizes
    sum(W_+ theta^+ + W_- theta^-) among the minimizers of the loss: `ddln.minimum_l1(X, y, W)`.

    Simultaneous arrivals enter together. Equal (or opposite) columns of X that are active together
    share their sum as the flow does: in equal parts for L >= 3, or by the factors of the terms of a sum
    whose ranges end first; for L = 2 in proportion to
    D = |u^2 - v^2| |(u + v)/(u - v)|^sign(theta), and the like for the other parameterizations. Where other
    dependent columns leave several minimizers on a plateau, theta is the one with the largest
    -sum |theta| (log(|theta|/D) - 1) for L = 2, and sum |theta|^(2/L) for L >= 3, as the flow has it.

    To be used under `jax.jit` and `jax.vmap`, and differentiable in both modes, in the initialization,
    X and y: between ties, the order of the jumps does not depend on them.

    Source: Berthier 2023; Pesme and Flammarion 2023, for L = 2. For L >= 3 the same equations hold
    with other ends: s has a bounded range, which it reaches where theta leaves zero.

    Example:
        >>> network = ddln.DeepDiagonal.random(jax.random.key(0), depth=3, dim=50)
        >>> path = ddln.vanishing_limit(network, ddln.LeastSquares(X, y))
        >>> path.ts, path.theta[-1]

    Args:
        parameterization: w_0, the start at alpha = 1: a `DeepDiagonal`, `Square`, `Power`,
            `PowerDifference` or `FourVector`, a `Sum` of these that has one degree, or a map of your own
            as in `ddln.l1_weights`. Its size is the unit of alpha.
        loss: the squared loss.
        max_plateaus: K, the most plateaus; None allows 4 min(n, d) + 2. All K cost computing time.
        throw: True raises if the path is not found, also under `jax.jit`; False leaves the reason in
            `VanishingLimit.result`, and no host callback in the program.

    Returns:
        The path; `result` is `successful`, `max_steps_reached` for more than K plateaus (the rows
        are right), `minimum_out_of_reach` where the path ends with a larger loss than the least,
        because of coordinates that cannot move or not to that side (the rows are right),
        `ambiguous_plateau` where a choice among several minimizers was not found, or
        `nonfinite_initialization`.

    Raises:
        ValueError: for arguments that do not fit.
        RuntimeError: if `throw=True` and `result` is not `successful`.
    """
    if not isinstance(loss, LeastSquares):
        raise ValueError(
            f"Argument `loss` must be a `ddln.LeastSquares`, but it is a {type(loss).__name__}."
        )
    if max_plateaus is not None and max_plateaus < 2:
        raise ValueError(f"Argument `max_plateaus` must be at least 2, but it is {max_plateaus}.")
    check_model(parameterization, loss)
    if throw:
        check_start(parameterization)
    capacity = 4 * min(loss.design.shape) + 2 if max_plateaus is None else max_plateaus
    known = all(map(is_known, jax.tree.leaves((parameterization, loss))))
    path, ties = _path(parameterization, loss, capacity, decides=not known)
    # Ties are rare, and the program that decides them compiles for longer. Known inputs inside of a
    # transformation may have ties that are not known.
    if known and (not is_known(ties) or ties):
        path, _ = _path(parameterization, loss, capacity, decides=True)
    if throw:
        path = path.result.error_if(path, ~is_okay(path.result))
    return path


class _Plateau(eqx.Module):
    """A plateau; see `VanishingLimit`.

    `theta` is shared between equal columns; `basic` is the minimizer without that, on independent
    columns, and not differentiated.
    """

    time: Float[Array, ""]
    theta: Float[Array, " d"]
    dual: Float[Array, " d"]
    basic: Float[Array, " d"]
    # A jump follows; this plateau and all before it are unique, and solved.
    moves: Bool[Array, ""]
    unique: Bool[Array, ""]
    solved: Bool[Array, ""]


@eqx.filter_jit
def _path(
    parameterization: AbstractParameterization, loss: LeastSquares, capacity: int, *, decides: bool
) -> tuple[VanishingLimit, Bool[Array, ""]]:
    """The path, and True if it has ties; with `decides` they are decided."""
    shape = loss.X.shape[1:]
    ends = jax.tree.map(lambda leaf: leaf.reshape(2, -1), ends_of(parameterization))
    finite = jnp.all(~jnp.isnan(ends.weights) & ~jnp.isnan(ends.shares))
    # A start with nan never moves: its lane cannot disturb the others.
    ends = Ends(
        jnp.where(finite, ends.weights, jnp.inf), jnp.where(finite, ends.shares, 1), ends.bend
    )
    zeros = jnp.zeros_like(ends.weights[0])
    yes = jnp.asarray(True)
    start = _Plateau(zeros[0], zeros, zeros, zeros, yes, yes, yes)

    def advance(plateau: _Plateau, _) -> tuple[_Plateau, tuple]:
        following = _next_plateau(plateau, ends, loss, decides)
        kept = jax.tree.map(lambda a, b: jnp.where(following.moves, a, b), following, plateau)
        kept = eqx.tree_at(lambda p: p.moves, kept, following.moves)
        time = jnp.where(following.moves, following.time, jnp.inf)
        return kept, (time, kept.theta, kept.dual, following.moves)

    # One plateau more than rows: if a jump leads to it, the last row is not the end.
    last, rows = jax.lax.scan(advance, start, length=capacity)
    first = (zeros[:1], zeros[None], zeros[None], yes[None])
    times, theta, dual, moves = (
        jnp.concatenate([head, tail[:-1]]) for head, tail in zip(first, rows, strict=True)
    )
    stuck = jnp.any(_velocity(last, loss) != 0)

    # From the least important to the most.
    result = RESULTS.promote(diffrax.RESULTS.successful)
    for fails, code in (
        (stuck, RESULTS.minimum_out_of_reach),
        (~last.unique, RESULTS.ambiguous_plateau),
        (last.moves, RESULTS.promote(diffrax.RESULTS.max_steps_reached)),
        (~last.solved, RESULTS.promote(diffrax.RESULTS.internal_error)),
        (~finite, RESULTS.nonfinite_initialization),
    ):
        result = RESULTS.where(fails, code, result)
    blank = lambda rows: jnp.where(finite, rows, jnp.nan)  # noqa: E731
    rows_of = lambda rows: rows.reshape(rows.shape[0], *shape)  # noqa: E731
    path = VanishingLimit(
        ts=blank(times),
        theta=blank(rows_of(theta)),
        active=rows_of(theta != 0),
        dual=blank(rows_of(dual)),
        weights=blank(rows_of(ends.weights)),
        result=result,
        stats={"num_plateaus": jnp.sum(moves)},
    )
    return path, ~last.unique


def _velocity(plateau: _Plateau, loss: LeastSquares) -> Float[Array, " d"]:
    """ds/dtau = -grad L, exactly zero where it is zero."""
    X, y = loss.design, loss.y
    pull = product(X.T, y - product(X, plateau.theta))
    moves = (plateau.theta == 0) & (jnp.abs(pull) > noise(X, y, plateau.theta))
    return jnp.where(moves, 2 * loss.scale * pull, 0)


def _next_plateau(plateau: _Plateau, ends: Ends, loss: LeastSquares, decides: bool) -> _Plateau:
    upper, lower = ends.weights[0], -ends.weights[1]
    velocity = _velocity(plateau, loss)
    moving = velocity != 0
    speed = jnp.where(moving, jnp.abs(velocity), 1)
    distance = jnp.where(velocity > 0, upper - plateau.dual, plateau.dual - lower)
    reachable = moving & jnp.isfinite(distance)
    wait = jnp.where(reachable, jnp.where(reachable, distance, 0) / speed, jnp.inf)
    least = jnp.min(wait)
    moves = jnp.isfinite(least)
    least = jnp.where(moves, least, 0)
    time = plateau.time + least
    rounding = float(jnp.finfo(time.dtype).eps)
    arrives = wait - least <= 1e3 * rounding * time
    # s has the rounding of its end and of all gradients so far.
    error = 1e3 * rounding * jnp.abs(jnp.where(velocity > 0, upper, lower))
    error = error + 8 * loss.scale * time * noise(loss.design, loss.y, plateau.theta)
    arrives = reachable & (arrives | (distance - least * speed <= error))
    dual = plateau.dual + least * velocity
    dual = jnp.where(arrives, jnp.where(velocity > 0, upper, lower), dual)
    # Rounding may have led beyond the end.
    dual = jnp.clip(dual, lower, upper)
    signs = (dual == upper).astype(dual.dtype) - (dual == lower).astype(dual.dtype)

    X, y = loss.design, loss.y
    basic, span, solved = signed_least_squares(*jax.lax.stop_gradient((X, y)), signs, plateau.basic)
    theta, unique = _shared(X, y, basic, span, signs, ends)
    if decides:
        decided, found = point_of_face(X, y, basic, span, signs, ends, moves & ~unique)
        theta = jnp.where(unique, theta, decided)
        unique = unique | found
    return _Plateau(
        time, theta, dual, basic, moves, plateau.unique & unique, plateau.solved & solved
    )


def _shared(
    X: Float[Array, "n d"],
    y: Float[Array, " n"],
    basic: Float[Array, " d"],
    span: Span,
    signs: Float[Array, " d"],
    ends: Ends,
) -> tuple[Float[Array, " d"], Bool[Array, ""]]:
    """The minimizer on the support of `basic`, shared with candidates of equal columns.

    Returns:
        The minimizer, and True if it is the only one with these signs, up to the sharing.
    """
    d = X.shape[1]
    close = float(jnp.finfo(X.dtype).eps) ** 0.6
    slots = jnp.arange(len(span.index))[:, None]
    place = jnp.minimum(span.index, d - 1)
    moving = span.differentiable(X)
    theta = moving.solve(y[:, None])
    # Once more, for second derivatives.
    theta = (theta + moving.solve(y[:, None] - moving.combined(theta)))[:, 0]

    # Each column as a combination of the support's columns, all with the signs of their theta.
    fixed_X = jax.lax.stop_gradient(X)
    parts = span.solve(fixed_X)
    missing = fixed_X - span.combined(parts)
    norms = jnp.linalg.norm(fixed_X, axis=0)
    candidate = (signs != 0) & (norms > 0)
    signed = parts * signs[place][:, None] * signs[None]
    equal = candidate & (jnp.linalg.norm(missing, axis=0) <= close * norms)
    equal = equal & (jnp.max(signed, axis=0) > 1 - close)
    equal = equal & (jnp.sum(jnp.abs(signed), axis=0) < 1 + len(parts) * close)
    holds = equal[None] & (jnp.argmax(signed, axis=0)[None] == slots) & (span.index < d)[:, None]
    shares = jnp.where(holds, jnp.where(signs > 0, *ends.shares)[None], 0)
    total = jnp.sum(shares, axis=1)
    sizes = product(jnp.abs(theta), shares / jnp.where(total > 0, total, 1)[:, None])

    # Other minimizers differ in columns that are orthogonal to the residual.
    pull = jnp.abs(product(fixed_X.T, jax.lax.stop_gradient(y) - product(fixed_X, basic)))
    idle = candidate & ~equal & (pull <= noise(fixed_X, y, basic))
    rest = missing / jnp.where(norms > 0, norms, 1)[None]
    _, apart = spanning(rest, idle, close**0.5)
    pivots = 1 / jnp.diagonal(span.inverse)
    unique = apart & (jnp.min(jnp.square(pivots)) > close)
    return signs * sizes, unique
