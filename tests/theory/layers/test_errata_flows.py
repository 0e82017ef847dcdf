"""Printed formulas of the sources that are wrong, and the corrected ones, on flows by SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp
from theory_cases import Case, problem, trajectory

from ddln import DeepDiagonal, LeastSquares
from ddln.parameterizations import AbstractParameterization
from ddln.theory import squared_layer_rate

TS = np.linspace(0.05, 20, 100)


def crossing_case():
    """A start with a smallest layer that changes sign at the first coordinate."""
    X, y = problem(np.random.default_rng(1), "square")
    layers = np.array([[-0.1, 0.2, 0.3, -0.1, 0.2], [0.8] * 5, [1.0] * 5])
    return Case(X, y, layers)


def test_squared_layers_change_at_twice_the_printed_rate():
    """Labarrière et al. 2024, equation 4: d/dt (u^j)^2 = -2 theta grad L, printed without the 2."""
    case = crossing_case()
    flow, loss = trajectory(case, TS), LeastSquares(case.X, case.y)
    both = eqx.filter_jit(
        lambda flow, loss: [squared_layer_rate(flow, loss, constant=c) for c in (2.0, 1.0)]
    )
    assert [check.status for check in both(flow, loss)] == ["holds", "violated"]


def test_theta_from_the_smallest_layer_needs_its_sign():
    """The display after equation 6: theta = sign(prod_{j>1} v^j_0) v^1 prod_{j>1} sqrt(v1^2 + gap).

    As printed, with sqrt(v1^2) = |v^1| and the sign of theta_0, theta cannot change its sign.
    """
    case = crossing_case()
    flow = trajectory(case, TS)
    network = DeepDiagonal(case.layers).canonical()
    (layers,) = jax.tree.leaves(flow.parameterization)
    v = jnp.take_along_axis(layers, network.permutation[None, :1], axis=1)
    v = v[:, 0]
    others = jnp.prod(jnp.sqrt(v[:, None] ** 2 + network.gaps[None]), axis=1)
    printed = jnp.sign(flow.initial.effective())[None] * jnp.abs(v) * others
    assert np.sign(flow.theta[-1, 0]) != np.sign(flow.initial.effective()[0])
    np.testing.assert_allclose(jax.vmap(network.effective)(v), flow.theta, atol=1e-10)
    assert jnp.max(jnp.abs(printed - flow.theta)) > 0.5


class PowerMap(AbstractParameterization):
    """theta = u^L."""

    weights: jax.Array
    depth: int = eqx.field(static=True)

    def effective(self):
        return self.weights**self.depth


def test_rate_of_the_power_map():
    """The slides print w' = -L w^(L-1) grad L for w = u^L; it is -L^2 w^(2-2/L) grad L."""
    depth = 3
    X, y = problem(np.random.default_rng(2), "overdetermined")
    loss = LeastSquares(X, y)
    start = np.array([0.9, 0.5, 1.1, 0.7, 0.3])

    def gradient(theta):
        return X.T @ (X @ theta - y)

    def solve(field, x0):
        return solve_ivp(lambda t, x: field(x), (0, 2), x0, "DOP853", rtol=1e-11, atol=1e-13).y[
            :, -1
        ]

    weights = solve(lambda u: -depth * u ** (depth - 1) * gradient(u**depth), start)
    corrected = solve(lambda w: -(depth**2) * w ** (2 - 2 / depth) * gradient(w), start**depth)
    printed = solve(lambda w: -depth * w ** (depth - 1) * gradient(w), start**depth)
    np.testing.assert_allclose(corrected, weights**depth, atol=1e-8)
    assert np.max(np.abs(printed - weights**depth)) > 0.05
    # The library's metric says the same.
    velocity = -PowerMap(jnp.asarray(start), depth).metric_product(
        loss.gradient(jnp.asarray(start**depth))
    )
    expected = -(depth**2) * (start**depth) ** (2 - 2 / depth) * gradient(start**depth)
    np.testing.assert_allclose(velocity, expected, rtol=1e-12)
