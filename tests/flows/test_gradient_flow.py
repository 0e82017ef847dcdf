"""Gradient flow against SciPy's integrators at 1e-12, and its contract."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln

SAMPLES = (3, 5, 8)
DIM = 5
TIMES = np.array([0.1, 1.0, 4.0])


def data(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)) / np.sqrt(n), rng.normal(size=n)


def start(depth, seed=1):
    # Deep products of layers of size about one.
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.4, 1.3, (depth, DIM))


def reference(layers, X, y, times, scale=0.5):
    """theta and the dual by DOP853 on all L * d weights."""
    depth, dim = layers.shape

    def velocity(t, state):
        u = state[: depth * dim].reshape(depth, dim)
        g = 2 * scale * X.T @ (X @ np.prod(u, axis=0) - y)
        others = [np.prod(np.delete(u, j, axis=0), axis=0) for j in range(depth)]
        return np.concatenate([*(-other * g for other in others), -g])

    state = np.concatenate([layers.reshape(-1), np.zeros(dim)])
    solution = solve_ivp(
        velocity, (0, times[-1]), state, "DOP853", times, rtol=1e-12, atol=1e-14
    ).y.T
    weights = solution[:, : depth * dim].reshape(-1, depth, dim)
    return weights, np.prod(weights, axis=1), solution[:, depth * dim :]


def padded(n):
    """The data of n samples and rows of zeros, which change nothing: one shape, and so one program."""
    X, y = data(n)
    return np.pad(X, ((0, 8 - n), (0, 0))), np.pad(y, (0, 8 - n))


# Other tests call with the shapes of the first, second and last row, whose programs are then theirs as well.
@pytest.mark.parametrize(
    ("depth", "coordinates", "cases"),
    [
        (2, "reduced", [data(3)]),
        (3, "reduced", [data(3)]),
        (4, "reduced", [data(5)]),
        (10, "reduced", [padded(n) for n in SAMPLES]),
        (3, "full", [padded(n) for n in SAMPLES]),
    ],
)
def test_agrees_with_scipy(depth, coordinates, cases):
    layers = start(depth)
    for X, y in cases:
        weights, theta, dual = reference(layers, X, y, TIMES)
        flow = ddln.gradient_flow(
            ddln.DeepDiagonal(layers),
            ddln.LeastSquares(X, y),
            TIMES[-1],
            ts=TIMES,
            coordinates=coordinates,
            rtol=1e-8,
            atol=1e-10,
        )
        assert flow.method == f"{coordinates}, Rodas5P"
        np.testing.assert_allclose(flow.theta, theta, atol=2e-6)
        np.testing.assert_allclose(flow.parameterization.layers, weights, atol=2e-6)
        np.testing.assert_allclose(flow.dual, dual, atol=2e-6)
        expected = 0.5 * np.sum((theta @ X.T - y) ** 2, axis=1)
        np.testing.assert_allclose(flow.loss, expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(flow.ts, TIMES)


def test_a_stiff_flow_agrees_with_radau():
    X, y = data(3)
    layers = 3.0 * start(3)
    network = ddln.DeepDiagonal(layers).canonical()
    v0, gaps = np.asarray(network.start), np.asarray(network.gaps)
    sign = np.prod(np.asarray(network.signs), axis=0)

    def velocity(t, v):
        p = sign * np.prod(np.sqrt(v**2 + gaps), axis=0)
        return -p * (X.T @ (X @ (v * p) - y))

    times = np.array([0.01, 0.1, 50.0])
    v = solve_ivp(velocity, (0, 50), v0, "Radau", times, rtol=1e-11, atol=1e-13).y.T[:, None]
    theta = (v * sign * np.prod(np.sqrt(v**2 + gaps), axis=1, keepdims=True))[:, 0]
    flow = ddln.gradient_flow(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), 50.0, ts=times)
    np.testing.assert_allclose(flow.theta, theta, rtol=1e-4, atol=1e-6)
    # An explicit solver would need thousands of steps here.
    assert int(flow.stats["num_steps"]) < 500


def test_conservation_is_exact_to_rounding_in_reduced_coordinates():
    X, y = data(3)
    layers = start(3)
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), 4.0, ts=TIMES, rtol=1e-3, atol=1e-4
    )
    squares = np.asarray(flow.parameterization.layers) ** 2
    drift = (squares - squares[:, :1]) - (layers**2 - layers[:1] ** 2)
    assert np.abs(drift).max() < 1e-14


@pytest.mark.parametrize("scale", [1e-12, 1e-6])
def test_tiny_initializations_are_resolved(scale):
    # Two layers: z_+- = u +- v obey z_+-' = -+ z_+- g, which SciPy integrates in logarithms.
    X, y = data(3)
    layers = scale * start(2)
    plus, minus = layers[0] + layers[1], layers[0] - layers[1]

    def theta(dual):
        return (plus**2 * np.exp(2 * dual) - minus**2 * np.exp(-2 * dual)) / 4

    def velocity(t, dual):
        return -X.T @ (X @ theta(dual) - y)

    times = np.array([10.0, 20.0, 40.0])
    with np.errstate(over="ignore", invalid="ignore"):  # in trial steps
        dual = solve_ivp(
            velocity, (0, 40), np.zeros(DIM), "Radau", times, rtol=1e-12, atol=1e-13
        ).y.T
    flow = ddln.gradient_flow(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), 40.0, ts=times)
    np.testing.assert_allclose(flow.theta, theta(dual), atol=1e-4)
    np.testing.assert_allclose(flow.dual, dual, atol=1e-4)


@pytest.mark.parametrize(
    ("coordinates", "solver"), [("reduced", diffrax.Kvaerno5()), ("full", None)]
)
def test_any_loss_and_any_solver(coordinates, solver):
    """`test_calls_of_one_shape_compile_once` has such a loss in reduced coordinates."""
    X, y = data(8)
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(start(3)),
        lambda theta: 0.5 * jnp.sum((X @ theta - y) ** 2),
        2.0,
        coordinates=coordinates,
        solver=solver,
        rtol=1e-8,
        atol=1e-10,
    )
    expected = reference(start(3), X, y, [2.0])[1]
    np.testing.assert_allclose(flow.theta, expected, atol=1e-6)


def test_a_flow_without_its_dual_takes_the_same_steps():
    for coordinates, loss in (
        ("full", ddln.LeastSquares(*padded(3))),
        ("reduced", ddln.LeastSquares(*data(3))),
    ):
        flows = [
            ddln.gradient_flow(
                ddln.DeepDiagonal(start(3)), loss, 4.0, ts=TIMES, coordinates=coordinates, dual=dual
            )
            for dual in (True, False)
        ]
        assert flows[1].dual is None
        assert flows[1].stats["num_steps"] == flows[0].stats["num_steps"]
        np.testing.assert_allclose(flows[1].theta, flows[0].theta, rtol=1e-12)
    assert ddln.theory.monotone_loss(flows[1], loss).holds
    with pytest.raises(ValueError, match="integrated with `dual=False`"):
        ddln.theory.mirror_identity(flows[1], loss)


def test_logistic_flow_agrees_with_scipy():
    rng = np.random.default_rng(4)
    X, labels = rng.normal(size=(12, DIM)), np.where(rng.random(12) < 0.5, -1.0, 1.0)
    theta0 = rng.normal(size=DIM)

    def velocity(t, theta):
        return X.T @ (labels / (1 + np.exp(labels * (X @ theta))))

    expected = solve_ivp(velocity, (0, 3), theta0, "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    flow = ddln.gradient_flow(ddln.Identity(theta0), ddln.Logistic(X, labels), 3.0, rtol=1e-8)
    np.testing.assert_allclose(flow.theta[-1], expected, atol=1e-6)


def test_dense_output_matches_saved_times():
    X, y = data(3)
    settings = {"rtol": 1e-9, "atol": 1e-11}
    network, loss = ddln.DeepDiagonal(start(3)), ddln.LeastSquares(X, y)
    flow = ddln.gradient_flow(network, loss, 4.0, dense=True, max_steps=500, **settings)
    theta = reference(start(3), X, y, TIMES)[1]
    for t, expected in zip(TIMES, theta, strict=True):
        np.testing.assert_allclose(flow.evaluate(t)(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="Pass `dense=True`"):
        ddln.gradient_flow(network, loss, 4.0, ts=TIMES, **settings).evaluate(1.0)


def test_final_is_the_last_row():
    X, y = data(3)
    flow = ddln.gradient_flow(ddln.DeepDiagonal(start(3)), ddln.LeastSquares(X, y), 4.0, ts=TIMES)
    np.testing.assert_allclose(flow.final(), flow.theta[-1], rtol=1e-14)


def test_two_zero_layers_never_move_and_a_warning_says_so():
    X, y = data(3)
    layers = start(3)
    layers[:2, 1] = 0.0
    with pytest.warns(UserWarning, match=r"Coordinates \[1\] have two or more layers at zero"):
        flow = ddln.gradient_flow(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), 4.0, ts=TIMES)
    np.testing.assert_array_equal(flow.final.layers[:, 1], layers[:, 1])
    assert np.all(flow.final.layers[:, 0] != layers[:, 0])


def test_balanced_start_keeps_signs():
    X, y = data(3)
    theta0 = np.array([1.0, -1.0, 0.5, -0.2, 0.3])
    network = ddln.DeepDiagonal.balanced(jnp.asarray(theta0), 3)
    for ts in np.linspace(1, 100, 51).reshape(17, 3):
        flow = ddln.gradient_flow(network, ddln.LeastSquares(X, y), 100.0, ts=ts)
        assert np.all(np.sign(flow.theta) * np.sign(theta0) >= 0)


def test_one_bad_lane_has_a_code_and_leaves_the_others_as_they_are():
    X, y = data(3)
    loss = ddln.LeastSquares(X, y)
    good = np.stack([start(3, seed) for seed in range(4)])
    bad = good.copy()
    bad[1, 0, 0] = np.nan
    bad[2] *= 1e200

    @jax.jit
    @jax.vmap
    def run(layers):
        return ddln.gradient_flow(ddln.DeepDiagonal(layers), loss, 4.0, ts=TIMES, throw=False)

    clean, mixed = run(jnp.asarray(good)), run(jnp.asarray(bad))
    np.testing.assert_array_equal(ddln.is_okay(mixed.result), [True, False, False, True])
    lane = jax.tree.map(lambda leaf: leaf[1], mixed.result)
    assert lane == ddln.RESULTS.nonfinite_initialization
    lane = jax.tree.map(lambda leaf: leaf[2], mixed.result)
    assert lane == ddln.RESULTS.nonfinite_initial_loss
    np.testing.assert_array_equal(mixed.theta[0], clean.theta[0])
    np.testing.assert_array_equal(mixed.theta[3], clean.theta[3])
    assert np.all(np.isnan(mixed.theta[1:3]))
    assert np.all(np.isinf(mixed.ts[1:3]))


def test_max_steps():
    X, y = data(3)
    network, loss = ddln.DeepDiagonal(start(3)), ddln.LeastSquares(X, y)
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        ddln.gradient_flow(network, loss, 1e3, max_steps=5)
    flow = ddln.gradient_flow(network, loss, 1e3, max_steps=5, throw=False)
    assert flow.result == ddln.RESULTS.max_steps_reached
    # What was reached is kept, with its time.
    assert 0 < flow.ts[0] < 1e3
    assert np.all(np.isfinite(flow.theta))
    rows = ddln.gradient_flow(network, loss, 1e3, ts=[0.0, 1e-6, 1e3], max_steps=5, throw=False)
    np.testing.assert_array_equal(np.isfinite(rows.loss), [True, True, False])


def test_throw_works_inside_jit():
    X, y = data(3)
    loss = ddln.LeastSquares(X, y)

    @eqx.filter_jit
    def run(network):
        return ddln.gradient_flow(network, loss, 1e3, max_steps=5).theta

    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        run(ddln.DeepDiagonal(start(3)))


def test_overflow_names_the_initial_loss():
    X, y = data(3)
    with pytest.raises(RuntimeError, match="not finite at the initialization"):
        ddln.gradient_flow(
            ddln.DeepDiagonal(1e200 * start(3)), ddln.LeastSquares(X, y), 4.0, ts=TIMES
        )


def test_gradients_of_lanes_that_finish_early_are_finite():
    X, y = data(3)
    layers = jnp.stack([jnp.asarray(start(3)) * s for s in (0.1, 1.0, 3.0)])

    def total(layers):
        flow = lambda u: ddln.gradient_flow(  # noqa: E731
            ddln.DeepDiagonal(u), ddln.LeastSquares(X, y), 5.0, ts=[1.0, 5.0], throw=False
        )
        return jnp.sum(jax.vmap(flow)(layers).theta)

    gradient = jax.jit(jax.grad(total))
    alone = jnp.stack([gradient(jnp.stack([lane] * 3))[0] for lane in layers])
    np.testing.assert_allclose(gradient(layers), alone, rtol=1e-8, atol=1e-12)


def test_calls_of_one_shape_compile_once():
    traces = []
    X, y = data(3)

    def loss(theta):
        traces.append(1)
        return jnp.sum((X @ theta - y) ** 2)

    for seed in range(3):
        flow = ddln.gradient_flow(
            ddln.DeepDiagonal(start(3, seed)), loss, 1.0 + seed, rtol=1e-5 * (1 + seed)
        )
        expected = reference(start(3, seed), X, y, [1.0 + seed], scale=1.0)[1]
        np.testing.assert_allclose(flow.theta, expected, atol=1e-3)
        if seed == 0:
            first = len(traces)
    # Each call evaluates the shape of the loss once, and nothing else.
    assert len(traces) - first == 2


def test_float32():
    X, y = data(3)
    network = ddln.DeepDiagonal(jnp.asarray(start(3), jnp.float32))
    loss = ddln.LeastSquares(jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.float32))
    flow = ddln.gradient_flow(network, loss, 4.0, ts=TIMES, rtol=1e-4, atol=1e-6)
    assert {leaf.dtype for leaf in (flow.theta, flow.loss, flow.dual, flow.ts)} == {np.dtype("f4")}
    np.testing.assert_allclose(flow.theta, reference(start(3), X, y, TIMES)[1], atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t1": 0.0}, "`t1` must be finite and positive"),
        ({"t1": -1.0}, "`t1` must be finite and positive"),
        ({"t1": np.inf}, "`t1` must be finite and positive"),
        ({"ts": [1.0, 0.5]}, "`ts` must be increasing"),
        ({"ts": [0.5, 2.0]}, r"`ts` must lie in \[0, t1\] = \[0, 1.0\]"),
        ({"ts": [-0.5, 0.5]}, r"`ts` must lie in"),
        ({"ts": []}, "`ts` must be a list of times"),
        ({"ts": [0.1, np.nan]}, "`ts` must be finite"),
        ({"rtol": 0.0}, "`rtol` must be finite and positive"),
        ({"atol": np.nan}, "`atol` must be finite and positive"),
        ({"max_steps": 0}, "`max_steps` must be at least 1"),
        ({"coordinates": "polar"}, "`coordinates` must be one of 'auto', 'reduced', 'full'"),
        ({"loss": lambda theta: theta}, "`loss` must return a scalar"),
        ({"event": lambda t, p, loss: p()}, "`event` must return a scalar"),
        (
            {"parameterization": ddln.DeepDiagonal(np.ones((2, 3)))},
            r"the effective parameter has shape \(3,\)",
        ),
        (
            {"parameterization": ddln.DeepDiagonal(jnp.ones((2, DIM), jnp.float32))},
            "must have the same dtype, but they have float32 and float64",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    X, y = data(3)
    call = {
        "parameterization": ddln.DeepDiagonal(start(3)),
        "loss": ddln.LeastSquares(X, y),
        "t1": 1.0,
    }
    with pytest.raises(ValueError, match=message):
        ddln.gradient_flow(**(call | arguments))


def test_reduced_coordinates_must_exist():
    identity = ddln.Identity(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="Identity, which has no reduced coordinates"):
        ddln.gradient_flow(identity, jnp.sum, 1.0, coordinates="reduced")


def test_weights_that_are_not_finite():
    network = eqx.tree_at(
        lambda n: n.layers, ddln.DeepDiagonal(start(3)), jnp.full((3, DIM), jnp.nan)
    )
    X, y = data(3)
    with pytest.raises(ValueError, match=r"`parameterization.layers` must be finite"):
        ddln.gradient_flow(network, ddln.LeastSquares(X, y), 1.0)
