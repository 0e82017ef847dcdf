import jax.numpy as jnp
import mpmath as mp
import numpy as np
import potential_references as references
import pytest

from ddln.potentials import smallest_layer


@pytest.mark.parametrize("depth", [2, 3, 6, 20])
def test_smallest_layer_reproduces_theta_at_50_digits(depth):
    rng = np.random.default_rng(depth)
    decades = 12 if depth < 20 else 8
    gaps = references.hard_gaps(rng, depth, 100, decades)
    theta = 10 ** rng.uniform(-40, 40, 100) * rng.choice([-1.0, 1.0], 100)
    v = np.asarray(smallest_layer(jnp.asarray(theta), jnp.asarray(gaps)))
    with mp.workdps(references.DIGITS):
        found = [
            mp.mpf(float(x)) * references.density(x, column)
            for x, column in zip(v, gaps.T, strict=True)
        ]
    # theta changes by up to L times the rounding of v. Without the last step it is twice as much.
    assert references.relative_error(theta, found) < 1.5 * np.finfo(float).eps * depth


def test_ties_zero_and_float32():
    gaps = jnp.array([[0.0, 0.0, 1.0], [0.0, 4.0, 1.0]], jnp.float32)
    v = smallest_layer(jnp.array([-8.0, 1e-10, 0.0], jnp.float32), gaps)
    assert v.dtype == jnp.float32
    # v |v|^2 = -8, and v^2 2 = 1e-10 close to zero.
    np.testing.assert_allclose(v, [-2.0, np.sqrt(0.5e-10), 0.0], rtol=1e-6)
