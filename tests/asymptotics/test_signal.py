import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln


def test_sparse_signals():
    signal = ddln.Signal.sparse(0.2)
    np.testing.assert_allclose(signal.deviations, [0, 5**0.5])
    np.testing.assert_allclose(signal.energy, 1)


def test_draws_have_the_law():
    signal = ddln.Signal([1.0, -2.0], [0.0, 0.5], [0.75, 0.25])
    drawn = np.asarray(signal.draw(jax.random.key(0), 40_000))
    atom = drawn == 1
    # Four standard errors.
    np.testing.assert_allclose(atom.mean(), 0.75, atol=4 * (0.75 * 0.25 / 40_000) ** 0.5)
    np.testing.assert_allclose(drawn[~atom].mean(), -2, atol=4 * 0.5 / 100)
    np.testing.assert_allclose(drawn[~atom].std(), 0.5, atol=4 * 0.5 / 140)
    np.testing.assert_allclose(signal.energy, 0.75 + 0.25 * 4.25)


def test_probabilities_of_lower_precision():
    # A tenth is no number of float32: the three do not sum to 1 in float64.
    signal = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), ddln.Signal.sparse(0.1))
    start = ddln.DeepDiagonal.zero_last(jnp.ones(1), 2)
    found = ddln.asymptotics.recovery_threshold(start, signal)
    np.testing.assert_allclose(found, 0.328794, atol=2e-6)


def test_mixtures_that_do_not_fit():
    with pytest.raises(ValueError, match="`probabilities` must sum to 1"):
        ddln.Signal([0.0, 1.0], [0.0, 0.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="`probabilities` must be finite and not negative"):
        ddln.Signal([0.0, 1.0], [0.0, 0.0], [1.5, -0.5])
    with pytest.raises(ValueError, match="`deviations` must be finite and not negative"):
        ddln.Signal([0.0], [-1.0], [1.0])
    with pytest.raises(ValueError, match=r"must have one shape \[J\]"):
        ddln.Signal([0.0, 1.0], [0.0], [1.0])
    with pytest.raises(ValueError, match="`means` must not be empty"):
        ddln.Signal(jnp.zeros(0), jnp.zeros(0), jnp.zeros(0))
