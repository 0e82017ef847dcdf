"""The pieces of Newton's path (`_path`, `_constraints`), each on cases with known answers."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.limits._constraints import Constraints
from ddln.limits._path import (
    CONVERGED,
    FIRST_RANGE,
    Directions,
    Point,
    Quality,
    Step,
    accept,
    follow_path,
    take_step,
)
from ddln.potentials import DeepDiagonalPotential, QuadraticPotential, potential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6))
Y = RNG.normal(size=3)
START = RNG.normal(size=6)
DATA = Constraints.of(jnp.asarray(X), jnp.asarray(Y))
LINE = QuadraticPotential(START)
TOLERANCE = jnp.asarray(1e-9)
YES, NO = jnp.asarray(True), jnp.asarray(False)


def network():
    q = potential(ddln.DeepDiagonal(RNG.normal(size=(3, 6)), -0.7))
    assert isinstance(q, DeepDiagonalPotential)
    return q


def directions(point, curve):
    return Directions.of(point, curve, DATA, DATA.rows @ curve.at(curve.origin))


def with_values(point, **values):
    names = list(values)
    arrays = [jnp.asarray(values[name], getattr(point, name).dtype) for name in names]
    return eqx.tree_at(lambda p: [getattr(p, name) for name in names], point, arrays)


def quality(residual=0.0, gap=0.0):
    return Quality(jnp.asarray(residual), jnp.asarray(gap))


def test_constraints_have_the_solutions_of_the_normal_equations():
    rows = np.asarray(DATA.rows)
    np.testing.assert_allclose(rows @ rows.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rows @ np.linalg.lstsq(X, Y)[0], DATA.target, rtol=1e-12)


def test_dependent_rows_are_zero_and_leave_a_definite_normal_matrix():
    twice = np.concatenate([X[:2], X[:1]])
    data = Constraints.of(jnp.asarray(twice), jnp.asarray([1.0, 2.0, 3.0]))
    assert data.empty.tolist() == [False, False, True]
    assert not np.any(np.asarray(data.rows)[2])
    matrix = data.normal_matrix(jnp.ones(6), jnp.asarray(0.5))
    np.testing.assert_allclose(matrix, np.diag([1.5, 1.5, 1.0]), atol=1e-14)


def test_directions_of_a_line_lead_to_the_nearest_solution():
    found = directions(Point.first(LINE, DATA), LINE)
    nearest = np.linalg.pinv(X) @ (Y - X @ START)
    np.testing.assert_allclose(found.correct, 0, atol=1e-13)
    np.testing.assert_allclose(found.along, nearest, rtol=1e-12)
    moved = with_values(Point.first(LINE, DATA), progress=1.0)
    np.testing.assert_allclose(directions(moved, LINE).correct, nearest, rtol=1e-12)


def test_directions_of_a_network_solve_the_linearized_equations():
    curve = network()
    point = with_values(
        Point.first(curve, DATA), progress=0.4, mismatch=0.1 * RNG.normal(size=6), multipliers=Y
    )
    found = directions(point, curve)
    step = 1e-6
    v = [curve.advance(point.v, sign * step * found.correct) for sign in (1, -1)]
    theta, xi = ((np.asarray(f(v[0]) - f(v[1])) / (2 * step)) for f in (curve.at, curve.dual))
    target = 0.6 * DATA.rows @ curve.start + 0.4 * DATA.target
    np.testing.assert_allclose(
        DATA.rows @ theta, target - DATA.rows @ curve.at(point.v), rtol=1e-6, atol=1e-8
    )
    change = DATA.rows.T @ found.multipliers[:, 0]
    np.testing.assert_allclose(xi, change - point.mismatch, rtol=1e-6, atol=1e-8)


def chosen(point, correct, along, steepness=1.0, reach=np.inf):
    dz = [jnp.full(6, value) for value in (correct, along)]
    found = Directions(dz[0], dz[1], jnp.zeros((3, 2)), jnp.full(6, steepness))
    return Step.chosen(point, found, reach)


def test_the_first_step_changes_log_theta_by_the_first_range():
    step = chosen(Point.first(LINE, DATA), 0.0, 20.0, steepness=2.0)
    # At speed 40 the offset is FIRST_RANGE / 40, so that log theta changes by the range per e-fold.
    np.testing.assert_allclose(step.offset, FIRST_RANGE / 40)
    np.testing.assert_allclose(step.pace, 1.0)
    np.testing.assert_allclose(step.progress, step.offset * np.expm1(1.0))
    assert float(step.damping) == 1


@pytest.mark.parametrize(
    ("correction", "allowed"), [(0.1, 2.0), (0.5, 1.0), (3.0, 0.5), (1e9, 0.5)]
)
def test_the_range_follows_the_correction(correction, allowed):
    point = with_values(Point.first(LINE, DATA), count=5, progress=0.2, offset=0.1, range=1.0)
    step = chosen(point, correction, 40.0)
    assert float(step.range) == allowed
    assert float(step.damping) == min(1.0, 1 / correction)
    # After a large correction there is none along the path.
    assert (float(step.pace) == 0) == (correction >= 1)
    assert (float(step.progress) == 0.2) == (correction >= 1)


def test_a_step_stays_within_reach_and_ends_at_the_target():
    point = with_values(Point.first(LINE, DATA), count=5, progress=0.2, offset=0.1, range=8.0)
    step = chosen(point, 0.25, 40.0, reach=1.0)
    np.testing.assert_allclose(step.pace * 0.3 * 40.0, 0.75)
    assert float(chosen(point, 0.0, 1.0).progress) == 1


def test_a_step_carries_the_mismatch():
    curve = network()
    point = Point.first(curve, DATA)
    for _ in range(3):
        found = directions(point, curve)
        step = Step.chosen(point, found, curve.reach)
        point, finite = take_step(point, found, step, curve, DATA)
        assert bool(finite)
        computed = curve.dual(point.v) - DATA.rows.T @ point.multipliers
        np.testing.assert_allclose(point.mismatch, computed, atol=1e-12)
    assert int(point.count) == 3
    bad = eqx.tree_at(lambda d: d.correct, found, found.correct.at[1].set(jnp.nan))
    assert not bool(take_step(point, bad, step, curve, DATA)[1])


def test_a_step_with_infinite_numbers_is_rejected_and_regularized():
    point = with_values(Point.first(LINE, DATA), progress=1.0, regularization=1e-12)
    following = with_values(point, v=START + 1, correction=0.0, count=1)
    after = accept(point, following, NO, quality(), TOLERANCE)
    np.testing.assert_array_equal(after.v, point.v)
    np.testing.assert_allclose(after.regularization, 1e-11)
    assert int(after.count) == 1
    assert not bool(after.done)


@pytest.mark.parametrize(
    ("progress", "before", "correction", "residual", "moved", "done"),
    [
        (1.0, 1e-2, CONVERGED / 2, 0.0, True, True),
        (1.0, 1e-2, 1e-3, 0.0, True, False),  # corrections still shrink
        (0.5, 1e-2, CONVERGED / 2, 0.0, True, False),  # the target still moves
        (1.0, 1e-2, CONVERGED / 2, 1e-8, True, False),  # the residual is too large
        (1.0, 1e-2, 8e-3, 0.0, True, True),  # stalled
        (1.0, 1e-2, 2e-2, 0.0, False, True),  # stalled, and worse than before
    ],
)
def test_the_end_is_a_small_or_a_stalled_correction(
    progress, before, correction, residual, moved, done
):
    point = with_values(Point.first(LINE, DATA), progress=progress, correction=before)
    following = with_values(point, v=START + 1, correction=correction, count=1)
    after = accept(point, following, YES, quality(residual), TOLERANCE)
    assert bool(jnp.all(after.v == START + 1)) == moved
    assert bool(after.done) == done
    np.testing.assert_array_equal(after.regularization, point.regularization)


def test_the_path_of_a_line_ends_at_the_nearest_solution():
    size = jnp.asarray(np.linalg.norm(Y))
    point, found = follow_path(LINE, DATA, size, TOLERANCE, jnp.asarray(100))
    assert bool(point.done)
    assert max(float(found.residual), float(found.gap)) < 1e-12
    nearest = START + np.linalg.pinv(X) @ (Y - X @ START)
    np.testing.assert_allclose(point.v, nearest, rtol=1e-12)
    few, _ = follow_path(LINE, DATA, size, TOLERANCE, jnp.asarray(1))
    assert (int(few.count), bool(few.done)) == (1, False)


def test_steps_along_a_line_stay_on_the_path():
    point = Point.first(LINE, DATA)
    for _ in range(3):
        found = directions(point, LINE)
        step = Step.chosen(point, found, LINE.reach)
        point, _ = take_step(point, found, step, LINE, DATA)
        # The equations are linear: each solves them exactly for its target.
        np.testing.assert_allclose(point.mismatch, 0, atol=1e-13)
        target = (1 - point.progress) * (DATA.rows @ START) + point.progress * DATA.target
        np.testing.assert_allclose(DATA.rows @ point.v, target, rtol=1e-12)


def test_many_rows_are_factorized_by_triangles_unless_they_depend():
    rng = np.random.default_rng(1)
    X, y, metric = rng.normal(size=(130, 150)), rng.normal(size=130), rng.uniform(0.1, 2.0, 150)
    dependent = np.concatenate([X[:-1], X[:1] + X[1:2]])
    for design, rank in ((X, 130), (dependent, 129)):
        data = Constraints.of(jnp.asarray(design), jnp.asarray(y))
        rows = np.asarray(data.rows)
        assert np.sum(~np.asarray(data.empty)) == rank
        np.testing.assert_allclose(rows @ rows.T, np.diag(~np.asarray(data.empty)), atol=1e-13)
        np.testing.assert_allclose(data.factor @ rows, design, atol=1e-12)
        np.testing.assert_allclose(data.multiplier.T @ design, rows, atol=1e-11)
        np.testing.assert_allclose(data.norm, np.linalg.norm(design, 2), rtol=0.05)
        nearest = np.linalg.pinv(design, rcond=1e-12) @ y
        np.testing.assert_allclose(data.residual(jnp.asarray(nearest)), 0, atol=1e-10)
        matrix = data.normal_matrix(jnp.asarray(metric), jnp.asarray(0.0))
        expected = (rows * metric) @ rows.T + np.diag(np.asarray(data.empty, float))
        np.testing.assert_allclose(matrix, expected, atol=1e-13)
