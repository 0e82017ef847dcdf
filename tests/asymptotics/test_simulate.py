import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.asymptotics import simulate


def test_experiments_agree_with_the_state_evolution():
    # Identity: every mean has a closed form, gamma = (1 - alpha)/alpha.
    alpha, sigma, runs = 0.4, 0.5, 200
    signal = ddln.Signal([1.0, -1.0], [0.0, 0.5], [0.75, 0.25])
    found = simulate(
        ddln.Identity(jnp.zeros(1)), signal, alpha, sigma, dim=80, runs=runs, key=jax.random.key(1)
    )
    s2 = (sigma**2 + (1 - alpha) ** 2 / alpha * 1.0625) / (1 - alpha)
    mean, error = found.mean(found.mse)
    # Four standard errors, and an excess of the order of 1/d, as of the inverse of a Wishart matrix.
    assert abs(mean - alpha * (s2 - sigma**2)) < 4 * error + 2 / 80
    overlap, error = found.mean(found.overlap)
    assert abs(overlap - alpha * 1.0625) < 4 * error
    np.testing.assert_allclose(
        found.l2, found.mse + 2 * found.overlap - jnp.mean(found.signal**2, axis=1), rtol=1e-9
    )
    assert error < 0.1 * overlap


def test_experiments_of_a_deep_network_agree():
    start = ddln.DeepDiagonal.zero_last(jnp.ones(1), 3, 0.3)
    found = simulate(start, ddln.Signal.sparse(0.1), 0.2, dim=100, runs=100, key=jax.random.key(2))
    mean, error = found.mean(found.mse)
    # Of the state evolution: 0.4381972211 (see `test_state_evolution.py` for the source).
    assert abs(mean - 0.4381972211) < 3 * error
    assert np.all(ddln.is_okay(found.result))


def test_dimensions_that_do_not_fit():
    start, signal = ddln.Identity(jnp.zeros(1)), ddln.Signal.sparse(0.1)
    with pytest.raises(ValueError, match="`ratio \\* dim` at least 1/2"):
        simulate(start, signal, 0.1, dim=4, runs=2, key=jax.random.key(0))
