"""Dual coordinates and their inverses (`_dual_coordinate`, `_quadrature`) against mpmath at 50 digits."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import potential_references as references
import pytest
from scipy.special import gamma

from ddln.potentials import dual, dual_tail, primal, primal_from_tail, smallest_layer

# Most tests call programs of the same shapes; mpmath has the first lanes.
COUNT = 400


def _lanes(rng, depth, decades=8.0, farthest=6, closest=-9, count=COUNT):
    gaps = references.hard_gaps(rng, depth, count, decades)
    low = np.sqrt(gaps[0])
    signs = rng.choice([-1.0, 1.0], (2, count))
    start = signs[0] * low * 10 ** rng.uniform(-3, 2, count) * (rng.uniform(size=count) > 0.2)
    end = signs[1] * low * 10 ** rng.uniform(-3, farthest, count)
    close = (rng.uniform(size=count) < 0.3) & (start != 0)
    end = np.where(close, start * (1 + 10 ** rng.uniform(closest, -1, count)), end)
    return start, end, gaps


@pytest.mark.parametrize("depth", [2, 3, 6, 20])
def test_smallest_layer_reproduces_theta_at_50_digits(depth):
    rng = np.random.default_rng(depth)
    decades = 12 if depth < 20 else 8
    gaps = references.hard_gaps(rng, depth, 100, decades)
    theta = 10 ** rng.uniform(-40, 40, 100) * rng.choice([-1.0, 1.0], 100)
    v = np.asarray(smallest_layer(jnp.asarray(theta), jnp.asarray(gaps)))
    with mp.workdps(references.DIGITS):
        found = [
            mp.mpf(float(x)) * references.rho(x, column)
            for x, column in zip(v, gaps.T, strict=True)
        ]
    # theta changes by up to L times the rounding of v. Without the last step it is twice as much.
    assert references.relative_error(theta, found) < 1.5 * np.finfo(float).eps * depth


def test_smallest_layer_at_ties_at_zero_and_in_float32():
    gaps = jnp.array([[0.0, 0.0, 1.0], [0.0, 4.0, 1.0]], jnp.float32)
    v = smallest_layer(jnp.array([-8.0, 1e-10, 0.0], jnp.float32), gaps)
    assert v.dtype == jnp.float32
    # v |v|^2 = -8, and v^2 2 = 1e-10 close to zero.
    np.testing.assert_allclose(v, [-2.0, np.sqrt(0.5e-10), 0.0], rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 6, 20])
def test_dual_matches_mpmath_to_1e_12(depth):
    """Across zero, near the start, and up to 1e8 times the smallest root; roots over 12 decades.

    The largest error found is 7e-15.
    """
    start, end, gaps = _lanes(np.random.default_rng(depth), depth, 12.0, farthest=8)
    values = np.asarray(dual(jnp.asarray(start), jnp.asarray(end), jnp.asarray(gaps)))[:40]
    lanes = list(zip(start, end, gaps.T, strict=True))[:40]
    expected = [references.integral(*lane) for lane in lanes]
    assert references.relative_error(values, expected) < 1e-13
    assert references.relative_error(values * (1 + 2e-13), expected) > 1e-13


@pytest.mark.parametrize("depth", [2, 3, 20])
def test_dual_matches_mpmath_to_1e_5_in_float32(depth):
    decades = 12.0 if depth < 20 else 3.0
    rng = np.random.default_rng(depth)
    lanes = _lanes(rng, depth, decades, farthest=6, closest=-3, count=40)
    start, end, gaps = (x.astype(np.float32) for x in lanes)
    values = dual(jnp.asarray(start), jnp.asarray(end), jnp.asarray(gaps))
    assert values.dtype == jnp.float32
    expected = [references.integral(*lane) for lane in zip(start, end, gaps.T, strict=True)]
    assert references.relative_error(np.asarray(values), expected) < 1e-5


@pytest.mark.parametrize("depth", [3, 6, 20])
def test_the_distance_to_the_end_matches_mpmath(depth):
    _, end, gaps = _lanes(np.random.default_rng(depth), depth, 12.0, farthest=8)
    values = np.asarray(dual_tail(jnp.asarray(end), jnp.asarray(gaps)))[:30]
    lanes = list(zip(end, gaps.T, strict=True))[:30]
    expected = [references.integral(v, np.inf, lane) for v, lane in lanes]
    assert references.relative_error(values, expected) < 1e-13


@pytest.mark.parametrize("depth", [2, 3, 6, 20])
def test_primal_inverts_dual_relative_to_the_nearer_end(depth):
    decades = 12.0 if depth < 20 else 6.0
    start, end, gaps = (
        jnp.asarray(x) for x in _lanes(np.random.default_rng(depth), depth, decades)
    )
    xi = dual(start, end, gaps)
    found = primal(start, xi, gaps)
    # What the error of v is worth in xi, against xi, and the rounding of v itself.
    missing = jnp.abs(dual(end, found, gaps))
    rounding = 4 * jnp.finfo(float).eps * jnp.abs(end)
    rho = jnp.prod(jnp.sqrt(end[None] ** 2 + gaps), axis=0)
    rounded_away = jnp.isinf(found)
    assert jnp.all((missing <= 1e-12 * jnp.abs(xi) + rounding / rho) | rounded_away)
    # Only where xi, as a number, is the end of the range itself.
    reach = dual_tail(jnp.sign(xi) * start, gaps)
    assert jnp.all(jnp.abs(xi)[rounded_away] >= reach[rounded_away] * (1 - 1e-15))


@pytest.mark.parametrize("depth", [3, 6, 20])
def test_primal_from_tail_inverts_the_tail_to_1e_12(depth):
    _, end, gaps = (jnp.asarray(x) for x in _lanes(np.random.default_rng(depth), depth))
    end = jnp.abs(end) * 10.0 ** jnp.linspace(0, 8, COUNT)
    distance = dual_tail(end, gaps)
    found = primal_from_tail(distance, gaps)
    assert jnp.all(jnp.abs(dual_tail(found, gaps) / distance - 1) < 1e-12)
    # v itself: a power of the distance with an exponent of at most one in absolute value there.
    np.testing.assert_allclose(found, end, rtol=1e-11)


def test_beyond_the_ends_theta_is_infinite():
    gaps = jnp.array([[1.0, 1.0], [2.0, 2.0]])
    zero = jnp.zeros(2)
    reach = dual_tail(zero, gaps)
    assert jnp.array_equal(
        primal(zero, jnp.array([1.1, -1.1]) * reach, gaps) * 0, jnp.nan * zero, True
    )
    assert jnp.all(primal_from_tail(2.1 * reach, gaps) == -jnp.inf)


@pytest.mark.parametrize("depth", [3, 4, 6, 10])
def test_the_range_of_equal_gaps_is_a_ratio_of_gammas(depth):
    # int_0^inf dr (1 + r^2)^(-(L-1)/2) = (sqrt(pi)/2) Gamma((L-2)/2) / Gamma((L-1)/2).
    tail = dual_tail(jnp.zeros(1), jnp.ones((depth - 1, 1)))
    expected = np.sqrt(np.pi) / 2 * gamma((depth - 2) / 2) / gamma((depth - 1) / 2)
    np.testing.assert_allclose(tail, expected, rtol=1e-14)


def test_two_layers_have_no_end():
    assert jnp.all(jnp.isinf(dual_tail(jnp.zeros(3), jnp.ones((1, 3)))))


def test_ties_are_never_crossed():
    gaps = jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    start = jnp.array([1.0, -2.0, 0.5])
    assert jnp.all(dual(start, -start, gaps) == -jnp.sign(start) * jnp.inf)
    assert jnp.all(jnp.isinf(dual_tail(-jnp.abs(start), gaps)))
    xi = -jnp.sign(start) * jnp.array([50.0, 3.0, 20.0])
    v = primal(start, xi, gaps)
    assert jnp.all(v * start > 0)
    np.testing.assert_allclose(dual(start, v, gaps), xi, rtol=1e-13)
    # L = 3 with both gaps zero: 1/v_0 - 1/v = xi.
    np.testing.assert_allclose(v[0], 1 / (1 + 50), rtol=1e-13)


def test_tiny_and_large_scales_of_twenty_layers_stay_in_range():
    for scale in (1e-12, 1e4):
        gaps = jnp.full((19, 1), scale**2)
        unit = dual(jnp.zeros(1), jnp.ones(1), jnp.ones((19, 1)))
        value = dual(jnp.zeros(1), jnp.full(1, scale), gaps)
        np.testing.assert_allclose(value / scale**-18.0, unit, rtol=1e-11)
        assert jnp.isfinite(primal(jnp.zeros(1), value, gaps)).all()


@pytest.mark.parametrize("function", [dual, dual_tail, primal, primal_from_tail])
def test_derivatives_match_finite_differences_twice(function):
    # Ordinary, at the start, at zero, and with equal gaps.
    gaps = jnp.array([[0.4, 0.3, 1.0, 0.5], [0.9, 0.6, 2.0, 0.5], [1.5, 4.0, 2.5, 0.5]])
    start = jnp.array([0.3, -0.5, 0.0, 0.7])
    if function is dual:
        arguments = (start, jnp.array([1.2, -0.5, 0.0, -0.4]), gaps)
    elif function is primal:
        arguments = (start, jnp.array([0.5, 0.0, 0.02, -0.7]), gaps)
    elif function is dual_tail:
        arguments = (start, gaps)
    else:
        arguments = (jnp.array([0.5, 0.2, 0.4, 0.9]), gaps)
    rng = np.random.default_rng(0)
    directions = tuple(jnp.asarray(rng.normal(size=x.shape)) for x in arguments)

    def total(*x):
        return jnp.sum(jnp.sin(function(*x)) + function(*x))

    def slope(*x):
        gradients = jax.grad(total, argnums=tuple(range(len(arguments))))(*x)
        return sum(jnp.sum(g * d) for g, d in zip(gradients, directions, strict=True))

    step = 1e-6
    ahead, behind = (
        tuple(x + s * step * d for x, d in zip(arguments, directions, strict=True)) for s in (1, -1)
    )

    @jax.jit
    def along(*x):
        return jax.jvp(total, x, directions), jax.jvp(slope, x, directions)

    (_, forward), (reverse, second) = along(*arguments)
    first_fd, second_fd = (
        (a - b) / (2 * step) for (a, _), (b, _) in zip(along(*ahead), along(*behind), strict=True)
    )
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)
    np.testing.assert_allclose(forward, first_fd, rtol=1e-6)
    np.testing.assert_allclose(second, second_fd, rtol=1e-6)


def test_gap_derivative_matches_mpmath():
    gaps = np.array([1e-8, 3.0, 1e6])
    values = jax.grad(lambda g: dual(jnp.zeros(1), jnp.ones(1), g[:, None])[0])(jnp.asarray(gaps))
    expected = [-references.integral(0.0, 1.0, [*gaps, gap, gap]) / mp.mpf(2) for gap in gaps]
    assert references.relative_error(np.asarray(values), expected) < 1e-12


def test_gap_derivatives_of_two_layers_match_mpmath():
    """On one side of zero, across it, from it and far beyond the gap; first and second derivatives."""
    starts = jnp.array([0.3, -0.5, 0.0, 1e4, 2.0, -1e-9])
    ends = jnp.array([1.2, 0.7, 1.0, 1e4 + 1, 2.0 + 1e-6, 1e-9])
    gaps = jnp.array([0.4, 1e-6, 3.0, 0.5, 1e-8, 2.0])

    def slopes(gaps):
        return jax.grad(lambda g: jnp.sum(dual(starts, ends, g[None])))(gaps)

    first, second = jax.jvp(slopes, (gaps,), (jnp.ones_like(gaps),))
    points = list(zip(np.asarray(starts), np.asarray(ends), np.asarray(gaps), strict=True))
    expected = [-references.integral(a, b, [g] * 3) / mp.mpf(2) for a, b, g in points]
    assert references.relative_error(np.asarray(first), expected) < 1e-12
    expected = [references.integral(a, b, [g] * 5) * mp.mpf(3) / 4 for a, b, g in points]
    assert references.relative_error(np.asarray(second), expected) < 1e-9
