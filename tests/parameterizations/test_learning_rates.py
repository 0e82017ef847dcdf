"""A learning rate for each leaf, against a flow with these rates by SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

DIRECTION = np.array([1.0, -2.0, 0.5])
RATES = (0.2, 3.0)


def test_flow_with_rates():
    start = ddln.LearningRates(ddln.WeightNorm(1.5, DIRECTION), RATES)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    flow = ddln.gradient_flow(start, ddln.LeastSquares(X, y), 0.5, rtol=1e-9, atol=1e-11)

    def velocity(t, w):
        gain, v = w[0], w[1:]
        norm = np.linalg.norm(v)
        g = X.T @ (X @ (gain * v / norm) - y)
        along = g @ v / norm
        slopes = np.concatenate([[along], gain / norm * (g - along * v / norm)])
        return -np.repeat(RATES, [1, 3]) * slopes

    w = np.append(1.5, DIRECTION)
    expected = solve_ivp(velocity, (0, 0.5), w, rtol=1e-10, atol=1e-12).y[:, -1]
    final = flow.final.parameterization
    np.testing.assert_allclose(final.gain, expected[0], rtol=1e-7)
    np.testing.assert_allclose(final.direction, expected[1:], rtol=1e-7)
    # |v| is conserved whatever the rates.
    np.testing.assert_allclose(
        jnp.linalg.norm(final.direction), np.linalg.norm(DIRECTION), rtol=1e-8
    )
    assert theory.tangent_kernel_rate(flow, ddln.LeastSquares(X, y)).status != "violated"


def test_numerical_potential_with_rates():
    """theta = u v with rates 4 and 1 is mirror flow, here from the closed form with u / 2 scaled."""
    w = {"u": np.array([1.0, 0.5]), "v": np.array([0.3, -0.8])}
    start = ddln.LearningRates(
        ddln.FromFunction(lambda w: w["u"] * w["v"], w), {"u": 4.0, "v": 1.0}
    )
    plain = ddln.DeepDiagonal([w["u"] / 2, w["v"]], factor=2.0)
    xi = jnp.array([0.2, -0.1])
    np.testing.assert_allclose(
        ddln.potential(start).inverse_mirror_map(xi),
        ddln.potential(plain).inverse_mirror_map(xi),
        rtol=1e-9,
    )


def test_a_rate_for_each_layer_and_a_schedule_for_all():
    """Three layers with rates of their own, all times a schedule, with decoupled decay, by SciPy."""
    rng = np.random.default_rng(1)
    layers, rates = rng.uniform(0.3, 1.2, (3, 4)), np.array([0.2, 1.0, 3.0])
    X, y, decay = rng.normal(size=(3, 4)), rng.normal(size=3), 0.1

    def schedule(t):
        return 0.5 * (1 + jnp.cos(t))

    def velocity(t, u):
        u = u.reshape(3, 4)
        g = X.T @ (X @ np.prod(u, axis=0) - y)
        others = np.stack([np.prod(np.delete(u, j, axis=0), axis=0) for j in range(3)])
        change = -rates[:, None] * g * others - decay * u
        return 0.5 * (1 + np.cos(t)) * change.ravel()

    ts = np.array([0.5, 1.0, 2.0])
    found = solve_ivp(velocity, (0, 2), layers.ravel(), t_eval=ts, rtol=1e-11, atol=1e-13)
    expected = np.prod(found.y.T.reshape(3, 3, 4), axis=1)
    times = ddln.integrated_decay(schedule, ts)
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(layers).with_learning_rates(rates),
        ddln.LeastSquares(X, y, scale=0.5),
        times[-1],
        ts=times,
        weight_decay=decay,
        rtol=1e-9,
        atol=1e-12,
    )
    np.testing.assert_allclose(flow.theta, expected, rtol=1e-7, atol=1e-9)
    assert flow.method.startswith("reduced")


@pytest.mark.parametrize("rates", [[1.0, 2.0], [1.0, 0.0, 1.0], [1.0, 1.0, np.inf]])
def test_bad_rates_of_layers(rates):
    with pytest.raises(ValueError, match="`rates` must be 3 positive numbers, one for each layer"):
        ddln.DeepDiagonal(np.ones((3, 2))).with_learning_rates(rates)


def test_structure_is_that_of_the_map():
    square = ddln.LearningRates(ddln.Square(DIRECTION), 0.5)
    assert square.separable
    assert square.homogeneity == 2
    np.testing.assert_allclose(square.metric_diagonal(), 0.5 * DIRECTION**2, rtol=1e-12)
    np.testing.assert_allclose(square(), DIRECTION**2 / 2, rtol=1e-12)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((1.0, 2.0, 3.0), r"each of the 2 leaves .gain, .direction, but it has 3"),
        ((1.0, 0.0), "that of .direction is 0.0"),
    ],
)
def test_bad_rates(rates, message):
    with pytest.raises(ValueError, match=message):
        ddln.LearningRates(ddln.WeightNorm(1.5, DIRECTION), rates)
    with pytest.raises(ValueError, match="`parameterization` must be a parameterization"):
        ddln.LearningRates(DIRECTION, 1.0)  # pyright: ignore[reportArgumentType]
