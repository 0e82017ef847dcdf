"""Inputs with derivatives of first order, and losses without second ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddln._numerics import first_order, twice_differentiable


def quotient(x, scale):
    """scale times the largest eigenvalue of [[x, 1], [1, 0]], with a derivative at fixed vectors."""
    x, scale, _ = first_order("quotient", (x, scale, "a leaf that is no array"))
    matrix = jnp.stack([jnp.stack([x, jnp.ones_like(x)]), jnp.asarray([1.0, 0.0])])
    vector = jax.lax.stop_gradient(jnp.linalg.eigh(jax.lax.stop_gradient(matrix))[1][:, -1])
    return scale * vector @ matrix @ vector


def test_first_derivatives_are_kept_and_second_ones_are_refused():
    x = np.linspace(-1, 1, 5)
    found = jax.jit(
        jax.vmap(
            lambda x: (
                quotient(x, 2.0),
                jax.grad(quotient)(x, 2.0),
                jax.jvp(lambda x: quotient(x, 2.0), (x,), (1.0,))[1],
            )
        )
    )(x)
    root = np.sqrt(x**2 + 4)
    np.testing.assert_allclose(found[0], x + root, rtol=1e-14)
    np.testing.assert_allclose(found[1], 1 + x / root, rtol=1e-13)
    np.testing.assert_allclose(found[2], 1 + x / root, rtol=1e-13)
    for outer in (jax.jacfwd, jax.jacrev):
        for inner in (jax.jacfwd, jax.jacrev):
            with pytest.raises(ValueError, match="`quotient` has derivatives of first order only"):
                jax.jit(outer(inner(quotient)))(1.0, 2.0)
    with pytest.raises(ValueError, match="`quotient` has derivatives of first order only"):
        jax.grad(jax.grad(quotient), argnums=1)(1.0, 2.0)
    # Other variables may be differentiated around it.
    nested = jax.grad(lambda a: jax.grad(lambda x: a**2 * quotient(x, 2.0))(1.0))(3.0)
    np.testing.assert_allclose(nested, 6 * (1 + 1 / np.sqrt(5)), rtol=1e-14)


def test_other_type_errors_pass():
    with pytest.raises(TypeError, match="another"), twice_differentiable():
        raise TypeError("another")
    with pytest.raises(ValueError, match="must be twice differentiable"), twice_differentiable():
        raise TypeError("can't apply forward-mode to a custom_vjp function")
