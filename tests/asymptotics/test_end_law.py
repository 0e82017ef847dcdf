import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.asymptotics import end_law

SIGNAL = ddln.Signal.sparse(0.1)
START = ddln.DeepDiagonal.zero_last(jnp.ones(1), 2, 0.3)
RATIO, NOISE = 0.25, 0.3


@pytest.fixture(scope="module")
def first():
    return end_law(START, SIGNAL, RATIO, NOISE)


def test_the_law_has_the_moments_of_the_end(first):
    theta, weights = np.asarray(first.start.effective()), np.asarray(first.weights)
    end, truth = first.evolution, first.signal
    # Four nodes a panel, and the points left out.
    assert abs(first.lost) < 1e-4
    np.testing.assert_allclose(weights @ theta**2, end.l2, rtol=1e-3)
    np.testing.assert_allclose(weights @ np.abs(theta), end.l1, rtol=1e-3)
    np.testing.assert_allclose(weights @ (theta * truth.means[0]), end.overlap, rtol=1e-3)
    np.testing.assert_allclose(weights @ truth.energy, 1, rtol=1e-3)
    # The flow keeps the gaps.
    u, v = np.asarray(first.start.layers)
    np.testing.assert_allclose(u**2 - v**2, 0.09, rtol=1e-8)


def test_a_second_training_agrees_with_experiments(first):
    # More data of the same signal, and those of another one, in one program: two components each.
    def halves(leaf):
        return jnp.concatenate([leaf, leaf])

    again = [halves(leaf) for leaf in (first.signal.means, first.signal.deviations)]
    again.append(0.5 * halves(first.signal.probabilities))
    other = [
        jnp.broadcast_to(leaf[:, None], (2, len(first.weights)))
        for leaf in (SIGNAL.means, SIGNAL.deviations, SIGNAL.probabilities)
    ]

    @jax.jit
    @jax.vmap
    def predicted(means, deviations, probabilities):
        signal = ddln.Signal(means, deviations, probabilities)
        end = ddln.state_evolution(
            first.start, signal, RATIO, NOISE, weights=first.weights, throw=False
        )
        return end.mse

    more, fresh = predicted(*map(jnp.stack, zip(again, other, strict=True)))
    dim, runs = 200, 30
    rows = round(RATIO * dim)

    @jax.jit
    @jax.vmap
    def measured(key):
        keys = jax.random.split(key, 5)
        truth, other = SIGNAL.draw(keys[0], dim), SIGNAL.draw(keys[1], dim)
        start = ddln.DeepDiagonal.zero_last(jnp.ones(dim), 2, 0.3)

        def task(start, step):
            key, truth = step
            parts = jax.random.split(key)
            X = jax.random.normal(parts[0], (rows, dim)) / rows**0.5
            y = X @ truth + NOISE * jax.random.normal(parts[1], (rows,))
            end = ddln.limit(start, ddln.LeastSquares(X, y), throw=False)
            return end.parameterization, jnp.mean(jnp.square(end.theta - truth))

        def tasks(key, goal):
            steps = jnp.stack([keys[2], key]), jnp.stack([truth, goal])
            return jax.lax.scan(task, start, steps)[1][1]

        return jax.vmap(tasks)(keys[3:], jnp.stack([truth, other]))

    errors = np.asarray(measured(jax.random.split(jax.random.key(0), runs)))
    standard = errors.std(axis=0, ddof=1) / runs**0.5
    # Three standard errors, and an excess of the order of 1/d.
    assert np.all(np.abs(errors.mean(axis=0) - np.array([more, fresh])) < 3 * standard + 2 / dim)
    # More data help, and another signal does not.
    assert more < 0.9 * first.evolution.mse < fresh


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="`size` must be at least 1"):
        end_law(START, SIGNAL, RATIO, size=0)
