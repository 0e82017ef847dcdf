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


def test_both_modes_agree_with_differences():
    # An atom has no derivative in its deviation, which enters by its square.
    free = np.delete(np.arange(PARAMETERS.size), 11)
    step = 1e-4
    directions = np.eye(PARAMETERS.size)[free]
    shifts = np.concatenate([k * step * directions for k in (-2, -1, 1, 2)])
    values = jax.jit(jax.vmap(outcome))(jnp.asarray(PARAMETERS + shifts)).reshape(4, -1, 2)
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    expected = np.tensordot(weights, np.asarray(values), 1).T

    @jax.jit
    def derivatives(p, tangent):
        change = jax.jvp(outcome, (p,), (tangent,))[1]
        return change, jax.jacrev(outcome)(p)

    tangent = np.zeros(PARAMETERS.size)
    tangent[free] = np.linspace(-1, 1, free.size)
    change, jacobian = derivatives(jnp.asarray(PARAMETERS), jnp.asarray(tangent))
    # The residual of the fixed point, 1e-11, over the step.
    np.testing.assert_allclose(np.asarray(jacobian)[:, free], expected, atol=1e-6, rtol=1e-6)
    # The two modes solve the same linear equations.
    np.testing.assert_allclose(change, np.asarray(jacobian) @ tangent, rtol=1e-8)
