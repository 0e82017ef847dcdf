"""Momentum flow against SciPy and gradient descent with momentum, and its contract."""

import re

import diffrax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

import ddln

SAMPLES, DIM = 4, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(SAMPLES, DIM))
Y = RNG.normal(size=SAMPLES)
LOSS = ddln.LeastSquares(X, Y, scale=0.5 / SAMPLES)
TIMES = np.array([0.0, 0.3, 4.0, 30.0])
INERTIAS = np.array([0.1, 1.0, 30.0])


def start(depth, seed=1):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], (depth, DIM)) * rng.uniform(0.3, 1.2, (depth, DIM))


def gradients(layers):
    """The gradient in theta, and in each layer."""
    g = X.T @ (X @ np.prod(layers, axis=0) - Y) / SAMPLES
    return g, np.stack(
        [np.prod(np.delete(layers, j, axis=0), axis=0) * g for j in range(len(layers))]
    )


def reference(layers, inertia, alpha=None):
    """Layers, velocities, dual and int k u'^2 by DOP853; alpha for vanishing damping."""
    size = layers.size

    def rates(t, state):
        u, v = state[: 2 * size].reshape(2, *layers.shape)
        g, slopes = gradients(u)
        if alpha is None:
            acceleration, k = -(v + slopes) / inertia, inertia
        else:
            friction = alpha / t * v if t > 0 else 0 * v
            share = 1 if t > 0 else 1 / (1 + alpha)
            acceleration, k = -friction - share * slopes / inertia, t / (alpha - 1)
        kinetic = k * v**2
        return np.concatenate([v, acceleration, kinetic, -k / inertia * g[None]]).reshape(-1)

    state = np.zeros((3 * len(layers) + 1, DIM))
    state[: len(layers)] = layers
    rows = solve_ivp(
        rates, (0, 30), state.reshape(-1), "DOP853", TIMES, rtol=1e-11, atol=1e-13
    ).y.T.reshape(len(TIMES), -1, DIM)
    return np.split(rows, [len(layers), 2 * len(layers), 3 * len(layers)], axis=1)


@pytest.mark.parametrize(
    ("depth", "coordinates", "alpha", "solver"),
    [
        (2, "reduced", None, diffrax.Tsit5()),
        (2, "reduced", 3.0, None),
        (3, "full", None, None),
        (3, "full", 4.0, None),
    ],
)
def test_agrees_with_scipy(depth, coordinates, alpha, solver):
    layers = start(depth)
    damping = None if alpha is None else ddln.VanishingDamping(alpha)

    @jax.jit
    @jax.vmap
    def run(inertia):
        return ddln.momentum_flow(
            ddln.DeepDiagonal(layers),
            LOSS,
            30.0,
            inertia=inertia,
            damping=damping,
            ts=TIMES,
            coordinates=coordinates,
            solver=solver,
            rtol=1e-9,
            atol=1e-11,
            throw=False,
        )

    flows = run(INERTIAS)
    assert ddln.is_okay(flows.result).all()
    for lane, inertia in enumerate(INERTIAS):
        weights, velocities, kinetic, dual = reference(layers, inertia, alpha)
        np.testing.assert_allclose(flows.parameterization.layers[lane], weights, atol=2e-8)
        np.testing.assert_allclose(flows.record.velocity.layers[lane], velocities, atol=2e-8)
        np.testing.assert_allclose(flows.record.kinetic[lane], kinetic, atol=1e-7)
        np.testing.assert_allclose(flows.dual[lane], dual[:, 0], atol=1e-6)
        np.testing.assert_allclose(flows.theta[lane], np.prod(weights, axis=1), atol=2e-8)
    method = "Rodas5P" if alpha is None and solver is None else "Tsit5"
    assert flows.method == f"{coordinates}, {method}"


def test_any_parameterization_and_loss():
    theta = jnp.asarray(start(2)[0])

    def half_square(point):
        return jnp.sum(point**2) / 2

    flow = ddln.momentum_flow(ddln.Identity(theta), half_square, 3.0, inertia=1.0, rtol=1e-8)
    # w'' + w' + w = 0.
    frequency = 3**0.5 / 2
    decay = np.exp(-1.5) * (np.cos(3 * frequency) + np.sin(3 * frequency) / (2 * frequency))
    np.testing.assert_allclose(flow.theta[0], decay * theta, atol=1e-6)
    assert flow.record.kinetic is None
    assert flow.record.pair is None


def heavy_ball(layers, step_size, momentum, first, steps):
    previous, current = layers, layers - first * gradients(layers)[1]
    for _ in range(steps - 1):
        change = momentum * (current - previous) - step_size * gradients(current)[1]
        previous, current = current, current + change
    return current


def test_descent_with_momentum_converges_to_the_flow_with_order_one_and_two():
    layers, inertia, end = start(2), 0.5, 6.0
    flow = ddln.momentum_flow(
        ddln.DeepDiagonal(layers), LOSS, end, inertia=inertia, rtol=1e-10, atol=1e-12,
        solver=diffrax.Tsit5(),
    )  # fmt: skip
    counts = np.array([100, 200, 400, 800])
    for order in (1, 2):
        errors = []
        for steps in counts:
            # The momentum with this inertia and this time per step.
            h = end / steps
            momentum = 1 - h / inertia if order == 1 else (2 * inertia - h) / (2 * inertia + h)
            scaling = ddln.momentum_scaling(h * (1 - momentum), momentum, order=order)
            np.testing.assert_allclose(scaling.inertia, inertia)
            np.testing.assert_allclose(scaling.time_per_step, h)
            step_size = h * (1 - momentum)
            found = heavy_ball(layers, step_size, momentum, float(scaling.first_step), steps)
            errors.append(np.abs(found - flow.final.layers).max())
        slopes = np.diff(np.log(errors)) / np.diff(np.log(counts))
        np.testing.assert_allclose(slopes, -order, atol=0.05)


def test_the_descent_is_that_of_optax():
    layers, step_size, momentum = start(2), 0.1, 0.8
    first = float(ddln.momentum_scaling(step_size, momentum).first_step)
    slopes = gradients(layers)[1]
    optimizer = optax.sgd(step_size, momentum=momentum)
    state = optimizer.init(jnp.asarray(layers))
    trace = optax.tree.set(state, trace=jnp.asarray(-slopes / (1 + momentum)))
    weights = jnp.asarray(layers)
    for _ in range(5):
        update, trace = optimizer.update(jnp.asarray(gradients(np.asarray(weights))[1]), trace)
        weights = weights + update
    expected = heavy_ball(layers, step_size, momentum, first, 5)
    np.testing.assert_allclose(weights, expected, atol=1e-14)


def run_lane(layers, inertia, adjoint=None, **settings):
    return ddln.momentum_flow(
        ddln.DeepDiagonal(layers),
        LOSS,
        2.0,
        inertia=inertia,
        solver=diffrax.Tsit5(),
        adjoint=adjoint,
        throw=False,
        **{"rtol": 1e-9, "atol": 1e-11, "max_steps": 512} | settings,
    )


def test_ties_zeros_tiny_and_bad_starts_as_lanes():
    tied, mixed, tiny = start(2), start(2), 1e-30 * start(2)
    tied[1] = -tied[0]
    mixed[:, 0], mixed[1, 1] = 0.0, 0.0
    bad = np.full((2, DIM), np.nan)
    layers = np.stack([tied, mixed, tiny, bad, start(2), start(2)])
    flows = jax.jit(jax.vmap(run_lane))(layers, np.array([1.0, 1.0, 1.0, 1.0, 1e-6, 1.0]))
    ends = np.asarray(flows.parameterization.layers)[:, 0]
    np.testing.assert_array_equal(ends[0, 0], -ends[0, 1])
    np.testing.assert_array_equal(ends[1, :, 0], 0)
    assert ends[1, 1, 1] != 0
    # A linear flow: lambda w'' + w' +- g w = 0 with the gradient at 0.
    g = -X.T @ Y / SAMPLES
    for sign in (1, -1):
        first = tiny[0] + sign * tiny[1]
        root = np.sqrt(1 - 4 * sign * g + 0j)
        amplitude = (np.cosh(root) + np.sinh(root) / root).real * np.exp(-1)
        np.testing.assert_allclose(ends[2, 0] + sign * ends[2, 1], first * amplitude, rtol=1e-6)
    codes = [ddln.RESULTS.successful] * 3
    codes += [
        ddln.RESULTS.nonfinite_initialization,
        ddln.RESULTS.promote(diffrax.RESULTS.max_steps_reached),
    ]
    for lane, code in enumerate([*codes, ddln.RESULTS.successful]):
        result = jax.tree.map(lambda leaf, i=lane: leaf[i], flows).result
        assert bool(result == code)
    assert np.isnan(flows.theta[3]).all()


def test_derivatives_are_those_of_differences():
    layers, direction = jnp.asarray(start(2)), jnp.asarray(start(2, seed=2))

    def value(u, inertia, adjoint=None):
        settings = {"max_steps": 128, "rtol": 1e-6, "atol": 1e-8, "coordinates": "full"}
        flow = run_lane(u, inertia, adjoint, **settings)
        return jnp.sum(flow.theta[0] * jnp.arange(1.0, DIM + 1))

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))(layers, jnp.asarray(1.0))
    push = jax.jit(
        lambda s: jax.jvp(
            lambda a: value(layers + a * direction, 1 + a, diffrax.ForwardMode()), (s,), (1.0,)
        )
    )
    _, forward = push(0.0)
    difference = (push(1e-4)[0] - push(-1e-4)[0]) / 2e-4
    np.testing.assert_allclose(forward, difference, rtol=1e-3)
    np.testing.assert_allclose(jnp.sum(slopes[0] * direction) + slopes[1], forward, rtol=1e-9)


@pytest.mark.parametrize("depth", [2, 3])
def test_float32_stays_float32_and_exports_for_all_platforms(depth):
    loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))

    def run(layers):
        return ddln.momentum_flow(
            ddln.DeepDiagonal(layers),
            loss,
            2.0,
            inertia=1.0,
            damping=ddln.VanishingDamping(),
            ts=[1.0, 2.0],
            rtol=1e-4,
            throw=False,
        )

    layers = jax.ShapeDtypeStruct((depth, DIM), jnp.float32)
    flow = jax.eval_shape(run, layers)
    for leaf in jax.tree.leaves((flow.theta, flow.loss, flow.dual, flow.record)):
        assert leaf.dtype == jnp.float32
    exported = jax.export.export(jax.jit(lambda u: run(u).theta), platforms=["cpu", "cuda", "tpu"])(
        layers
    )
    assert not re.search(r"custom_call.*callback", exported.mlir_module())


def test_bad_arguments_are_named():
    network = ddln.DeepDiagonal(start(2))

    def call(parameterization=network, **changes):
        return ddln.momentum_flow(parameterization, LOSS, 1.0, **{"inertia": 1.0} | changes)

    for message, arguments in {
        "`inertia` must be finite and positive": {"inertia": -1.0},
        "`inertia` must be finite and positive, but it is 0": {"inertia": 0.0},
        "`coordinates` must be 'full' or 'auto' unless": {
            "parameterization": ddln.DeepDiagonal(start(3)),
            "coordinates": "reduced",
        },
        "`coordinates` must be one of": {"coordinates": "polar"},
        "`max_steps`": {"max_steps": 0},
        "`ts` must lie in": {"ts": [2.0]},
    }.items():
        with pytest.raises(ValueError, match=message):
            call(**arguments)
    with pytest.raises(ValueError, match="`alpha` must be above 1, but it is 1"):
        ddln.VanishingDamping(1.0)
    with pytest.raises(ValueError, match="`momentum` must be at least 0 and below 1"):
        ddln.momentum_scaling(0.1, 1.0)
    with pytest.raises(ValueError, match="`step_size`"):
        ddln.momentum_scaling(-0.1, 0.5)
    with pytest.raises(ValueError, match="`order` must be 1 or 2, but it is 3"):
        ddln.momentum_scaling(0.1, 0.5, order=3)
    frozen = ddln.DeepDiagonal(np.zeros((2, DIM)))
    with pytest.warns(UserWarning, match="have two or more layers at zero"):
        jax.eval_shape(lambda t1: ddln.momentum_flow(frozen, LOSS, t1, inertia=1.0), 1.0)
