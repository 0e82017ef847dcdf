"""Derivatives of the state evolution in all of its arrays, in both modes, for starts other than zero."""

import jax
import jax.numpy as jnp
import numpy as np

import ddln

LAYERS = np.random.default_rng(3).normal(size=(3, 2))
PARAMETERS = np.array([*LAYERS.ravel(), 0.4, 0.3, 0.1, 0.0, 1.5, 0.0, 0.8, 0.7, 0.6])


def outcome(p):
    """The error and the l1 norm, of the layers, ratio, noise, penalty, the mixture, and weights."""
    start = ddln.DeepDiagonal(p[:6].reshape(3, 2))
    signal = ddln.Signal(p[9:11], p[11:13], jnp.stack([p[13], 1 - p[13]]))
    weights = jnp.stack([p[14], 1 - p[14]])
    end = ddln.state_evolution(
        start, signal, p[6], p[7], penalty=p[8], weights=weights, throw=False
    )
    return jnp.stack([end.mse, end.l1])


def test_second_derivatives_agree_with_differences():
    # The error of two layers, of both layers at two coordinates, the ratio and the noise.
    def error(p):
        start = ddln.DeepDiagonal(p[:4].reshape(2, 2))
        return ddln.state_evolution(start, ddln.Signal.sparse(0.2), p[4], p[5], throw=False).mse

    @jax.jit
    @jax.vmap
    def derivatives(p, direction):
        return jax.jvp(jax.grad(error), (p,), (direction,))

    point, direction, step = np.array([1.0, 0.7, 0.4, -0.3, 0.4, 0.3]), np.linspace(-1, 1, 6), 1e-3
    points = point + step * np.array([0, -2, -1, 1, 2])[:, None] * direction
    slopes, bend = derivatives(jnp.asarray(points), jnp.tile(direction, (5, 1)))
    expected = np.array([1, -8, 8, -1]) / (12 * step) @ np.asarray(slopes[1:])
    # The residual of the fixed point over the step, and the step to the fourth power.
    np.testing.assert_allclose(bend[0], expected, atol=1e-6, rtol=1e-6)


def test_both_modes_agree_with_differences():
    # An atom has no derivative in its deviation, which enters by its square.
    free = np.delete(np.arange(PARAMETERS.size), 11)
    step = 1e-4
    directions = np.eye(PARAMETERS.size)[free]
    shifts = np.concatenate([k * step * directions for k in (-2, -1, 1, 2)])
    points = jnp.asarray(PARAMETERS + np.concatenate([np.zeros((1, PARAMETERS.size)), shifts]))
    tangent = np.zeros(PARAMETERS.size)
    tangent[free] = np.linspace(-1, 1, free.size)

    # One trace gives the values for differences, the forward mode and, transposed, the reverse mode.
    @jax.jit
    @jax.vmap
    def values_and_derivatives(p):
        value, forward = jax.linearize(outcome, p)
        reverse = jax.linear_transpose(forward, p)
        jacobian = jax.vmap(lambda row: reverse(row)[0])(jnp.eye(2))
        return value, forward(jnp.asarray(tangent)), jacobian

    values, changes, jacobians = map(np.asarray, values_and_derivatives(points))
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    expected = np.tensordot(weights, values[1:].reshape(4, -1, 2), 1).T
    # The residual of the fixed point, 1e-11, over the step.
    np.testing.assert_allclose(jacobians[0][:, free], expected, atol=1e-6, rtol=1e-6)
    # The two modes solve the same linear equations.
    np.testing.assert_allclose(changes[0], jacobians[0] @ tangent, rtol=1e-8)
