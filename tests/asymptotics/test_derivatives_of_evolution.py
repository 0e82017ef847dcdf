"""Derivatives of the state evolution in all of its arrays, in both modes, for starts other than zero."""

import jax
import jax.numpy as jnp
import numpy as np

import ddln

RNG = np.random.default_rng(3)
LAYERS = RNG.normal(size=(3, 2))
PARAMETERS = np.array([*LAYERS.ravel(), 0.4, 0.3, 0.1, 0.0, 1.5, 0.0, 0.8, 0.7, 0.6])
# Random directions: a wrong derivative in any parameter shows in each.
DIRECTIONS = RNG.normal(size=(3, PARAMETERS.size))
# An atom has no derivative in its deviation, which enters by its square.
DIRECTIONS[:, 11] = 0


def outcome(p):
    """The error and the l1 norm together, of the layers, ratio, noise, penalty, the mixture, and weights."""
    start = ddln.DeepDiagonal(p[:6].reshape(3, 2))
    signal = ddln.Signal(p[9:11], p[11:13], jnp.stack([p[13], 1 - p[13]]))
    weights = jnp.stack([p[14], 1 - p[14]])
    end = ddln.state_evolution(
        start, signal, p[6], p[7], penalty=p[8], weights=weights, throw=False
    )
    return end.mse + end.l1


def test_both_modes_agree_with_differences():
    step = 1e-4
    shifts = np.concatenate([k * step * DIRECTIONS for k in (-2, -1, 1, 2)])

    @jax.jit
    @jax.vmap
    def value_and_derivatives(p, tangent):
        value, change = jax.jvp(outcome, (p,), (tangent,))
        return value, change, jax.grad(outcome)(p)

    tangents = jnp.asarray(np.tile(DIRECTIONS, (5, 1)))
    points = jnp.asarray(PARAMETERS + np.concatenate([0 * DIRECTIONS, shifts]))
    values, changes, gradients = map(np.asarray, value_and_derivatives(points, tangents))
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    expected = weights @ values[3:].reshape(4, 3)
    # The residual of the fixed point, 1e-11, over the step.
    np.testing.assert_allclose(changes[:3], expected, atol=1e-6, rtol=1e-6)
    # The two modes solve the same linear equations.
    np.testing.assert_allclose(changes, np.sum(gradients * tangents, axis=1), rtol=1e-8)
