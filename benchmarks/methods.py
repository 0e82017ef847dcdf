"""The ways to integrate a setting: this package's, and what its users would otherwise write.

Each prepares a setting for timing and yields a function that runs it and waits for all results.
"""

import contextlib
import dataclasses
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.integrate

import ddln
from benchmarks.lane_steps import batched_steps
from benchmarks.scipy_flow import in_processes
from benchmarks.settings import Setting
from ddln.engine._queue import CPU_QUEUE


class Answer(NamedTuple):
    """What a run found.

    Attributes:
        theta: the ends, shape [B, d]; None if a run has no such answer.
        steps: the number of steps of each lane.
        facts: further numbers to be recorded.
    """

    theta: Any = None
    steps: Any = None
    facts: dict[str, float] = {}  # noqa: RUF012


class Prepared(NamedTuple):
    run: Callable[[], Answer]
    compile_seconds: float | None = None


T = TypeVar("T")
Method = Callable[[Setting], AbstractContextManager[Prepared]]


def timed(compile: Callable[[], T]) -> tuple[T, float]:
    """What a compilation gives, and how long tracing and compiling takes: the median of three."""

    def once():
        jax.clear_caches()
        started = time.perf_counter()
        return compile(), time.perf_counter() - started

    programs, seconds = zip(*(once() for _ in range(3)), strict=True)
    return programs[-1], statistics.median(seconds)


def compiled(function: Callable, *arguments: Any) -> tuple[Callable[[], Any], float]:
    """A compiled function of these arguments, and how long that takes."""
    program, seconds = timed(lambda: jax.jit(function).lower(*arguments).compile())
    return lambda: jax.block_until_ready(program(*arguments)), seconds


def sweep_on(
    devices: Callable[[], list[Any] | None],
    loss_of: Callable[[Setting], Any] = lambda setting: setting.loss,
    dynamics: ddln.AbstractDynamics | None = None,
    start_of: Callable[[jax.Array], ddln.AbstractParameterization] = ddln.DeepDiagonal,
) -> Method:
    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        networks, loss = jax.vmap(start_of)(setting.layers), loss_of(setting)
        settings = {
            "rtol": setting.rtol,
            "atol": setting.atol,
            "devices": devices(),
            "dynamics": dynamics,
        }
        _, seconds = timed(lambda: ddln.compile_sweep(networks, loss, setting.t1, **settings))

        def run():
            result = ddln.sweep(networks, loss, setting.t1, progress=False, **settings)
            assert result.theta is not None
            assert result.okay.all()
            return Answer(result.theta[:, -1], result.stats["num_steps"])

        yield Prepared(run, seconds)

    return method


sweep = sweep_on(lambda: None)
sweep_on_all_devices = sweep_on(jax.devices)


def on_one_core(method: Method) -> Method:
    """The method in a job that owns one core, so that one chunk is computed at a time."""

    @contextlib.contextmanager
    def limited(setting: Setting) -> Iterator[Prepared]:
        with mock.patch.dict(os.environ, NPROC="1"), method(setting) as prepared:
            yield prepared

    return limited


def _data_set_of_each_lane(setting: Setting) -> ddln.PerLane:
    """The data set, once more for each lane: the steps are those of one data set for all."""
    count = len(setting.layers)
    return ddln.PerLane(
        jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * count), setting.loss)
    )


sweep_of_data_sets = sweep_on(lambda: None, _data_set_of_each_lane)


def sweep_from(start_of: Callable[[jax.Array], ddln.AbstractParameterization]) -> Method:
    """A sweep whose starts are made from the layers of each lane."""
    return sweep_on(lambda: None, start_of=start_of)


def _flow(setting: Setting, function: Callable = ddln.gradient_flow, **settings: Any) -> Callable:
    loss, t1, rtol, atol = setting.loss, setting.t1, setting.rtol, setting.atol

    def one(layers):
        network = ddln.DeepDiagonal(layers)
        return function(network, loss, t1, rtol=rtol, atol=atol, throw=False, **settings)

    return one


def flow_by(function: Callable = ddln.gradient_flow, **settings: Any) -> Method:
    """A vmapped flow with these further arguments."""

    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        def one(layers):
            trajectory = _flow(setting, function, **settings)(layers)
            return trajectory.theta[-1], trajectory.stats["num_steps"]

        program, seconds = compiled(jax.vmap(one), setting.layers)
        yield Prepared(lambda: Answer(*program()), seconds)

    return method


vmapped_flow = flow_by()


@contextlib.contextmanager
def gradient_of_flow(setting: Setting) -> Iterator[Prepared]:
    """Reverse mode through all lanes, checked by central differences along some random directions.

    The error is that of all slopes together: a single one may be next to zero.
    """

    def end(setting, layers):
        return jnp.sum(jnp.square(jax.vmap(_flow(setting))(layers).theta))

    program, seconds = compiled(jax.grad(functools.partial(end, setting)), setting.layers)
    directions = jax.random.normal(jax.random.key(1), (8, *setting.layers.shape)) * setting.layers
    # A difference magnifies the error of what is subtracted.
    value = jax.jit(functools.partial(end, dataclasses.replace(setting, rtol=1e-12)))
    step = 1e-6
    ahead, behind = (
        jnp.stack([value(setting.layers + sign * step * direction) for direction in directions])
        for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * step)

    def run():
        slopes = jnp.tensordot(directions, program(), axes=3)
        error = jnp.linalg.norm(slopes - expected) / jnp.linalg.norm(expected)
        return Answer(facts={"relative to central differences": float(error)})

    yield Prepared(run, seconds)


def gradient_of(value: Callable[[Setting, jax.Array], tuple[jax.Array, Any]]) -> Method:
    """Reverse mode through a function of all layers, which returns a count too, beside a forward run."""

    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        function = functools.partial(value, setting)
        forward, _ = compiled(function, setting.layers)
        forward()
        times = []
        while len(times) < 5 or sum(times) < 1:
            started = time.perf_counter()
            forward()
            times.append(time.perf_counter() - started)
        gradient = jax.jit(jax.grad(function, has_aux=True))
        program, seconds = timed(lambda: gradient.lower(setting.layers).compile())
        memory = program.memory_analysis().temp_size_in_bytes  # pyright: ignore
        facts = {"forward seconds": statistics.median(times), "MiB of temporaries": memory / 2**20}

        def run():
            gradient, steps = jax.block_until_ready(program(setting.layers))
            assert bool(jnp.all(jnp.isfinite(gradient)))
            return Answer(steps=steps, facts=facts)

        yield Prepared(run, seconds)

    return method


def _squares_of_flow(setting: Setting, layers: jax.Array) -> tuple[jax.Array, jax.Array]:
    flow = _flow(setting, dual=False)(layers[0])
    return jnp.sum(jnp.square(flow.theta)), flow.stats["num_accepted_steps"]


def _squares_of_sweep(
    setting: Setting, layers: jax.Array, t1: float | None = None, dynamics: Any = None
) -> tuple[jax.Array, jax.Array]:
    starts = jax.vmap(ddln.DeepDiagonal)(layers)
    t1 = setting.t1 if t1 is None else t1
    result = ddln.sweep(
        starts, setting.loss, t1, dynamics=dynamics, rtol=setting.rtol, atol=setting.atol
    )
    assert result.theta is not None
    return jnp.sum(jnp.square(jnp.asarray(result.theta))), result.stats["num_steps"]


gradient_of_one_flow = gradient_of(_squares_of_flow)
gradient_of_sweep = gradient_of(_squares_of_sweep)
gradient_of_limits = gradient_of(functools.partial(_squares_of_sweep, t1=np.inf))


class Dynamics(NamedTuple):
    """A dynamics besides plain gradient flow, for two layers.

    Attributes:
        object: as `ddln.sweep` takes it.
        function: the public function, from a network, a loss, an end and settings.
        inertia, decay, exponent: the constants of inertia w'' + w' = -phi(grad_w L) - decay w,
            phi(x) = sign(x) |x|^(exponent - 1).
    """

    object: ddln.AbstractDynamics
    function: Callable[..., Any]
    inertia: float = 0.0
    decay: float = 0.0
    exponent: float = 2.0

    def end_by_scipy(self, setting: Setting, layers: np.ndarray) -> np.ndarray:
        """theta at t1 of one lane, by LSODA on the layers."""
        X, y, scale = np.asarray(setting.loss.X), np.asarray(setting.loss.y), setting.scale

        def force(u):
            g = 2 * scale * X.T @ (X @ (u[0] * u[1]) - y)
            slopes = g * u[::-1]
            if self.exponent != 2:
                slopes = np.sign(slopes) * np.abs(slopes) ** (self.exponent - 1)
            return -slopes - self.decay * u

        def velocity(t, state):
            u, *rest = state.reshape(-1, *layers.shape)
            if not rest:
                return force(u).ravel()
            return np.stack([rest[0], (force(u) - rest[0]) / self.inertia]).ravel()

        start = np.stack([layers, 0 * layers]) if self.inertia else layers
        solution = scipy.integrate.solve_ivp(
            velocity, (0.0, setting.t1), start.ravel(), "LSODA", rtol=1e-9, atol=1e-12
        )
        u, v = solution.y[:, -1].reshape(-1, *layers.shape)[0]
        return u * v


DYNAMICS = {
    "momentum": Dynamics(
        ddln.MomentumDynamics(1.0), functools.partial(ddln.momentum_flow, inertia=1.0), inertia=1.0
    ),
    "mirror": Dynamics(
        ddln.MirrorDynamics(),
        lambda start, *rest, **settings: ddln.mirror_flow(ddln.potential(start), *rest, **settings),
    ),
    "decayed": Dynamics(
        ddln.GradientDynamics(0.01),
        functools.partial(ddln.gradient_flow, weight_decay=0.01),
        decay=0.01,
    ),
    "steepest": Dynamics(
        ddln.SteepestDynamics(3.0),
        functools.partial(ddln.steepest_flow, exponent=3.0),
        exponent=3.0,
    ),
}


def _checked(dynamics: Dynamics, method: Method) -> Method:
    """The method, with one lane of its answer compared with SciPy."""

    @contextlib.contextmanager
    def checked(setting: Setting) -> Iterator[Prepared]:
        lane = len(setting.layers) // 2
        expected = dynamics.end_by_scipy(setting, np.asarray(setting.layers[lane]))
        with method(setting) as prepared:

            def run():
                answer = prepared.run()
                error = np.max(np.abs(answer.theta[lane] - expected)) / np.max(np.abs(expected))
                assert error < 1e-3
                return answer._replace(facts={"relative difference from SciPy": float(error)})

            yield prepared._replace(run=run)

    return checked


def sweep_of(dynamics: Dynamics) -> Method:
    """A sweep of another dynamics."""
    return _checked(dynamics, sweep_on(lambda: None, dynamics=dynamics.object))


def vmap_of(dynamics: Dynamics) -> Method:
    """The public function of another dynamics under `jax.vmap`."""
    return _checked(dynamics, flow_by(dynamics.function))


def gradient_of_sweep_of(dynamics: Dynamics) -> Method:
    """Reverse mode through a sweep of another dynamics."""
    return gradient_of(functools.partial(_squares_of_sweep, dynamics=dynamics.object))


def _velocity_of_layers(setting: Setting) -> Callable:
    X, y, scale = setting.loss.X, setting.loss.y, setting.scale

    def loss(layers):
        return scale * jnp.sum(jnp.square(X @ jnp.prod(layers, axis=0) - y))

    return lambda t, layers, args: -jax.grad(loss)(layers)


def _diffrax(setting: Setting, solver, velocity: Callable, start: jax.Array):
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        solver,
        0.0,
        setting.t1,
        None,
        start,
        stepsize_controller=diffrax.PIDController(setting.rtol, setting.atol),
        max_steps=None,
        throw=False,
    )
    assert solution.ys is not None
    return solution.ys[-1], solution.stats["num_steps"]


def diffrax_on_the_layers(solver: diffrax.AbstractSolver) -> Method:
    """What an idiomatic user of diffrax writes."""

    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        velocity = _velocity_of_layers(setting)

        def one(layers):
            end, steps = _diffrax(setting, solver, velocity, layers)
            return jnp.prod(end, axis=0), steps

        program, seconds = compiled(jax.vmap(one), setting.layers)
        yield Prepared(lambda: Answer(*program()), seconds)

    return method


def diffrax_on_the_reduced_flow(solver: diffrax.AbstractSolver) -> Method:
    """What a user of diffrax writes who knows the conservation laws."""

    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        X, y, scale = setting.loss.X, setting.loss.y, setting.scale

        def one(layers):
            layers = jnp.take_along_axis(layers, jnp.argsort(jnp.abs(layers), axis=0), axis=0)
            start, others = layers[0], layers[1:]
            gaps, sign = jnp.square(others) - jnp.square(start), jnp.prod(jnp.sign(others), axis=0)

            def speed(v):
                return sign * jnp.prod(jnp.sqrt(jnp.square(v) + gaps), axis=0)

            def velocity(t, v, args):
                p = speed(v)
                return -p * (2 * scale) * (X.T @ (X @ (v * p) - y))

            v, steps = _diffrax(setting, solver, velocity, start)
            return v * speed(v), steps

        program, seconds = compiled(jax.vmap(one), setting.layers)
        yield Prepared(lambda: Answer(*program()), seconds)

    return method


@contextlib.contextmanager
def explicit_euler(setting: Setting) -> Iterator[Prepared]:
    """A scan with half of the largest step that is stable at the start of every lane."""
    X, velocity = setting.loss.X, _velocity_of_layers(setting)

    def stiffness(layers):
        metric = jnp.sum(jnp.square(jax.vmap(jax.grad(_product), 1, 1)(layers)), axis=0)
        return 2 * setting.scale * jnp.linalg.norm((X * metric) @ X.T, 2)

    largest = max(float(stiffness(layers)) for layers in setting.layers)
    count = int(np.ceil(setting.t1 * largest))
    h = setting.t1 / count

    def one(layers):
        step = lambda u, _: (u + h * velocity(0.0, u, None), None)  # noqa: E731
        end, _ = jax.lax.scan(step, layers, length=count)
        return jnp.prod(end, axis=0)

    program, seconds = compiled(jax.vmap(one), setting.layers)
    steps = np.full(len(setting.layers), count)
    yield Prepared(lambda: Answer(program(), steps), seconds)


def _product(layers: jax.Array) -> jax.Array:
    return jnp.prod(layers)


def scipy_in_processes(name: str) -> Method:
    """SciPy's solver on the reduced flow with its Jacobian, one process per core."""

    @contextlib.contextmanager
    def method(setting: Setting) -> Iterator[Prepared]:
        lanes = setting.lanes(name, setting.rtol, setting.atol)
        with in_processes() as flows:
            yield Prepared(lambda: Answer(*flows(lanes)))

    return method


@contextlib.contextmanager
def products_and_factorizations(setting: Setting) -> Iterator[Prepared]:
    """The least a step of the sweep can cost: I + X M X^T and its Cholesky factor, as often.

    For a sweep of one chunk. How many of its lane-steps are useful follows from the same numbers.
    """
    with sweep(setting) as prepared:
        steps = prepared.run().steps
    count = batched_steps(steps)
    busy = float(steps.sum() / (CPU_QUEUE.width(len(steps)) * count))
    facts = {"batched steps": count, "busy lane-steps": busy}
    X = setting.loss.X
    metric = jnp.square(setting.layers[: CPU_QUEUE.width(len(steps)), 0])

    def step(_, metric):
        # One after another, as in a flow.
        factor = jnp.linalg.cholesky(jnp.eye(len(X)) + (X * metric[:, None, :]) @ X.T)
        return metric + 1e-30 * factor[:, :1, 0]

    program, seconds = compiled(lambda m: jax.lax.fori_loop(0, count, step, m), metric)

    def run():
        program()
        return Answer(facts=facts)

    yield Prepared(run, seconds)


@contextlib.contextmanager
def limits(setting: Setting) -> Iterator[Prepared]:
    """The ends for t = inf, without integrating; a few lanes at a time do not wait for all others."""

    def one(layers):
        end = ddln.limit(ddln.DeepDiagonal(layers), setting.loss, throw=False)
        okay = ddln.is_okay(end.result)
        return end.theta, end.stats["num_steps"], end.residual, end.gap, okay

    program, seconds = compiled(lambda u: jax.lax.map(one, u, batch_size=16), setting.layers)

    def run():
        theta, steps, residual, gap, okay = program()
        assert bool(jnp.all(okay))
        facts = {"residual": float(jnp.max(residual)), "relative gap": float(jnp.max(gap))}
        return Answer(theta, steps, facts)

    yield Prepared(run, seconds)


# 64 lanes with this step are stable for all scales of case H with two layers and d = 30.
STEPS, STEP_SIZE = 100_000, 1e-3


def _descent(setting: Setting, layers: np.ndarray) -> np.ndarray:
    """theta of one lane after STEPS steps of gradient descent, in NumPy."""
    X, y = np.asarray(setting.loss.X), np.asarray(setting.loss.y)
    u, v = layers
    for _ in range(STEPS):
        g = 2 * setting.scale * X.T @ (X @ (u * v) - y)
        u, v = u - STEP_SIZE * g * v, v - STEP_SIZE * g * u
    return u * v


@contextlib.contextmanager
def descent(setting: Setting) -> Iterator[Prepared]:
    """Gradient descent on two layers, all lanes at once; one is checked by NumPy."""
    loss, optimizer = setting.loss, optax.sgd(STEP_SIZE)

    def one(layers):
        run = ddln.descend(ddln.DeepDiagonal(layers), loss, optimizer, STEPS, throw=False)
        return run.theta[-1], run.stats["num_steps"]

    program, seconds = compiled(jax.vmap(one), setting.layers)
    lane = len(setting.layers) // 2
    expected = _descent(setting, np.asarray(setting.layers[lane]))

    def run():
        theta, steps = program()
        error = np.max(np.abs(theta[lane] - expected))
        return Answer(theta, steps, {"difference from NumPy": float(error)})

    yield Prepared(run, seconds)


@contextlib.contextmanager
def descent_in_a_scan(setting: Setting) -> Iterator[Prepared]:
    """What a user of JAX writes: a bare scan."""
    X, y, scale = setting.loss.X, setting.loss.y, setting.scale

    def loss(layers):
        return scale * jnp.sum(jnp.square(X @ (layers[0] * layers[1]) - y))

    def one(layers):
        step = lambda u, _: (u - STEP_SIZE * jax.grad(loss)(u), None)  # noqa: E731
        end, _ = jax.lax.scan(step, layers, length=STEPS)
        return end[0] * end[1]

    program, seconds = compiled(jax.vmap(one), setting.layers)
    steps = np.full(len(setting.layers), STEPS)
    yield Prepared(lambda: Answer(program(), steps), seconds)


@contextlib.contextmanager
def descent_in_numpy(setting: Setting) -> Iterator[Prepared]:
    """A loop in NumPy, one lane after another."""
    lanes = np.asarray(setting.layers)
    steps = np.full(len(lanes), STEPS)
    yield Prepared(lambda: Answer(np.stack([_descent(setting, u) for u in lanes]), steps))
