"""Descent in discrete time against loops in NumPy, and its contract."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from precision import inner_programs

import ddln
from ddln._numerics import tracing_for

# Here the time to compile counts, not the time to run.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SAMPLES, DIM, STEPS = 4, 6, 250


def problem(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(SAMPLES, DIM)) / np.sqrt(SAMPLES)
    return X, X[:, 0] - X[:, 1], rng.normal(size=(3, DIM)) * 0.5


X, Y, LAYERS = problem()
LOSS = ddln.LeastSquares(X, Y)


def slopes(layers, g):
    """The gradient of the layers, from that in theta."""
    return np.stack([g * np.prod(np.delete(layers, j, axis=0), axis=0) for j in range(len(layers))])


class Plain:
    """w - rate * gradient, with momentum and a schedule."""

    def __init__(self, rate, momentum=0.0):
        self.rate = rate if callable(rate) else lambda k: rate
        self.momentum, self.trace = momentum, 0.0

    def __call__(self, k, gradient):
        self.trace = gradient + self.momentum * self.trace
        return -self.rate(k) * self.trace


class Adam:
    def __init__(self, rate):
        self.rate, self.mean, self.square = rate, 0.0, 0.0

    def __call__(self, k, gradient):
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        mean, square = self.mean / (1 - 0.9 ** (k + 1)), self.square / (1 - 0.999 ** (k + 1))
        return -self.rate * mean / (np.sqrt(square) + 1e-8)


def by_numpy(make, layers=LAYERS, steps=STEPS):
    """Layers and dual after each step, as long as they are finite, shapes [K, ...]."""
    step, dual_step, dual = make(), make(), np.zeros(DIM)
    path = [(layers, dual)]
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(steps):
            g = X.T @ (X @ np.prod(layers, axis=0) - Y)
            layers, dual = layers + step(k, slopes(layers, g)), dual + dual_step(k, g)
            residual = X @ np.prod(layers, axis=0) - Y
            if not np.isfinite([*layers.ravel(), residual @ residual]).all():
                break
            path.append((layers, dual))
    return tuple(np.stack(rows) for rows in zip(*path, strict=True))


def halving(k):
    return 0.2 * 0.5 ** (k / 100.0)


def traced_halving(k):
    return 0.2 * 0.5 ** (k.astype(float) / 100.0)


OPTIMIZERS = {
    "gradient steps": (optax.sgd(0.2), lambda: Plain(0.2)),
    "momentum": (optax.sgd(0.05, momentum=0.9), lambda: Plain(0.05, 0.9)),
    "schedule": (optax.sgd(traced_halving), lambda: Plain(halving)),
    "Adam": (optax.adam(0.01), lambda: Adam(0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_a_loop_in_numpy(name):
    optimizer, make = OPTIMIZERS[name]
    ts = [0, 1, 2, 2, 50, 249, 250]
    # Adam multiplies a float by an integer.
    with jax.numpy_dtype_promotion("standard"):
        run = ddln.descend(ddln.DeepDiagonal(LAYERS), LOSS, optimizer, STEPS, ts=ts)
    layers, dual = by_numpy(make)
    np.testing.assert_array_equal(run.ts, ts)
    np.testing.assert_allclose(run.parameterization.layers, layers[ts], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(run.theta, np.prod(layers[ts], axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(run.dual, dual[ts], rtol=1e-9, atol=1e-12)
    residual = np.prod(layers[ts], axis=1) @ X.T - Y
    np.testing.assert_allclose(run.loss, 0.5 * np.sum(residual**2, axis=1), rtol=1e-8, atol=1e-15)
    assert run.result == ddln.RESULTS.successful
    assert int(run.stats["num_steps"]) == STEPS


def test_any_map_and_any_loss():
    """A matrix theta = U V^T, whose weights are two leaves, and a loss that is a function."""
    rng = np.random.default_rng(1)
    left, right, target = rng.normal(size=(3, 2)), rng.normal(size=(2, 2)), rng.normal(size=(3, 2))
    run = ddln.descend(
        ddln.MatrixFactorization(left, right),
        lambda theta: jnp.sum((theta - target) ** 2),
        optax.sgd(0.02),
        300,
    )
    dual = np.zeros_like(target)
    for _ in range(300):
        g = 2 * (left @ right.T - target)
        left, right, dual = left - 0.02 * g @ right, right - 0.02 * g.T @ left, dual - 0.02 * g
    np.testing.assert_allclose(run.theta[-1], left @ right.T, atol=1e-12)
    np.testing.assert_allclose(run.dual[-1], dual, atol=1e-12)


RATES = np.array([0.01, 0.1, 0.5, 3.0, 30.0])
LAST = {"nothing": {}, "loss": {"event": ddln.LossBelow(1e-3)}}


def run_at(rate, **settings):
    network = ddln.DeepDiagonal(LAYERS)
    return ddln.descend(network, LOSS, optax.sgd(rate), STEPS, throw=False, **settings)


@pytest.mark.parametrize("what", LAST)
def test_lanes_end_alone_keep_their_last_iterate_and_have_derivatives(what):
    """Three step sizes that work, two that diverge; the first two of them with a loss that is reached."""
    settings = LAST[what]

    def end(rate):
        run = run_at(rate, **settings)
        return jnp.sum(run.theta[-1] ** 2), run

    values = quick_jit(jax.vmap(jax.value_and_grad(end, has_aux=True)))
    (_, runs), gradients = values(jnp.asarray(RATES))
    codes = [ddln.RESULTS.successful] * 3 + [ddln.RESULTS.diverged] * 2
    for lane, rate in enumerate(RATES):
        layers, _ = by_numpy(lambda rate=rate: Plain(rate))
        losses = 0.5 * np.sum((np.prod(layers, axis=1) @ X.T - Y) ** 2, axis=1)
        count, code = len(layers) - 1, codes[lane]
        if settings and lane < 3 and np.any(losses <= 1e-3):
            count, code = int(np.argmax(losses <= 1e-3)), ddln.RESULTS.event_occurred
        result = jax.tree.map(lambda leaf, lane=lane: leaf[lane], runs.result)
        assert result == code, (rate, ddln.RESULTS[result])
        assert int(runs.stats["num_steps"][lane]) == count
        assert float(runs.ts[lane, -1]) == count
        np.testing.assert_allclose(
            runs.parameterization.layers[lane, -1], layers[count], rtol=1e-7, atol=1e-12
        )
    forward = quick_jit(jax.vmap(lambda rate: jax.jvp(lambda r: end(r)[0], (rate,), (1.0,))[1]))
    np.testing.assert_allclose(gradients, forward(jnp.asarray(RATES)), rtol=1e-8)
    step = 1e-6 * RATES
    ahead, behind = (values(jnp.asarray(RATES + sign * step))[0][0] for sign in (1, -1))
    np.testing.assert_allclose(gradients, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


def test_rows_after_the_end():
    """The first row that is not reached has the last iterate; those after it are NaN."""
    layers, _ = by_numpy(lambda: Plain(3.0))
    last = len(layers) - 1
    run = run_at(3.0, ts=[0, 1, last + 2, 100, 250])
    np.testing.assert_array_equal(run.ts, [0, 1, last, np.inf, np.inf])
    np.testing.assert_allclose(run.theta[2], np.prod(layers[-1], axis=0), rtol=1e-6)
    assert np.isnan(run.theta[3:]).all()
    with pytest.raises(RuntimeError, match="step size is too large"):
        ddln.descend(ddln.DeepDiagonal(LAYERS), LOSS, optax.sgd(3.0), STEPS)


def test_rows_until_an_event():
    layers, dual = by_numpy(lambda: Plain(0.5))
    losses = 0.5 * np.sum((np.prod(layers, axis=1) @ X.T - Y) ** 2, axis=1)
    last = int(np.argmax(losses <= 1e-3))
    assert 3 < last < 100
    run = run_at(0.5, ts=[0, 1, 3, 100, 250], event=ddln.LossBelow(1e-3))
    np.testing.assert_array_equal(run.ts, [0, 1, 3, last, np.inf])
    np.testing.assert_allclose(run.parameterization.layers[:4], layers[[0, 1, 3, last]], rtol=1e-9)
    np.testing.assert_allclose(run.dual[:4], dual[[0, 1, 3, last]], rtol=1e-9, atol=1e-12)
    assert np.isnan(run.theta[4:]).all()


def test_a_step_that_overflows_has_no_part_in_the_derivative():
    """theta = exp(exp(w)): the loss is finite, the gradient in w is not, and the first step is not taken."""
    start = jnp.full(1, 5.865)
    loss = ddln.LeastSquares(jnp.ones((1, 1)), jnp.zeros(1))

    def end(w, rate):
        network = ddln.FromFunction(lambda w: jnp.exp(jnp.exp(w)), w)
        run = ddln.descend(network, loss, optax.sgd(rate), 3, throw=False)
        return 1e-150 * run.theta[0, 0], run.stats["num_steps"]

    gradient = jax.value_and_grad(end, argnums=(0, 1), has_aux=True)
    (_, count), slopes = quick_jit(gradient)(start, jnp.asarray(0.1))
    assert int(count) == 0
    np.testing.assert_allclose(slopes[0], 1e-150 * np.exp(5.865 + np.exp(5.865)), rtol=1e-10)
    assert slopes[1] == 0


def test_second_derivatives():
    """Forward over reverse mode, against differences of the gradient."""
    optimizer = optax.sgd(0.1, momentum=0.5)

    def end(layers):
        run = ddln.descend(ddln.DeepDiagonal(layers), LOSS, optimizer, 120, throw=False)
        return jnp.sum(run.theta[-1] ** 3)

    direction = jnp.asarray(np.random.default_rng(1).normal(size=LAYERS.shape))
    start, step = jnp.asarray(LAYERS), 1e-6
    both = quick_jit(lambda u: jax.jvp(jax.grad(end), (u,), (direction,)))
    (_, second), (ahead, _), (behind, _) = (
        both(start + move * direction) for move in (0.0, step, -step)
    )
    np.testing.assert_allclose(second, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_a_start_that_is_not_finite_is_a_code_of_its_lane():
    starts = jnp.stack([jnp.asarray(LAYERS), jnp.full_like(jnp.asarray(LAYERS), jnp.nan)])
    optimizer = optax.sgd(0.1)

    def end(layers):
        return ddln.descend(ddln.DeepDiagonal(layers), LOSS, optimizer, 20, throw=False)

    runs = quick_jit(jax.vmap(end))(starts)
    alone = end(starts[0])
    np.testing.assert_allclose(runs.theta[0], alone.theta, rtol=1e-12)
    assert jax.tree.map(lambda leaf: leaf[1], runs.result) == ddln.RESULTS.nonfinite_initialization
    assert np.isnan(runs.theta[1]).all()
    assert int(runs.stats["num_steps"][1]) == 0


def test_reverse_mode_keeps_few_states():
    """10^5 steps hold far less than 10^5 states; the derivative is that of the linear recursion."""
    steps, rate = 100_000, 1e-5

    def end(start):
        loss = ddln.LeastSquares(jnp.ones((1, 1)), jnp.zeros(1))
        return ddln.descend(ddln.Identity(start), loss, optax.sgd(rate), steps).theta[-1, 0]

    program = jax.jit(jax.grad(end)).lower(jnp.ones(1)).compile()
    np.testing.assert_allclose(program(jnp.ones(1)), [(1 - rate) ** steps], rtol=1e-9)
    analysis = program.memory_analysis()
    # All states, of one number each, would be 8e5 bytes.
    assert analysis.temp_size_in_bytes < 5e4


def marker(prediction, target):
    """A loss whose gradient says which sample it is of, whatever theta is."""
    return prediction * target


def visits(steps, key=0, **settings):
    """How much each of 7 samples has been used after each step, shape [steps, 7].

    With X = I, theta_i falls by the factor of sample i.
    """
    loss = ddln.GeneralizedLinear(np.eye(7), np.ones(7), marker)
    run = ddln.descend(
        ddln.Identity(jnp.zeros(7)),
        loss,
        optax.sgd(1.0),
        steps,
        key=jax.random.key(key),
        ts=range(steps + 1),
        **settings,
    )
    return -np.diff(run.theta, axis=0)


def test_an_epoch_uses_every_sample_once():
    """7 samples in batches of 3, 3 and 1, in a new order each time, with the mean of all samples."""
    factors = visits(300, batch_size=3).reshape(100, 3, 7)
    used = factors > 0.5
    np.testing.assert_array_equal(np.sum(used, axis=1), 1)
    np.testing.assert_array_equal(np.sum(used, axis=2), [[3, 3, 1]] * 100)
    np.testing.assert_allclose(np.sum(factors, axis=2), 7, rtol=1e-12)
    assert len({tuple(np.argmax(epoch, axis=0)) for epoch in used}) > 60
    # Uniform, so that the mean over epochs of each batch is the gradient of all samples, which is 1.
    error = np.sqrt(np.max(np.var(factors, axis=0)) / 100)
    np.testing.assert_allclose(np.mean(factors, axis=0), 1, atol=4 * error)


def test_independent_samples():
    factors = visits(2000, batch_size=3, replacement=True)
    np.testing.assert_allclose(np.sum(factors, axis=1), 7, rtol=1e-12)
    counts = np.round(factors * 3 / 7)
    # Binomial with 3 trials: mean 3/7, variance 18/49, and a sample twice in a batch now and then.
    np.testing.assert_allclose(np.mean(counts, axis=0), 3 / 7, atol=5 * np.sqrt(18 / 49 / 2000))
    np.testing.assert_allclose(np.mean(np.var(counts, axis=0)), 18 / 49, rtol=0.1)
    assert np.max(counts) == 3


def test_label_noise_is_new_at_each_step():
    """With l = (z - y)^2 / 2 and a tiny step, theta moves by the noise of each label."""
    count, rate, deviation = 2000, 1e-9, 0.3
    loss = ddln.LeastSquares(np.eye(7), np.zeros(7))
    run = ddln.descend(
        ddln.Identity(jnp.zeros(7)),
        loss,
        optax.sgd(rate),
        count,
        key=jax.random.key(0),
        label_noise=deviation,
        ts=range(count + 1),
    )
    noise = np.diff(run.theta, axis=0) / rate
    assert abs(np.mean(noise)) < 4 * deviation / np.sqrt(noise.size)
    np.testing.assert_allclose(np.std(noise), deviation, rtol=0.03)
    neighbours = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(noise.size)
    columns = np.corrcoef(noise.T) - np.eye(7)
    assert np.max(np.abs(columns)) < 5 / np.sqrt(count)


def test_batches_of_all_samples_are_plain_descent():
    """Where nothing is random, neither is the result; keys change batches."""
    optimizer = optax.sgd(0.1)

    def end(key, size):
        network = ddln.DeepDiagonal(LAYERS)
        run = ddln.descend(
            network, LOSS, optimizer, 40, key=jax.random.key(key), batch_size=size, throw=False
        )
        return np.asarray(run.theta[-1])

    plain = np.prod(by_numpy(lambda: Plain(0.1), steps=40)[0][-1], axis=0)
    np.testing.assert_allclose(end(0, SAMPLES), plain, rtol=1e-10)
    np.testing.assert_array_equal(end(1, 2), end(1, 2))
    assert np.max(np.abs(end(1, 2) - end(2, 2))) > 1e-3


def test_line_search_and_dual():
    """An optimizer that asks for the loss runs without the dual, and says so with it."""
    optimizer = optax.polyak_sgd(max_learning_rate=0.2)
    network = ddln.DeepDiagonal(LAYERS)
    run = ddln.descend(network, LOSS, optimizer, 30, dual=False)
    layers = LAYERS
    for _ in range(30):
        residual = X @ np.prod(layers, axis=0) - Y
        gradient = slopes(layers, X.T @ residual)
        rate = min(0.5 * residual @ residual / np.sum(gradient**2), 0.2)
        layers = layers - rate * gradient
    np.testing.assert_allclose(run.theta[-1], np.prod(layers, axis=0), rtol=1e-9)
    assert run.dual is None
    with pytest.raises(ValueError, match="dual=False"):
        ddln.descend(network, LOSS, optimizer, 30)


def test_compiled_once():
    """For all starts, and for all thresholds of an event."""
    traces = []

    def loss(theta):
        traces.append(theta)
        return jnp.sum((theta - 1) ** 2)

    optimizer = optax.sgd(0.1)
    for scale in (0.5, 1.0):
        start, event = ddln.DeepDiagonal(scale * LAYERS), ddln.LossBelow(scale / 10)
        ddln.descend(start, loss, optimizer, 5, event=event, throw=False)
        # Shapes are looked at in each call.
        known = len([theta for theta in traces if not isinstance(theta, jax.core.Tracer)])
        if scale == 0.5:
            first = len(traces)
    assert known == 0
    assert len(traces) - first <= 1


def test_float32_and_three_platforms():
    def end(layers):
        loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))
        return ddln.descend(
            ddln.DeepDiagonal(layers),
            loss,
            optax.sgd(0.1, momentum=0.5),
            150,
            key=jax.random.key(0),
            batch_size=2,
            ts=[0, 150],
            event=ddln.LossBelow(1e-9),
            throw=False,
        ).theta

    shape = jax.ShapeDtypeStruct((2, 3, DIM), np.float32)
    exported = jax.export.export(jax.jit(jax.vmap(end)), platforms=["cpu", "cuda", "tpu"])(shape)
    theta = exported.call(jnp.asarray(np.stack([LAYERS, 2 * LAYERS]), np.float32))
    assert theta.dtype == np.float32
    assert np.isfinite(theta).all()


def test_on_an_accelerator_no_step_waits_for_the_host():
    """There steps are counted and rows are written without a condition; the iterates are the same."""

    def run(layers):
        network, rows = ddln.DeepDiagonal(layers), [0, 1, 99, 240]
        return ddln.descend(network, LOSS, optax.sgd(0.3), 240, ts=rows, throw=False).theta

    def conditions(jaxpr, in_a_step=False):
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            yield from [name] * (name == "while" or (name == "cond" and in_a_step))
            innermost = name == "scan" and equation.params["length"] == 100
            for inner in inner_programs(equation):
                yield from conditions(inner, in_a_step or innermost)

    starts = jnp.asarray(np.stack([LAYERS, 0.5 * LAYERS, 30 * LAYERS]))
    jax.clear_caches()
    with tracing_for("gpu"):
        program = jax.jit(jax.vmap(run)).trace(starts)
        theta = program.lower().compile()(starts)
    assert list(conditions(program.jaxpr.jaxpr)) == []
    for lane in (0, 1):
        layers, _ = by_numpy(lambda: Plain(0.3), np.asarray(starts[lane]), 240)
        np.testing.assert_allclose(theta[lane], np.prod(layers[[0, 1, 99, 240]], 1), rtol=1e-9)
    assert np.isnan(theta[2, 3]).all()


BAD = {
    "steps": ({"steps": 0}, "`steps` must be a whole number"),
    "ts beyond": ({"ts": [0, 11]}, "`ts` must lie in"),
    "ts decreasing": ({"ts": [2, 1]}, "`ts` must be increasing"),
    "half ts": ({"ts": [0.5]}, "`ts` must be whole numbers"),
    "ts of one number": ({"ts": 3}, "`ts` must be a list of steps"),
    "large batch": ({"batch_size": 5, "key": 0}, "`batch_size` must be from 1 to the 4 samples"),
    "empty batch": ({"batch_size": 0, "key": 0}, "`batch_size` must be from 1 to the 4 samples"),
    "batch without key": ({"batch_size": 2}, "`key` must be given with `batch_size`"),
    "noise without key": ({"label_noise": 0.1}, "`key` must be given with `label_noise`"),
    "negative noise": (
        {"label_noise": -1.0, "key": 0},
        "`label_noise` must be a standard deviation",
    ),
    "batch of a function": (
        {"batch_size": 2, "key": 0, "loss": lambda theta: jnp.sum(theta**2)},
        "`loss` must be a `ddln.AbstractPredictionLoss` with `batch_size`",
    ),
    "no optimizer": (
        {"optimizer": 0.1},
        "`optimizer` must be an optax optimizer",
    ),
    "optimizer of another tree": (
        {"optimizer": optax.masked(optax.sgd(0.1), {"a": True})},
        "`optimizer` must fit the weights",
    ),
    "updates of another shape": (
        {"optimizer": optax.GradientTransformation(lambda w: (), lambda g, s, w=None: (0.0, s))},
        "`optimizer` must return updates like those it is given",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    settings, message = BAD[name]
    arguments = {
        "parameterization": ddln.DeepDiagonal(LAYERS),
        "loss": LOSS,
        "optimizer": optax.sgd(0.1),
        "steps": 10,
    } | settings
    if "key" in arguments:
        arguments["key"] = jax.random.key(0)
    with pytest.raises(ValueError, match=message):
        ddln.descend(**arguments)


@pytest.mark.parametrize(
    "optimizer",
    [optax.contrib.dog(), optax.optimistic_gradient_descent(0.05)],
    ids=["dog", "optimistic"],
)
def test_optimizers_whose_state_has_python_numbers(optimizer):
    """Against the same updates by hand, outside of any loop."""
    found = ddln.descend(ddln.DeepDiagonal(LAYERS), LOSS, optimizer, 3, dual=False)
    weights, gradient = jnp.asarray(LAYERS), jax.grad(lambda u: LOSS(ddln.DeepDiagonal(u)()))
    state = optimizer.init(weights)
    for _ in range(3):
        updates, state = optimizer.update(gradient(weights), state, weights)
        weights = optax.apply_updates(weights, updates)
    np.testing.assert_allclose(found.final.layers, weights, rtol=1e-12)
