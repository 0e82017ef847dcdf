"""Newton's method along a path of targets, from the start of a flow to its limit."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Int
from ddln.limits._constraints import Constraints
from ddln.potentials import AbstractCurve
from ddln.solvers._inverse_factor import inverse_factor
from ddln.solvers._product import product

# A step may change the logarithm of theta by this much at first; then it adapts.
FIRST_RANGE = 0.5
# Below this change of log theta a Newton step squares the error to rounding.
CONVERGED = 1e-6


class Point(eqx.Module):
    """A point of the path.

    Attributes:
        v: the coordinates on the curves, shape [d].
        multipliers: those of A theta = b, shape [m].
        mismatch: xi(v) - A^T multipliers, shape [d]. It is carried, not computed: near the ends of
            its range the distance of xi to them is lost in xi, but not in the sum of its steps.
        progress: how much of the way from A theta_0 to b the target has made, in [0, 1].
        offset: the progress at which it begins to grow geometrically.
        range: how far a step along the path may change log theta.
        correction: how much the last Newton correction wanted to change log theta.
        regularization: of the normal matrix, relative.
        count: steps so far.
        done: whether the limit is reached.
    """

    v: Float[Array, " d"]
    multipliers: Float[Array, " m"]
    mismatch: Float[Array, " d"]
    progress: Float[Array, ""]
    offset: Float[Array, ""]
    range: Float[Array, ""]
    correction: Float[Array, ""]
    regularization: Float[Array, ""]
    count: Int[Array, ""]
    done: Bool[Array, ""]


class Quality(eqx.Module):
    """How well a point solves the problem: residual of the constraints, and duality gap.

    residual: |X theta - y'|, y' the part of y that can be met, relative to |y| + |X| |theta_0|.
    gap: Q(theta) + Q*(X^T nu) - <y', nu>, relative to sum_i |theta_i xi_i|. With theta and xi(v) on the
        curve, it is <X theta - y', nu> and the divergence of Q* between X^T nu and xi(v), which the
        metric gives for a small mismatch.
    """

    residual: Float[Array, ""]
    gap: Float[Array, ""]

    @classmethod
    def of(cls, point: Point, curve: AbstractCurve, data: Constraints, size: Array) -> "Quality":
        theta, metric = curve.at(point.v), curve.metric(point.v)
        misfit = product(data.rows, theta) - data.target
        xi = product(point.multipliers, data.rows)
        divergence = 0.5 * jnp.sum(metric * jnp.square(point.mismatch))
        gap = jnp.abs(jnp.sum(misfit * point.multipliers)) + divergence
        return cls(
            _ratio(jnp.linalg.norm(data.singular * misfit), size),
            _ratio(gap, jnp.sum(jnp.abs(theta * xi))),
        )


def _ratio(part: Array, whole: Array) -> Array:
    return part / jnp.where(whole > 0, whole, 1)


def follow_path(
    curve: AbstractCurve,
    data: Constraints,
    size: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> tuple[Point, Quality]:
    """Solves xi(v) = A^T mu, A theta(v) = b.

    The unknowns are v and mu together, so that large coordinates, whose xi stays at the end of its
    range, are found by theta, and small ones by xi, as in interior-point methods. The target moves
    from A theta_0, whose solution is the start, to b: each step is a Newton correction plus a step
    along the path, by one Cholesky factorization of A M A^T.

    Args:
        curve: the curves of (theta, xi).
        data: A and b.
        size: |y| + |X| |theta_0|, the unit of the residual.
        tolerance: of residual and gap, relative.
        max_steps: the most steps.
    """
    dtype = curve.origin.dtype
    eps = float(jnp.finfo(dtype).eps)
    origin = product(data.rows, curve.at(curve.origin))
    way = data.target - origin
    smallest_correction = max(CONVERGED, eps ** (1 / 2))

    def step(point: Point) -> Point:
        v, mismatch, progress = point.v, point.mismatch, point.progress
        theta, metric = curve.at(v), curve.metric(v)
        steepness = curve.steepness(v)
        inverse = inverse_factor(data.normal_matrix(metric, point.regularization))
        # At the end the target itself: a large A theta_0 would leave its rounding.
        aim = jnp.where(progress >= 1, data.target, origin + progress * way)
        missing = aim - product(data.rows, theta)
        sides = jnp.stack([missing + product(data.rows, metric * mismatch), way], axis=1)
        solved = product(inverse.T, product(inverse, sides))
        dual = product(data.rows.T, solved)
        # dz = (d theta / d xi) dxi / (d theta / d z), the same for theta and for xi.
        rate = metric / (curve.slope(v) * curve.scale(v))
        correct, along = rate * (dual[:, 0] - mismatch), rate * dual[:, 1]

        correction = jnp.max(steepness * jnp.abs(correct))
        speed = jnp.max(steepness * jnp.abs(along))
        first = point.count == 0
        offset = jnp.where(first, FIRST_RANGE / jnp.maximum(speed, eps), point.offset)
        # The path is followed in log(progress + offset), in which large theta are straight lines.
        grown = progress + offset
        along, speed = grown * along, grown * speed
        allowed = jnp.where(correction < 0.3, 2 * point.range, point.range)
        allowed = jnp.where(correction > 1, 0.5 * point.range, allowed)
        allowed = jnp.where(first, point.range, jnp.clip(allowed, 1e-3, 64))
        rest = jnp.log1p((1 - progress) / grown)
        room = jnp.maximum(curve.reach - jnp.max(jnp.abs(correct)), 0)
        pace = jnp.minimum(rest, allowed / jnp.maximum(speed, eps))
        pace = jnp.minimum(pace, room / jnp.maximum(jnp.max(jnp.abs(along)), eps))
        pace = jnp.where(correction < 1, pace, 0)
        damping = 1 / jnp.maximum(correction, 1)

        dz = damping * correct + pace * along
        change = damping * solved[:, 0] + pace * grown * solved[:, 1]
        moved = curve.step(v, dz)
        arrived = pace >= rest * (1 - 4 * eps)
        further = jnp.where(arrived, 1, progress + grown * jnp.expm1(pace))

        quality = Quality.of(point, curve, data, size)
        small = (progress >= 1) & (quality.residual <= tolerance) & (quality.gap <= tolerance)
        # Where the normal matrix is singular to rounding, corrections stop shrinking at its noise.
        stalled = small & (correction > 0.5 * point.correction)
        finite = jnp.isfinite(correction + speed + jnp.sum(moved) + jnp.sum(change))
        keep = ~finite | (stalled & (correction > point.correction))
        advanced = Point(
            v=curve.advance(v, dz),
            multipliers=point.multipliers + change,
            mismatch=mismatch + (moved - product(data.rows.T, change)),
            progress=further,
            offset=offset,
            range=allowed,
            correction=correction,
            regularization=point.regularization,
            count=point.count + 1,
            done=small & ((correction < smallest_correction) | stalled),
        )
        kept = eqx.tree_at(
            lambda p: (p.count, p.done, p.regularization),
            point,
            (
                point.count + 1,
                finite & advanced.done,
                jnp.where(finite, point.regularization, 10 * point.regularization),
            ),
        )
        return jax.tree.map(lambda a, b: jnp.where(keep, a, b), kept, advanced)

    m, d = data.rows.shape
    number = lambda value: jnp.asarray(value, dtype)  # noqa: E731
    point = Point(
        v=curve.origin,
        multipliers=jnp.zeros(m, dtype),
        mismatch=jnp.zeros(d, dtype),
        progress=number(0),
        offset=number(1),
        range=number(FIRST_RANGE),
        correction=number(1),
        regularization=number(data.rounding),
        count=jnp.asarray(0),
        done=jnp.asarray(False),
    )
    point = jax.lax.while_loop(lambda p: ~p.done & (p.count < max_steps), step, point)
    return point, Quality.of(point, curve, data, size)
