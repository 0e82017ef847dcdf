"""Newton's method along a path of targets, from the start of a flow to its limit."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import inverse_factor, product
from ddln._types import Array, Bool, Float, Int, PyTree
from ddln.limits._constraints import Constraints
from ddln.potentials import AbstractCurve

# Largest change of log theta in the first step; it adapts afterwards.
FIRST_RANGE = 0.5
# Below this change of log theta a Newton step squares the error to rounding.
CONVERGED = 1e-6


class Point(eqx.Module):
    """A point of the path.

    Attributes:
        v: the coordinates on the curves, shape [d], or a tree of such arrays.
        multipliers: mu, of the constraints A theta = b, shape [m].
        mismatch: xi(v) - A^T multipliers, shape [d]. It is carried, not computed: near the ends of
            its range the distance of xi to them is lost in xi, but not in the sum of its steps.
        progress: the share of the way from A theta_0 to b that the target has made, in [0, 1].
        offset: the progress from which on the steps of the target grow geometrically.
        range: the largest change of log theta by a step along the path.
        correction: the change of log theta by the last undamped Newton correction.
        regularization: of the normal matrix, relative.
        count: steps so far.
        done: True at the limit.
    """

    v: PyTree[Float[Array, " d"]]
    multipliers: Float[Array, " m"]
    mismatch: Float[Array, " d"]
    progress: Float[Array, ""]
    offset: Float[Array, ""]
    range: Float[Array, ""]
    correction: Float[Array, ""]
    regularization: Float[Array, ""]
    count: Int[Array, ""]
    done: Bool[Array, ""]

    @classmethod
    def first(cls, curve: AbstractCurve, data: Constraints) -> "Point":
        """The start of the flow, which solves the problem of the target A theta_0."""
        rows = data.rows
        number = lambda value: jnp.asarray(value, rows.dtype)  # noqa: E731
        return cls(
            v=curve.origin,
            multipliers=jnp.zeros(len(rows), rows.dtype),
            mismatch=jnp.zeros_like(rows[0]),
            progress=number(0),
            offset=number(1),
            range=number(FIRST_RANGE),
            correction=number(1),
            regularization=number(data.rounding),
            count=jnp.asarray(0),
            done=jnp.asarray(False),
        )


class Quality(eqx.Module):
    """Residual of the constraints and duality gap of a point.

    Attributes:
        residual: |X theta - y'|, y' the part of y that can be met, relative to |y| + |X| |theta_0|.
        gap: Q(theta) + Q*(X^T nu) - <y', nu>, relative to sum_i |theta_i xi_i|. With theta and xi(v)
            on the curve, it is <X theta - y', nu> and the divergence of Q* between X^T nu and xi(v),
            which the metric gives for a small mismatch.
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
            _ratio(data.residual(theta), size),
            _ratio(gap, jnp.sum(jnp.abs(theta * xi))),
        )


def _ratio(part: Array, whole: Array) -> Array:
    return part / jnp.where(whole > 0, whole, 1)


class Directions(eqx.Module):
    """Newton correction and tangent of the path, in z and in the multipliers.

    Attributes:
        correct: dz that leads to the solution for the present target, to first order, shape [d].
        along: dz per unit of progress of the target, shape [d].
        multipliers: the changes of the multipliers that belong to both, as columns, shape [m, 2].
        steepness: the change of log theta per unit of z, shape [d].
    """

    correct: Float[Array, " d"]
    along: Float[Array, " d"]
    multipliers: Float[Array, "m 2"]
    steepness: Float[Array, " d"]

    @classmethod
    def of(
        cls, point: Point, curve: AbstractCurve, data: Constraints, origin: Float[Array, " m"]
    ) -> "Directions":
        """Solve the linearized equations for both by one factorization of A M A^T.

        With theta' = M xi' and xi' = A^T mu' - mismatch, the constraints become
        A M A^T mu' = (target - A theta) + A M mismatch; the tangent has the right-hand side b - A theta_0.

        Args:
            point: the point to start from.
            curve: the curves of (theta, xi).
            data: A and b.
            origin: A theta_0.
        """
        v, way = point.v, data.target - origin
        metric = curve.metric(v)
        inverse = inverse_factor(data.normal_matrix(metric, point.regularization))
        # At the end the target itself: a large A theta_0 would leave its rounding.
        target = jnp.where(point.progress >= 1, data.target, origin + point.progress * way)
        missing = target - product(data.rows, curve.at(v))
        sides = jnp.stack([missing + product(data.rows, metric * point.mismatch), way], axis=1)
        solved = product(inverse.T, product(inverse, sides))
        dual = product(data.rows.T, solved)
        # dz = (d theta / d xi) dxi / (d theta / d z), the same for theta and for xi.
        rate = metric / (curve.slope(v) * curve.scale(v))
        return cls(
            rate * (dual[:, 0] - point.mismatch), rate * dual[:, 1], solved, curve.steepness(v)
        )


class Step(eqx.Module):
    """Length of a step, and the numbers that the choice of the next one needs.

    Attributes:
        correction: the change of log theta by the undamped correction.
        speed: the change of log theta per unit of log(progress + offset).
        offset: see `Point.offset`, from this step on.
        range: the largest change of log theta by this step along the path.
        damping: the factor of the correction, in (0, 1].
        pace: the length along the path in log(progress + offset); 0 for a pure correction.
        progress: the progress after the step.
    """

    correction: Float[Array, ""]
    speed: Float[Array, ""]
    offset: Float[Array, ""]
    range: Float[Array, ""]
    damping: Float[Array, ""]
    pace: Float[Array, ""]
    progress: Float[Array, ""]

    @classmethod
    def chosen(cls, point: Point, directions: Directions, reach: float) -> "Step":
        """Choose a step: damp a large correction, and go along the path only after a small one."""
        eps = float(jnp.finfo(point.mismatch.dtype).eps)
        correct, steepness = directions.correct, directions.steepness
        correction = jnp.max(steepness * jnp.abs(correct))
        speed = jnp.max(steepness * jnp.abs(directions.along))

        # The path is followed in log(progress + offset), in which large theta are straight lines.
        first = point.count == 0
        offset = jnp.where(first, FIRST_RANGE / jnp.maximum(speed, eps), point.offset)
        grown = point.progress + offset
        along, speed = grown * directions.along, grown * speed

        # The range adapts to the size of the correction that the last step has made necessary.
        allowed = jnp.where(correction < 0.3, 2 * point.range, point.range)
        allowed = jnp.where(correction > 1, 0.5 * point.range, allowed)
        allowed = jnp.where(first, point.range, jnp.clip(allowed, 1e-3, 64))

        # As far as the end of the path, the range, and what the correction leaves of the reach.
        rest = jnp.log1p((1 - point.progress) / grown)
        room = jnp.maximum(reach - jnp.max(jnp.abs(correct)), 0)
        pace = jnp.minimum(rest, allowed / jnp.maximum(speed, eps))
        pace = jnp.minimum(pace, room / jnp.maximum(jnp.max(jnp.abs(along)), eps))
        pace = jnp.where(correction < 1, pace, 0)
        arrives = pace >= rest * (1 - 4 * eps)
        progress = jnp.where(arrives, 1, point.progress + grown * jnp.expm1(pace))
        damping = 1 / jnp.maximum(correction, 1)
        return cls(correction, speed, offset, allowed, damping, pace, progress)


def take_step(
    point: Point, directions: Directions, step: Step, curve: AbstractCurve, data: Constraints
) -> tuple[Point, Bool[Array, ""]]:
    """The point after the step, and True if all of its numbers are finite."""
    grown = point.progress + step.offset
    dz = step.damping * directions.correct + step.pace * (grown * directions.along)
    correction, tangent = directions.multipliers.T
    change = step.damping * correction + step.pace * grown * tangent
    v, moved = curve.move(point.v, dz)
    following = Point(
        v=v,
        multipliers=point.multipliers + change,
        mismatch=point.mismatch + (moved - product(data.rows.T, change)),
        progress=step.progress,
        offset=step.offset,
        range=step.range,
        correction=step.correction,
        regularization=point.regularization,
        count=point.count + 1,
        done=point.done,
    )
    return following, jnp.isfinite(step.correction + step.speed + jnp.sum(moved) + jnp.sum(change))


def accept(
    point: Point,
    following: Point,
    finite: Bool[Array, ""],
    quality: Quality,
    tolerance: Float[Array, ""],
) -> Point:
    """Accept or reject a step, and decide whether the limit is reached.

    Args:
        point: the point before the step.
        following: the point after it.
        finite: False rejects the step; the next one has ten times the regularization.
        quality: the quality of `point`.
        tolerance: of residual and gap.
    """
    converged = max(CONVERGED, float(jnp.finfo(point.mismatch.dtype).eps) ** (1 / 2))
    correction = following.correction
    small = point.progress >= 1
    small = small & (quality.residual <= tolerance) & (quality.gap <= tolerance)
    # Where the normal matrix is singular to rounding, corrections stop shrinking at its noise.
    stalled = small & (correction > 0.5 * point.correction)
    rejected = ~finite | (stalled & (correction > point.correction))
    kept = jax.tree.map(lambda a, b: jnp.where(rejected, a, b), point, following)
    return eqx.tree_at(
        lambda p: (p.count, p.done, p.regularization),
        kept,
        (
            following.count,
            finite & small & ((correction < converged) | stalled),
            jnp.where(finite, point.regularization, 10 * point.regularization),
        ),
    )


def follow_path(
    curve: AbstractCurve,
    data: Constraints,
    size: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_steps: Int[Array, ""],
) -> tuple[Point, Quality]:
    """Solve xi(v) = A^T mu, A theta(v) = b.

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
    origin = product(data.rows, curve.at(curve.origin))

    def advance(point: Point) -> Point:
        directions = Directions.of(point, curve, data, origin)
        step = Step.chosen(point, directions, curve.reach)
        following, finite = take_step(point, directions, step, curve, data)
        return accept(point, following, finite, Quality.of(point, curve, data, size), tolerance)

    def unfinished(point: Point) -> Bool[Array, ""]:
        return ~point.done & (point.count < max_steps)

    point = jax.lax.while_loop(unfinished, advance, Point.first(curve, data))
    return point, Quality.of(point, curve, data, size)
