import jax.numpy as jnp
import mpmath as mp
import numpy as np
import potential_references as references
import pytest

from ddln.potentials._divergence import divergence

_RATIOS = [1e-9, -1e-9, 1e-6, 1e-3, 0.1, -0.3, 0.6, 1, 3, 30, -0.9, -1.5, -4, 1e3, 1e6, -1]


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_divergence_matches_mpmath_however_close_the_points(depth):
    rng = np.random.default_rng(depth)
    gaps = references.hard_gaps(rng, depth, 16, 4)
    reference = rng.normal(size=16) * np.sqrt(gaps[0]) * 3
    v = reference * (1 + np.array(_RATIOS))
    theta = v * np.prod(np.sqrt(v**2 + gaps), axis=0)
    values = divergence(*(jnp.asarray(x) for x in (theta, reference, gaps)))
    assert jnp.all(values > 0)
    for value, *lane in zip(values.tolist(), theta, reference, gaps.T, strict=True):
        expected, amplification = references.divergence(*lane)
        assert abs(float(mp.mpf(value) / expected - 1)) < 2e-14 * (1 + amplification)


def test_divergence_of_a_point_from_itself_is_zero_for_dyadic_values():
    gaps = jnp.array([[0.0, 12.0, 5.0], [0.0, 12.0, 5.0]])
    reference = jnp.array([2.0, -2.0, 0.0])
    theta = reference * (reference**2 + gaps[0])
    assert jnp.array_equal(divergence(theta, reference, gaps), jnp.zeros(3))


def test_divergence_at_the_end_of_a_tie_is_its_limit():
    gaps = jnp.zeros((2, 1))
    value = divergence(jnp.zeros(1), jnp.array([-3.0]), gaps)
    near = divergence(jnp.array([-1e-60]), jnp.array([-3.0]), gaps)
    np.testing.assert_allclose(value, 4.5)
    np.testing.assert_allclose(near, 4.5, rtol=1e-12)


def test_divergence_is_not_negative_at_the_distance_of_rounding():
    rng = np.random.default_rng(7)
    gaps = references.hard_gaps(rng, 4, 500, 4)
    reference = rng.normal(size=500) * np.sqrt(gaps[0]) * 10
    theta = reference * np.prod(np.sqrt(reference**2 + gaps), axis=0)
    theta *= 1 + rng.integers(-3, 4, 500) * np.finfo(float).eps
    values = divergence(*(jnp.asarray(x) for x in (theta, reference, gaps)))
    assert jnp.all(values >= 0)
    # Its natural size is v^2 times the square of the relative distance.
    assert jnp.all(values <= jnp.square(reference) * (10 * np.finfo(float).eps) ** 2)
