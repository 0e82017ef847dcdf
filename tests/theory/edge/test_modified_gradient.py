"""Modified equations against series in closed form, and their order against the iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

BETA = 0.6


def quadratic(theta):
    """F(w) = |w|^2 / 2, so that phi' = -c w."""
    return jnp.sum(theta**2) / 2


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, BETA])
def test_a_quadratic_has_the_logarithm_of_its_root(momentum, nesterov):
    """A solution z^k of the recursion with z = exp(-eta c): the series of c to order four."""
    etas = np.array([1e-2, 2e-2])
    velocity = jax.jit(
        jax.vmap(
            lambda eta: theory.modified_gradient(
                ddln.Identity(jnp.ones(1)),
                quadratic,
                eta,
                order=4,
                momentum=momentum,
                nesterov=nesterov,
            ).effective()[0]
        )
    )(etas)
    errors = []
    for eta, found in zip(etas, velocity, strict=True):
        shrink = 1 - eta if nesterov else 1
        linear = momentum * shrink + (shrink if nesterov else 1 - eta)
        root = np.roots([1, -linear, momentum * shrink])
        c = -np.log(root.real.max()) / eta
        errors.append(found + c)
    # The error is of order four.
    assert 3.5 < np.log2(errors[1] / errors[0]) < 4.6


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (BETA, False), (BETA, True)])
def test_the_order_is_that_of_the_distance_to_the_iteration(momentum, nesterov):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2, 2)) / 2, rng.normal(size=2)
    loss, start = ddln.LeastSquares(X, y), rng.uniform(0.5, 1, size=4)

    @jax.jit
    def fields(w, eta):
        network = ddln.DeepDiagonal(w.reshape(2, 2))
        return jnp.stack(
            [
                theory.modified_gradient(
                    network, loss, eta, order=order, momentum=momentum, nesterov=nesterov
                ).layers.reshape(-1)
                for order in (2, 3, 4)
            ]
        )

    def gradient(w):
        u, v = w.reshape(2, 2)
        g = X.T @ (X @ (u * v) - y)
        return np.concatenate([g * v, g * u])

    def distance(order, eta):
        def field(t, w):
            return np.asarray(fields(w, eta))[order - 2]

        def path(end):
            return solve_ivp(field, (0, end), start, method="DOP853", rtol=1e-13, atol=1e-14).y[
                :, -1
            ]

        last, w = path(-eta), start
        for _ in range(round(0.4 / eta)):
            move = momentum * (w - last)
            last, w = w, w + move - eta * gradient(w + move if nesterov else w)
        return np.linalg.norm(w - path(0.4))

    for order in (2, 3, 4):
        coarse, fine = (distance(order, eta) for eta in (0.04, 0.02))
        assert abs(np.log2(coarse / fine) - order) < 0.5


def test_effective_step_sizes_hold_to_order_two_and_no_further():
    """Lyu et al. 2024: momentum is gradient descent of step size eta (1 + beta) / (1 - beta)^2, in the time
    t / (1 - beta); for Nesterov's method eta (1 - beta + 2 beta^2) / (1 - beta)^2."""
    eta = 0.01
    network = ddln.DeepDiagonal(np.random.default_rng(0).normal(size=(2, 2)))
    loss = ddln.LeastSquares(np.array([[1.0, 0.5]]), np.array([0.3]))

    @jax.jit
    def velocities(step_size, momentum):
        def velocity(model, loss, order, nesterov):
            settings = {"order": order, "momentum": momentum, "nesterov": nesterov}
            return theory.modified_gradient(model, loss, step_size, **settings)

        each = [velocity(network, loss, 2, nesterov).layers for nesterov in (False, True)]
        return each, velocity(ddln.Identity(jnp.ones(1)), quadratic, 3, False).effective()[0]

    for number, top in enumerate((1 + BETA, 1 - BETA + 2 * BETA**2)):
        moved = velocities(eta, BETA)[0][number] * (1 - BETA)
        plain = velocities(eta * top / (1 - BETA) ** 2, 0.0)[0][0]
        np.testing.assert_allclose(moved, plain, rtol=1e-12)
    alpha = eta * (1 + BETA) / (1 - BETA) ** 2
    missed = velocities(eta, BETA)[1] * (1 - BETA) - velocities(alpha, 0.0)[1]
    np.testing.assert_allclose(missed, -2 * BETA * eta**2 / (3 * (1 - BETA) ** 4), rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 5}, "`order` must be from 1 to 4"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\)"),
        ({"step_size": 0.0}, "`step_size` must be finite and positive"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        theory.modified_gradient(
            ddln.Identity(jnp.ones(1)), quadratic, **{"step_size": 0.1, **settings}
        )
