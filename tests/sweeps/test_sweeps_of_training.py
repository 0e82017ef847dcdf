"""Descents and stochastic flows in one sweep each, against single runs; the grid has the other dynamics."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ddln

RNG = np.random.default_rng(8)
X = RNG.normal(size=(4, 6)) / 2
LOSS = ddln.LeastSquares(X, RNG.normal(size=4))
NETWORK = ddln.DeepDiagonal(RNG.normal(size=(2, 6)))
KEY = jax.random.key(3)


def test_descents_over_step_sizes_and_seeds():
    """Six runs: three step sizes, of which the last diverges, and two seeds."""
    rates = jnp.asarray([0.01, 0.05, 100.0])

    def run(index):
        key = jax.random.fold_in(KEY, index // 3)
        optimizer = optax.sgd(rates[index % 3])
        return ddln.descend(
            NETWORK, LOSS, optimizer, 40, key=key, batch_size=2, ts=[20, 40], throw=False
        )

    result = ddln.sweep_runs(run, 6, chunk_size=4, progress=False)
    np.testing.assert_array_equal(result.okay, [True, True, False] * 2)
    assert list(result.failures()) == [ddln.RESULTS[ddln.RESULTS.diverged]]
    alone = run(jnp.asarray(4))
    np.testing.assert_allclose(result.theta[4], alone.theta, rtol=1e-10)
    assert not np.allclose(result.theta[1], result.theta[4])


def test_stochastic_flows():
    def run(index):
        return ddln.stochastic_flow(
            NETWORK,
            LOSS,
            1.0,
            key=jax.random.fold_in(KEY, index),
            noise=ddln.SampleNoise(),
            step_size=0.05,
            steps=20,
            throw=False,
        )

    result = ddln.sweep_runs(run, 2, progress=False)
    assert result.okay.all()
    alone = run(jnp.asarray(1))
    np.testing.assert_allclose(result.theta[1], alone.theta, rtol=1e-7)
    assert not np.allclose(result.theta[0], result.theta[1])
