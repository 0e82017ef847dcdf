"""Spectra of other maps and losses (`_spectrum`, `_krylov`), their derivatives, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4))
Y = RNG.normal(size=5)
NOT_CONVEX = ddln.GeneralizedLinear(X, Y, lambda z, y: jnp.cos(z - y))
MIXED = ddln.Sum(
    ddln.DeepDiagonal(RNG.normal(size=(2, 4))),
    ddln.PowerDifference(RNG.uniform(0.5, 1, 4), RNG.uniform(0.5, 1, 4), 3),
)
FACTORS = ddln.MatrixFactorization(RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3)))
SENSING = ddln.LeastSquares(RNG.normal(size=(6, 4, 3)), RNG.normal(size=6))


def dense(parameterization, loss):
    """The eigenvalues of the Hessian of L(h(w)), by `jax.hessian` in all weights."""
    flat, unravel = ravel_pytree(parameterization)
    return np.linalg.eigvalsh(jax.hessian(lambda w: loss(unravel(w).effective()))(flat))


@pytest.mark.parametrize(
    ("parameterization", "loss"),
    [(MIXED, NOT_CONVEX), (FACTORS, SENSING)],
    ids=["separable", "dense"],
)
def test_maps_and_losses(parameterization, loss):
    exact = dense(parameterization, loss)
    spectrum = theory.hessian_spectrum(parameterization, loss, 3)
    np.testing.assert_allclose(spectrum.values, [*exact[:3], *exact[-3:]], rtol=1e-11, atol=1e-12)
    assert spectrum.residuals.max() < 1e-11 * np.abs(exact).max()
    shifts = np.array([-100.0, exact[2] - 1e-3, exact[2], 0.1, exact[-1] + 1e-3])
    counts = theory.hessian_inertia(parameterization, loss, shifts)
    np.testing.assert_array_equal(counts.undecided, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(counts.below, np.sum(exact < shifts[:, None] - 1e-7, axis=1))
    assert (exact < -1e-3).any()


def test_ritz_values_bound_the_counts():
    exact = dense(FACTORS, SENSING)
    counts = theory.hessian_inertia(FACTORS, SENSING, np.array([0.5, 20.0]), iterations=12)
    below = np.sum(exact < np.array([[0.5], [20.0]]), axis=1)
    assert (counts.below <= below).all()
    assert (counts.below + counts.undecided >= below).all()
    assert 0 < counts.undecided[0] <= 9
    few = theory.hessian_spectrum(FACTORS, SENSING, iterations=12)
    # The residual bounds the distance to an eigenvalue.
    nearest = np.min(np.abs(exact[:, None] - np.asarray(few.values)), axis=0)
    assert (nearest <= few.residuals + 1e-12).all()
    assert abs(few.values[1] - exact[-1]) < 1e-3 * exact[-1]


def test_derivatives_of_eigenvalues():
    layers = RNG.normal(size=(3, 4))
    direction = RNG.normal(size=(3, 4))
    h = 1e-6

    def values(layers):
        return theory.hessian_spectrum(ddln.DeepDiagonal(layers), NOT_CONVEX).values

    run = jax.jit(
        lambda u: (values(u), jax.jvp(values, (u,), (direction,))[1], jax.jacrev(values)(u))
    )
    _, forward, reverse = run(layers)
    ahead, behind = run(layers + h * direction)[0], run(layers - h * direction)[0]
    np.testing.assert_allclose(forward, (ahead - behind) / (2 * h), rtol=1e-7)
    np.testing.assert_allclose(
        np.sum(np.asarray(reverse) * direction, axis=(1, 2)), forward, rtol=1e-11
    )


def test_float32_and_what_is_not_finite():
    @jax.jit
    def run(layers):
        network = ddln.DeepDiagonal(layers)
        loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))
        return theory.hessian_inertia(network, loss, 0.0), theory.hessian_spectrum(network, loss)

    layers = RNG.normal(size=(3, 4)).astype(np.float32)
    counts, spectrum = run(layers)
    exact = dense(ddln.DeepDiagonal(layers.astype(float)), ddln.LeastSquares(X, Y))
    assert spectrum.values.dtype == np.float32
    np.testing.assert_allclose(spectrum.values, exact[[0, -1]], rtol=1e-5)
    assert counts.below <= np.sum(exact < 0) <= counts.below + counts.undecided
    assert counts.undecided < 3
    counts, spectrum = run(layers * np.float32(np.nan))
    assert (counts.below, counts.undecided) == (0, 12)
    assert np.isnan(spectrum.values).all()


@jax.custom_vjp
def once(theta):
    return jnp.sum(theta**2)


once.defvjp(lambda theta: (once(theta), theta), lambda theta, bar: (2 * bar * theta,))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((MIXED, once), {}, "`loss` must be twice differentiable"),
        ((MIXED, NOT_CONVEX), {"iterations": 0}, "`iterations` must be at least 1"),
        ((MIXED, NOT_CONVEX), {"k": 0}, "`k` must be from 1 to 16"),
        ((FACTORS, SENSING), {"k": 9, "iterations": 8}, "`k` must be from 1 to 8"),
        ((MIXED, NOT_CONVEX), {"tolerance": 0.0}, "`tolerance` must be finite and positive"),
        ((MIXED, NOT_CONVEX), {"shift": 1j}, "`shift` must be a real number"),
    ],
)
def test_bad_arguments_are_refused(arguments, settings, message):
    function = theory.hessian_spectrum if "k" in settings else theory.hessian_inertia
    with pytest.raises(ValueError, match=message):
        function(*arguments, **settings)
