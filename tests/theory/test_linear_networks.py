"""Exact paths of linear networks against SciPy's integration and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ddln import MatrixFactorization
from ddln.theory import linear_network_path, mode_strength

RNG = np.random.default_rng(0)
TS = np.array([0.0, 0.3, 1.0, 4.0, 30.0])


def balanced(m, k, r, rate, scale=0.3):
    """U, V with U^T U - V^T V = rate I."""
    V = scale * RNG.normal(size=(k, r))
    values, vectors = np.linalg.eigh(V.T @ V)
    roots = np.sqrt(np.maximum(values + rate, 0))
    basis = np.linalg.qr(RNG.normal(size=(m, r)))[0]
    return basis @ (roots[:, None] * vectors.T), V


def integrated(U, V, Y):
    """theta at TS by SciPy, tolerance 1e-11."""

    def field(t, w):
        u, v = w[: U.size].reshape(U.shape), w[U.size :].reshape(V.shape)
        g = u @ v.T - Y
        return np.concatenate([-(g @ v).ravel(), -(g.T @ u).ravel()])

    start = np.concatenate([U.ravel(), V.ravel()])
    found = solve_ivp(field, (0, TS[-1]), start, "DOP853", TS, rtol=1e-11, atol=1e-12)
    return np.stack(
        [w[: U.size].reshape(U.shape) @ w[U.size :].reshape(V.shape).T for w in found.y.T]
    )


def test_the_path_is_that_of_scipy_and_has_derivatives():
    Y = RNG.normal(size=(3, 4))
    starts = [balanced(3, 4, 2, rate) for rate in (0.0, 0.5, 2.0)]
    U, V = (jnp.asarray(np.stack(parts)) for parts in zip(*starts, strict=True))

    def path(U, V, Y):
        return linear_network_path(MatrixFactorization(U, V), Y, TS)

    theta = jax.jit(jax.vmap(path, (0, 0, None)))(U, V, jnp.asarray(Y))
    for one, start in zip(theta, starts, strict=True):
        # 1e-11 relative over a path of bounded length.
        np.testing.assert_allclose(one, integrated(*start, Y), atol=1e-9)

    def size(Y):
        return jnp.sum(path(U[1], V[1], Y) ** 2)

    slope, move = jax.grad(size)(jnp.asarray(Y)), jnp.asarray(RNG.normal(size=Y.shape))
    h = 1e-5
    central = (size(Y + h * move) - size(Y - h * move)) / (2 * h)
    np.testing.assert_allclose(jnp.vdot(slope, move), central, rtol=1e-6)
    np.testing.assert_allclose(jax.jvp(size, (jnp.asarray(Y),), (move,))[1], central, rtol=1e-6)


def test_modes_are_the_diagonal_case_at_any_time():
    """Also where exponentials overflow, and for modes learned long after one another."""
    target, start = np.array([2.0, 0.05, 0.0]), np.array([1e-3, 1e-4, 1e-2])
    ts = np.array([0.0, 1.0, 5.0, 90.0, 1000.0])
    printed = start * np.exp(2 * target * ts[:4, None])
    printed = printed * target / (start * np.expm1(2 * target * ts[:4, None]) + target + 1e-300)
    strength = mode_strength(target, start, ts)
    np.testing.assert_allclose(strength[:4, :2], printed[:, :2], rtol=1e-12)
    np.testing.assert_allclose(strength[:, 2], start[2] / (1 + 2 * start[2] * ts), rtol=1e-14)
    root = jnp.diag(jnp.asarray(start) ** 0.5)
    theta = linear_network_path(MatrixFactorization(root, root), jnp.diag(jnp.asarray(target)), ts)
    np.testing.assert_allclose(jnp.diagonal(theta, axis1=1, axis2=2), strength, rtol=1e-10)
    small = linear_network_path(
        MatrixFactorization(root.astype("float32"), root.astype("float32")),
        jnp.diag(jnp.asarray(target, "float32")),
        jnp.asarray(ts, "float32"),
    )
    assert small.dtype == jnp.float32
    np.testing.assert_allclose(small, theta, atol=1e-5)


def test_bad_arguments():
    U, V = RNG.normal(size=(3, 2)), RNG.normal(size=(4, 2))
    Y = RNG.normal(size=(3, 4))
    with pytest.raises(ValueError, match="`start` must be lambda-balanced"):
        linear_network_path(MatrixFactorization(U, V), Y, TS)
    traced = jax.jit(lambda U: linear_network_path(MatrixFactorization(U, V), Y, TS))(U)
    assert np.all(np.isnan(traced))
    with pytest.raises(ValueError, match=r"`target` must have the shape of theta, \(3, 4\)"):
        linear_network_path(MatrixFactorization(U, V), Y.T, TS)
    with pytest.raises(ValueError, match="`start` must have the shape of `target`"):
        mode_strength(np.ones(2), np.ones(3), TS)
    with pytest.raises(ValueError, match="`start`"):
        mode_strength(np.ones(2), np.zeros(2), TS)
