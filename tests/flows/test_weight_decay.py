"""Weight decay on w (`_decay`, `_decay_fields`), and the penalty on theta that it amounts to."""

import functools
import itertools

import cvxpy as cp
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import nnls

import ddln

PENALTIES = np.array([0.02, 0.1, 0.5, 2.0])
# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def problem(n=12, d=6):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) / np.sqrt(n)
    y = X @ np.array([2.0, -1.5, 0.0, 0.0, 1.0, 0.0]) + 0.1 * rng.normal(size=n)
    return X, y, ddln.LeastSquares(X, y)


def ends(start, loss, t1=2e4):
    """theta at the ends of the flows with all the penalties."""

    @jax.jit
    @jax.vmap
    def end(penalty):
        flow = ddln.gradient_flow(
            start, loss, t1, weight_decay=penalty, rtol=1e-9, atol=1e-12, throw=False
        )
        return flow.theta[-1], ddln.is_okay(flow.result)

    theta, okay = end(jnp.asarray(PENALTIES))
    assert np.all(okay)
    return np.asarray(theta)


def solve(X, y, penalty):
    """argmin |X theta - y|^2 / 2 + penalty(theta)."""
    theta = cp.Variable(X.shape[1])
    objective = cp.sum_squares(X @ theta - y) / 2 + penalty(theta)
    cp.Problem(cp.Minimize(objective)).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10
    )
    return theta.value


def reference(network, X, y, decay, t1, jumps=()):
    """The layers at t1 by SciPy, piece by piece."""
    shape = network.layers.shape

    def velocity(t, w, piece):
        layers = w.reshape(shape)
        g = network.factor * (X.T @ (X @ (network.factor * layers.prod(0)) - y))
        others = np.stack([np.delete(layers, j, 0).prod(0) for j in range(shape[0])])
        return (-g * others - decay(t, piece) * layers).ravel()

    weights = np.asarray(network.layers).ravel()
    ends = [0.0, *jumps, t1]
    for piece, (a, b) in enumerate(itertools.pairwise(ends)):
        weights = solve_ivp(
            velocity, (a, b), weights, method="DOP853", rtol=1e-12, atol=1e-14, args=(piece,)
        ).y[:, -1]
    return weights.reshape(shape)


JUMPS, VALUES = [0.7, 1.1, 3.0], [0.3, 0.9, 0.0, 5.0]  # the last one at the very end


def cosine(t):
    return 0.2 * (1 + jnp.cos(2 * t))


@pytest.mark.parametrize(
    ("depth", "coordinates", "decay"),
    [
        (3, "reduced", 0.3),
        (2, "reduced", ddln.PiecewiseConstant(JUMPS, VALUES)),
        (3, "full", ddln.PiecewiseConstant(JUMPS, VALUES)),
    ],
)
def test_flow_agrees_with_scipy(depth, coordinates, decay):
    X, y, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(0), depth, 6, scale=0.8)
    network = ddln.DeepDiagonal(network.layers, factor=-0.9)
    flow = ddln.gradient_flow(
        network, loss, 3.0, ts=[1.1, 3.0], weight_decay=decay, rtol=1e-10, atol=1e-13,
        coordinates="auto" if coordinates == "reduced" else coordinates,
    )  # fmt: skip
    if isinstance(decay, float):
        expected, total = reference(network, X, y, lambda t, _: decay, 3.0), 3 * decay
    else:
        expected = reference(network, X, y, lambda t, k: VALUES[k], 3.0, JUMPS[:2])
        total = np.dot(VALUES[:3], np.diff([0, *JUMPS]))
    np.testing.assert_allclose(flow.final.layers, expected, rtol=0, atol=1e-9)
    assert flow.method == f"{coordinates}, Rodas5P"
    # The gaps decay like exp(-2 Lambda): to rounding in reduced coordinates.
    gaps = np.diff(np.square(network.layers), axis=0) * np.exp(-2 * total)
    found = np.diff(np.square(flow.final.layers), axis=0)
    np.testing.assert_allclose(
        found, gaps, rtol=0, atol=2e-14 if coordinates == "reduced" else 1e-9
    )


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_reduced_coordinates_agree_with_the_layers_for_three_schedules(depth):
    """Constant, cosine and switched off within a step, against all layers by SciPy."""
    X, y, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(depth), depth, 6, scale=0.8)

    def end(swing, more):
        return ddln.gradient_flow(
            network, loss, 3.0, rtol=1e-11, atol=1e-14, dual=False, throw=False,
            weight_decay=lambda t: 0.2 * (1 + swing * jnp.cos(2 * t)) + jnp.where(t < 1.1, more, 0),
        )  # fmt: skip

    found = quick_jit(jax.vmap(end))(jnp.asarray([0.0, 1.0, 0.0]), jnp.asarray([0.0, 0.0, 0.4]))
    rates = [
        (lambda t, _: 0.2, (), 0.6),
        (lambda t, _: 0.2 * (1 + np.cos(2 * t)), (), 0.6 + 0.1 * np.sin(6)),
        (lambda t, k: [0.6, 0.2][k], (1.1,), 1.04),
    ]
    for layers, (rate, jumps, total) in zip(
        found.parameterization.layers[:, -1], rates, strict=True
    ):
        expected = reference(network, X, y, rate, 3.0, jumps)
        np.testing.assert_allclose(layers.prod(0), expected.prod(0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(layers, expected, rtol=0, atol=1e-9)
        gaps = np.diff(np.square(network.layers), axis=0) * np.exp(-2 * total)
        np.testing.assert_allclose(np.diff(np.square(layers), axis=0), gaps, rtol=0, atol=1e-9)
    # Steps shrink to the jump, which their samples do not resolve.
    constant, _, jumping = found.stats["num_rejected_steps"]
    assert 5 < jumping - constant < 60


def test_functions_that_jump_within_a_step_in_full_coordinates():
    X, y, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(1), 2, 6)
    flow = ddln.gradient_flow(
        network, loss, 3.0, weight_decay=lambda t: jnp.where(t < 1.234, 0.3, 2.0),
        coordinates="full", rtol=1e-8, atol=1e-11, dual=False,
    )  # fmt: skip
    expected = reference(network, X, y, lambda t, k: [0.3, 2.0][k], 3.0, (1.234,))
    np.testing.assert_allclose(flow.final.layers, expected, rtol=0, atol=1e-7)  # rtol times steps


def test_traced_decays_that_are_no_decays_have_a_code():
    _, _, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(1), 2, 6)

    def startable(rate):
        schedule = ddln.PiecewiseConstant([0.5], jnp.stack([jnp.ones_like(rate), rate]))
        both = []
        for decay in (rate, schedule):
            dynamics = ddln.GradientDynamics(decay)
            both.append(dynamics.startable(dynamics.states(network, loss), loss))
        return both

    for okay, code in jax.vmap(startable)(jnp.asarray([0.1, 0.0, -0.1, jnp.nan, jnp.inf])):
        assert okay.tolist() == [True, True, False, False, False]
        assert np.all((code == ddln.RESULTS.unusable_weight_decay) == ~okay)
    flow = jax.jit(
        lambda rate: ddln.gradient_flow(network, loss, 1.0, weight_decay=rate, throw=False)
    )
    assert flow(-0.1).result == ddln.RESULTS.unusable_weight_decay


def test_derivatives_in_schedules_are_those_of_differences():
    """In values between jumps, and in the scale of the start."""
    _, _, loss = problem(4, 6)
    layers = ddln.DeepDiagonal.random(jax.random.key(4), 3, 6).layers

    def value(numbers):
        network = ddln.DeepDiagonal(layers * numbers[2])
        decay = ddln.PiecewiseConstant([0.5], numbers[:2])
        flow = ddln.gradient_flow(network, loss, 1.0, weight_decay=decay, rtol=1e-8, atol=1e-11)
        return jnp.sum(jnp.sin(flow.theta)) + jnp.sum(flow.final.layers)

    numbers = jnp.asarray([0.4, 0.9, 0.7])
    moved = 1e-4 * jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3), -jnp.eye(3)])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(numbers[None] + moved)
    differences = (values[1:4] - values[4:]) / 2e-4
    # The square of the step, and the tolerance over it.
    np.testing.assert_allclose(slopes[0], differences, rtol=1e-5)

    def of_time(t):
        return ddln.PiecewiseConstant(t[None], [0.1, 0.2])(0.3)

    with pytest.raises(ValueError, match="must not be differentiated"):
        jax.grad(of_time)(0.5)


def test_pairs_of_powers_and_plain_functions_decay_in_reduced_coordinates():
    """theta = u^3 - v^3, with a loss that has no structure, in float32, with an event and dense output."""
    X, y, _ = (np.asarray(a, np.float32) for a in (*problem()[:2], 0))

    def loss(theta):
        return 0.5 * jnp.sum(jnp.square(jnp.asarray(X) @ theta - jnp.asarray(y)))

    u, v = (np.random.default_rng(k).uniform(0.3, 1, 6).astype(np.float32) for k in (0, 1))
    start = ddln.PowerDifference(u, v, 3)
    flow = ddln.gradient_flow(
        start, loss, 2.0, weight_decay=cosine, dense=True, event=ddln.LossBelow(0.0)
    )

    def velocity(t, w):
        g = X.T @ (X @ (w[:6] ** 3 - w[6:] ** 3) - y)
        return (
            np.concatenate([-3 * g * w[:6] ** 2, 3 * g * w[6:] ** 2])
            - 0.2 * (1 + np.cos(2 * t)) * w
        )

    expected = solve_ivp(
        velocity, (0, 2), np.concatenate([u, v]), rtol=1e-9, atol=1e-12, t_eval=[1, 2]
    )
    for t, w in zip((1.0, 2.0), expected.y.T, strict=True):
        at = flow.evaluate(t)
        np.testing.assert_allclose(at.positive, w[:6], rtol=0, atol=2e-5)  # rtol times steps
        np.testing.assert_allclose(at.negative, w[6:], rtol=0, atol=2e-5)
    assert flow.method == "reduced, Rodas5P"
    assert flow.theta.dtype == jnp.float32


def test_two_layers_end_at_the_lasso():
    X, y, loss = problem()
    theta = ends(ddln.DeepDiagonal.random(jax.random.key(1), 2, 6), loss)
    for penalty, end in zip(PENALTIES, theta, strict=True):
        lasso = solve(X, y, lambda theta, p=penalty: p * cp.norm1(theta))
        np.testing.assert_allclose(end, lasso, rtol=0, atol=1e-6)


def test_groups_end_at_the_group_lasso():
    X, y, loss = problem()
    rng = np.random.default_rng(2)
    start = ddln.FromFunction(
        lambda w: (w["gain"][:, None] * w["direction"]).reshape(-1),
        {"gain": jnp.ones(3), "direction": jnp.asarray(rng.normal(size=(3, 2)))},
    )
    theta = ends(start, loss)
    for penalty, end in zip(PENALTIES, theta, strict=True):
        group = solve(
            X, y, lambda theta, p=penalty: p * sum(cp.norm2(theta[i : i + 2]) for i in (0, 2, 4))
        )
        np.testing.assert_allclose(end, group, rtol=0, atol=1e-5)


def test_deep_networks_end_where_the_deep_penalty_is_stationary():
    """0 = grad L + lambda sign(theta) |theta|^(2/L - 1): a minimum of L + (lambda L/2) |theta|^(2/L)."""
    X, y, loss = problem()
    theta = ends(ddln.DeepDiagonal.random(jax.random.key(3), 4, 6), loss)
    gradient = (theta @ X.T - y) @ X
    nonzero = np.abs(theta) > 1e-6
    slope = np.sign(theta) * np.abs(np.where(nonzero, theta, 1)) ** (2 / 4 - 1)
    residual = np.where(nonzero, gradient + PENALTIES[:, None] * slope, 0)
    np.testing.assert_allclose(residual, 0, atol=1e-6)
    assert np.count_nonzero(nonzero[0]) > np.count_nonzero(nonzero[-1])


def test_square_ends_at_nonnegative_least_squares():
    X, y, loss = problem()
    flow = ddln.gradient_flow(ddln.Square(jnp.full(6, 0.5)), loss, 1e6)
    np.testing.assert_allclose(flow.theta[-1], nnls(X, y)[0], rtol=0, atol=1e-5)


def test_bad_arguments():
    _, _, loss = problem()
    network = ddln.DeepDiagonal.random(jax.random.key(0), 2, 6)
    for decay in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="`weight_decay` must be finite and not negative"):
            ddln.gradient_flow(network, loss, 1.0, weight_decay=decay)
    plain = ddln.FromFunction(lambda w: w, jnp.ones(6))
    jumping = ddln.PiecewiseConstant([0.5], [0.1, 0.2])
    for start, settings, message in [
        (plain, {"coordinates": "reduced", "weight_decay": 1.0}, "has no reduced coordinates"),
        (network, {"weight_decay": lambda t: 0.1 if t < 1 else 0.0}, "that can be traced"),
        (network, {"weight_decay": lambda t: jnp.ones(2) * t}, "must map a time to a scalar"),
        (network, {"weight_decay": jumping, "solver": diffrax.Tsit5()}, "a Rosenbrock method"),
    ]:
        with pytest.raises(ValueError, match=message):
            ddln.gradient_flow(start, loss, 1.0, **settings)
    for times, values, message in [
        ([1.0], [1.0], "`values` must have 2 entries"),
        ([2.0, 1.0], [1.0, 2.0, 3.0], "`times` must be positive and increasing"),
        ([0.0], [1.0, 2.0], "`times` must be positive and increasing"),
        ([1.0], [1.0, -2.0], "`values` must be finite and not negative"),
        ([1.0], [1.0, np.nan], "`values` must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            ddln.PiecewiseConstant(times, values)
