"""Recovery by vanishing starts: thresholds of the literature, and the state evolution around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.stats import norm

import ddln
from ddln.asymptotics import recovery_threshold

PLAIN = ddln.DeepDiagonal.zero_last(jnp.ones(1), 2)
SPARSE = ddln.Signal.sparse(0.1)


def by_minimization(weights, signs):
    """The least n/d over tau, for W_+ and W_- of equally likely starts and the probabilities of the signs."""

    def needed(tau):
        x = tau * np.asarray(weights)
        passed = (1 + x**2) * norm.cdf(-x) - x * norm.pdf(x)
        active = np.asarray(signs)[:, None] * (1 + x**2)
        return np.mean(np.sum(active + (1 - sum(signs)) * passed, axis=0))

    return optimize.minimize_scalar(needed, bounds=(1e-3, 20), method="bounded").fun


def test_the_threshold_of_the_l1_norm():
    # Donoho, Maleki and Montanari 2009 in parametric form: n/d and the density, over the threshold z.
    z = np.array([0.05, 0.3, 1.0, 2.0, 4.0])
    ratio = 2 * norm.pdf(z) / (z + 2 * (norm.pdf(z) - z * norm.cdf(-z)))
    density = ratio * (1 - z * norm.cdf(-z) / norm.pdf(z))

    @jax.jit
    @jax.vmap
    def found(density):
        def threshold(density):
            return recovery_threshold(PLAIN, ddln.Signal.sparse(density))

        return threshold(density), jax.grad(threshold)(density), jax.hessian(threshold)(density)

    value, slope, bend = found(jnp.asarray(density))
    np.testing.assert_allclose(value, ratio, rtol=1e-12)
    # d ratio / d density, of the parametric form by differences.
    step = 1e-5
    z = z[:, None] + step * np.arange(-2, 3)
    ratio = 2 * norm.pdf(z) / (z + 2 * (norm.pdf(z) - z * norm.cdf(-z)))
    density = ratio * (1 - z * norm.cdf(-z) / norm.pdf(z))
    change = np.array([1, -8, 0, 8, -1]) / 12
    np.testing.assert_allclose(slope, (ratio @ change) / (density @ change), rtol=1e-7)
    first = np.stack(
        [(ratio[:, k + 1] - ratio[:, k]) / np.diff(density)[:, k] for k in range(4)], 1
    )
    middle = 0.5 * (density[:, 1:] + density[:, :-1])
    expected = (first[:, -1] - first[:, 0]) / (middle[:, -1] - middle[:, 0])
    # Second differences of numbers with 16 digits.
    np.testing.assert_allclose(bend, expected, rtol=1e-3)


def test_weights_and_signs():
    # Random layers have a weight of their own for each coordinate and sign.
    start = ddln.DeepDiagonal.random(jax.random.key(0), 3, 5)
    signal = ddln.Signal([0.0, 1.0, -1.0], [0.0, 0.0, 0.5], [0.8, 0.15, 0.05])
    above = 0.05 * norm.cdf(-2)
    weights = np.asarray(ddln.l1_weights(start))
    expected = by_minimization(weights, (0.15 + above, 0.05 - above))
    np.testing.assert_allclose(recovery_threshold(start, signal), expected, rtol=1e-9)
    likely = jnp.array([0.0, 0.0, 1.0, 0.0, 0.0])
    expected = by_minimization(weights[:, 2:3], (0.15 + above, 0.05 - above))
    np.testing.assert_allclose(
        recovery_threshold(start, signal, weights=likely), expected, rtol=1e-9
    )


def test_starts_that_keep_their_sign():
    positive = ddln.Signal([0.0, 1.0], [0.0, 0.0], [0.8, 0.2])
    expected = by_minimization([[1.0], [100.0]], (0.2, 0.0))
    confined = ddln.Square(jnp.ones(1))
    np.testing.assert_allclose(recovery_threshold(confined, positive), expected, rtol=1e-9)
    assert recovery_threshold(confined, SPARSE) == np.inf


def test_bad_weights():
    start = ddln.DeepDiagonal.zero_last(jnp.ones(2), 2)
    with pytest.raises(ValueError, match="`weights` must have shape"):
        recovery_threshold(start, SPARSE, weights=jnp.ones(3) / 3)
    with pytest.raises(ValueError, match="`weights` must sum to 1"):
        recovery_threshold(start, SPARSE, weights=jnp.ones(2))
    with pytest.raises(ValueError, match="`weights` must be finite and not negative"):
        recovery_threshold(start, SPARSE, weights=jnp.array([1.5, -0.5]))
    many = ddln.Signal([[0.0] * 3], [[1.0] * 3], [[1.0] * 3])
    with pytest.raises(ValueError, match="`signal` must have shape"):
        recovery_threshold(start, many)


def test_linear_programs_of_finite_dimension_change_at_the_threshold():
    rng, dim, runs = np.random.default_rng(0), 300, 8
    edge = float(recovery_threshold(PLAIN, SPARSE))

    def recovered(ratio):
        rows = round(ratio * dim)
        X = rng.normal(size=(rows, dim)) / rows**0.5
        truth = np.where(np.arange(dim) < 0.1 * dim, rng.normal(size=dim), 0)
        found = optimize.linprog(np.ones(2 * dim), A_eq=np.hstack([X, -X]), b_eq=X @ truth)
        return np.allclose(found.x[:dim] - found.x[dim:], truth, atol=1e-6)

    # The width of the transition is of the order of d^(-1/2).
    assert sum(recovered(0.75 * edge) for _ in range(runs)) <= 1
    assert sum(recovered(1.3 * edge) for _ in range(runs)) >= runs - 1
