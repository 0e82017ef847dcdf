import jax.numpy as jnp
import numpy as np
import potential_references as references
import pytest
from scipy.special import elliprf

from ddln.potentials._quadrature import folded_integral


def _hard_paths(rng, depth, decades):
    gaps = references.hard_gaps(rng, depth, 8, decades)
    low, high = np.sqrt(gaps[0]), np.sqrt(gaps[-1])
    start = np.array([0, 0, 0.7, 2, 1, 0, 1e-3, 0.5]) * np.where(np.arange(8) == 2, high, low)
    end = np.array([0.3, 1e8, 3, np.inf, 1 + 1e-9, np.inf, 1e3, 2])
    return start, end * np.where(np.arange(8) == 2, high, low), gaps


@pytest.mark.parametrize("depth", [3, 4, 6, 20])
def test_integrals_match_mpmath_to_1e_12(depth):
    rng = np.random.default_rng(depth)
    for decades in (1, 12):
        start, end, gaps = _hard_paths(rng, depth, decades)
        values = folded_integral(*(jnp.asarray(x) for x in (start, start, end, gaps)))
        expected = [references.integral(*lane) for lane in zip(start, end, gaps.T, strict=True)]
        assert references.relative_error(np.asarray(values), expected) < 1e-12
        # The reference itself is precise enough to see an error of this size.
        assert references.relative_error(np.asarray(values) * (1 + 3e-12), expected) > 1e-12


@pytest.mark.parametrize("depth", [3, 6])
def test_integrals_match_mpmath_to_1e_5_in_float32(depth):
    rng = np.random.default_rng(depth)
    start, end, gaps = (x.astype(np.float32) for x in _hard_paths(rng, depth, 6))
    lanes = end > start * np.float32(1 + 1e-6)
    start, end, gaps = start[lanes], end[lanes], gaps[:, lanes]
    values = folded_integral(*(jnp.asarray(x) for x in (start, start, end, gaps)))
    assert values.dtype == jnp.float32
    expected = [references.integral(*lane) for lane in zip(start, end, gaps.T, strict=True)]
    assert references.relative_error(np.asarray(values), expected) < 1e-5


def test_tails_are_carlson_integrals():
    # L = 3: R_F(a^2, a^2 + A, a^2 + B); L = 4 at a = 0: R_F(1/A, 1/B, 1/C) / sqrt(ABC).
    rng = np.random.default_rng(0)
    a, gaps = rng.exponential(size=200), np.exp(rng.normal(size=(3, 200), scale=6))
    squares = a**2
    expected = elliprf(squares, squares + gaps[0], squares + gaps[1])
    inf, zero = jnp.full(200, jnp.inf), jnp.zeros(200)
    values = folded_integral(jnp.asarray(a), jnp.asarray(a), inf, jnp.asarray(gaps[:2]))
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    expected = elliprf(*(1 / gaps)) / np.sqrt(gaps.prod(axis=0))
    values = folded_integral(zero, zero, inf, jnp.asarray(gaps))
    np.testing.assert_allclose(values, expected, rtol=1e-13)


def test_the_part_below_the_fold_counts_twice():
    gaps = jnp.asarray(references.hard_gaps(np.random.default_rng(1), 4, 50, 8))
    zero, a, b = jnp.zeros(50), jnp.linspace(1e-3, 5, 50), jnp.linspace(6, 1e4, 50)
    twice = folded_integral(zero, a, b, gaps)
    parts = folded_integral(zero, zero, a, gaps), folded_integral(zero, zero, b, gaps)
    np.testing.assert_allclose(twice, parts[0] + parts[1], rtol=2e-14)


@pytest.mark.parametrize("count", [5, 19])
def test_steep_integrands_match_mpmath(count):
    # Far above all roots but one the integrand falls as r^-(count - 1) in log r.
    gaps = np.array([1e-12] * (count - 1) + [1e6])
    start = np.array([1.0, 30.0, 700.0])
    lanes = jnp.asarray(start), jnp.asarray(start), jnp.full(3, jnp.inf)
    values = folded_integral(*lanes, jnp.broadcast_to(gaps[:, None], (count, 3)))
    expected = [references.integral(a, np.inf, gaps) for a in start]
    assert references.relative_error(np.asarray(values), expected) < 1e-13
