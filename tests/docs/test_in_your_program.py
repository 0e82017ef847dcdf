"""The tables of the page "In your own program": every row is run."""

import copy
import functools
import gc
import io
import pickle
import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

import ddln

PAGE = (Path(__file__).parents[2] / "docs/in-your-program.md").read_text(encoding="utf-8")
COMPOSES, UNUSUAL = (
    [
        tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
        for line in part.splitlines()
        if line.startswith("| ")
    ][2:]
    for part in PAGE.split("## What it ")[1:]
)

X = np.random.default_rng(0).normal(size=(3, 4))
Y = np.array([1.0, -1.0, 0.5])
LAYERS = np.random.default_rng(1).normal(size=(3, 4))
LOSS = ddln.LeastSquares(X, Y)
NAMES = {
    "X": X,
    "y": Y,
    "net": ddln.DeepDiagonal(LAYERS),
    "stack": jax.vmap(ddln.DeepDiagonal)(jnp.stack([LAYERS, LAYERS])),
    "loss": LOSS,
    "load": ddln.problems.load,
    "np": np,
    "jnp": jnp,
    "jax": jax,
    "ddln": ddln,
    "optax": optax,
    "diffrax": diffrax,
    "pandas": pandas,
}


def run(layers, t1=0.5):
    flow = ddln.gradient_flow(
        ddln.DeepDiagonal(layers), LOSS, t1, solver=diffrax.Tsit5(), throw=False
    )
    return flow.theta[-1]


@pytest.fixture
def compiled():
    names = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: names.append(name) if "backend_compile" in name else None
    )
    return names


@pytest.fixture(scope="module")
def plain():
    return run(jnp.asarray(LAYERS))


def jitted(compiled, plain):
    program = jax.jit(run)
    np.testing.assert_allclose(program(jnp.asarray(LAYERS)), plain, rtol=1e-12)
    assert compiled
    compiled.clear()
    program(jnp.asarray(2 * LAYERS))
    assert compiled == []


def eager(compiled, plain):
    layers = [jnp.asarray(scale * LAYERS) for scale in (1.1, 1.2)]
    run(layers[0], 0.4)
    compiled.clear()
    run(layers[1], 0.3)
    assert compiled == []


def nested(compiled, plain):
    layers = jnp.stack([LAYERS, 0.5 * LAYERS])[None]
    found = jax.vmap(jax.vmap(run))(layers)
    np.testing.assert_allclose(found[0, 0], plain, rtol=1e-5)
    assert found.shape == (1, 2, 4)


def looped(compiled, plain):
    def body(layers, _):
        flow = ddln.gradient_flow(
            ddln.DeepDiagonal(layers), LOSS, 0.25, solver=diffrax.Tsit5(), throw=False
        )
        return flow.final.layers, None

    def end(scale):
        again = jax.checkpoint(lambda u: jax.lax.scan(body, u, length=2)[0])
        return jnp.prod(again(scale * LAYERS), axis=0)

    value, slope = jax.jit(lambda s: (*jax.vjp(end, s)[1](jnp.ones(4)), end(s)))(1.0)[::-1]
    # Half of the time twice is the whole, within the tolerance of the steps.
    np.testing.assert_allclose(value, plain, rtol=1e-4)
    assert np.isfinite(slope)


def sharded(compiled, plain):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("lanes",))
    lanes = jax.sharding.PartitionSpec("lanes")
    program = jax.shard_map(
        jax.vmap(run), mesh=mesh, in_specs=lanes, out_specs=lanes, check_vma=False
    )
    found = jax.jit(program)(jnp.stack([LAYERS, 0.5 * LAYERS]))
    np.testing.assert_allclose(found[0], plain, rtol=1e-5)


SMALL = ddln.DeepDiagonal(LAYERS[:2, :2]), ddln.LeastSquares(X[:1, :2], Y[:1])


def disabled(compiled, plain):
    def short():
        settings = {"rtol": 1e-2, "atol": 1e-2, "solver": diffrax.Tsit5()}
        return ddln.gradient_flow(*SMALL, 0.01, **settings).theta

    with jax.disable_jit():
        by_operation = short()
    np.testing.assert_allclose(by_operation, short(), rtol=1e-12)


def leaking(compiled, plain):
    # Tracing leaks, not what is compiled.
    with jax.checking_leaks():
        jax.eval_shape(lambda: ddln.limit(*SMALL).theta)


def threaded(compiled, plain):
    with ThreadPoolExecutor(2) as pool:
        for theta in pool.map(run, [jnp.asarray(LAYERS)] * 4):
            np.testing.assert_array_equal(theta, plain)


def converted(compiled, plain):
    np.testing.assert_allclose(run(LAYERS.tolist()), plain, rtol=1e-12)
    for layers in ([[1, 2], [3, 4]], np.ones((2, 2), bool), np.ones((2, 2), np.int8)):
        assert ddln.DeepDiagonal(layers).layers.dtype == jnp.float64
    assert ddln.FromFunction(lambda w: w**2, jnp.ones(2)).weights.dtype == jnp.float64


def weakly_typed(compiled, plain):
    optimizer, values = optax.sgd(0.1), (jnp.full((2, 2), 0.5, float), jnp.full((2, 2), 0.5))
    assert jax.typeof(values[1]).weak_type
    problems = [(ddln.DeepDiagonal(v), ddln.LeastSquares(v, v[0])) for v in values]
    ddln.descend(*problems[0], optimizer, 2)
    compiled.clear()
    ddln.descend(*problems[1], optimizer, 2)
    assert compiled == []


def keys(compiled, plain):
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert ddln.DeepDiagonal.random(key, 2, 3).layers.shape == (2, 3)
        ddln.StochasticDynamics(key, ddln.SampleNoise(), 0.1, 4)


def trees(compiled, plain):
    model = eqx.nn.MLP(2, "scalar", 3, 1, key=jax.random.key(0))
    inputs = jnp.asarray(X[:, :2])
    start = ddln.FromFunction(lambda m: jax.vmap(m)(inputs), model)
    np.testing.assert_allclose(start(), jax.vmap(model)(inputs))
    loss = ddln.LeastSquares(np.eye(3), Y)
    flow = ddln.gradient_flow(start, loss, 0.1, solver=diffrax.Tsit5())
    assert loss(flow.theta[-1]) < loss(start())
    nested = {"linear": {"w": jnp.ones(3), "b": jnp.zeros(3), "name": "first"}}
    start = ddln.FromFunction(lambda p: p["linear"]["w"] * inputs[:, 0] + p["linear"]["b"], nested)
    np.testing.assert_allclose(start.metric(), np.diag(X[:, 0] ** 2 + 1), atol=1e-15)


def trained(compiled, plain):
    plateau = optax.contrib.reduce_on_plateau()
    optimizers = (
        optax.sgd(optax.cosine_decay_schedule(0.1, 3)),
        optax.adamw(0.1),
        optax.lbfgs(),
        optax.MultiSteps(optax.sgd(0.1), 2),
        optax.inject_hyperparams(optax.sgd)(0.1),
        optax.apply_if_finite(optax.sgd(0.1), 2),
        optax.chain(optax.sgd(0.1), plateau),
        optax.contrib.dog(),
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True),
        optax.contrib.schedule_free_sgd(0.1),
    )
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        for optimizer in optimizers:
            run = functools.partial(ddln.descend, *SMALL, optimizer, 3, dual=False, throw=False)
            assert jax.eval_shape(lambda run=run: run().theta).shape == (1, 2)


def results():
    """Each kind of result, with numbers in place of what would be computed: nothing is compiled."""
    start, settings = ddln.DeepDiagonal(LAYERS), {"throw": False}
    potential = ddln.potential(ddln.DeepDiagonal(LAYERS[:2]))
    signal = ddln.Signal(jnp.zeros(2), jnp.asarray([0.0, 1.0]), jnp.asarray([0.9, 0.1]))
    stack, theory = jax.vmap(ddln.DeepDiagonal)(jnp.stack([LAYERS, LAYERS])), ddln.theory
    kinds = {
        "flow": lambda: ddln.gradient_flow(start, LOSS, 0.5, **settings),
        "momentum": lambda: ddln.momentum_flow(start, LOSS, 0.5, inertia=1.0, **settings),
        "mirror": lambda: ddln.mirror_flow(potential, LOSS, 0.5, **settings),
        "descent": lambda: ddln.descend(start, LOSS, optax.sgd(0.1), 2, **settings),
        "sensitivity": lambda: ddln.sensitivity(start, LOSS, 0.5, **settings),
        "limit": lambda: ddln.limit(start, LOSS, **settings),
        "vanishing limit": lambda: ddln.vanishing_limit(start, LOSS, **settings),
        "evolution": lambda: ddln.state_evolution(start, signal, 0.5, **settings),
        "sweep": lambda: ddln.sweep(stack, LOSS, 0.5, progress=False),
        "check": lambda: theory.conservation(kinds["flow"](), LOSS),
        "spectrum": lambda: theory.hessian_spectrum(start, LOSS, k=2),
        "inertia": lambda: theory.hessian_inertia(start, LOSS, 0.1),
    }

    def numbers(leaf):
        return jnp.arange(leaf.size).reshape(leaf.shape).astype(leaf.dtype)

    for name, make in kinds.items():
        yield name, jax.tree.map(numbers, eqx.filter_eval_shape(make))


def copied(compiled, plain):
    things = {
        "start": ddln.DeepDiagonal(LAYERS),
        "loss": LOSS,
        "result": ddln.RESULTS.successful,
        "problem": ddln.problems.load((X, Y), standardize=True),
        **dict(results()),
    }
    for name, thing in things.items():
        stream = io.BytesIO()
        eqx.tree_serialise_leaves(stream, thing)
        stream.seek(0)
        leaves = jax.tree.leaves(thing)
        for made in (
            copy.deepcopy(thing),
            pickle.loads(pickle.dumps(thing)),
            eqx.tree_deserialise_leaves(stream, thing),
        ):
            assert type(made) is type(thing), name
            for new, old in zip(jax.tree.leaves(made), leaves, strict=True):
                np.testing.assert_array_equal(new, old)


def precisions(compiled, plain):
    single = jnp.asarray(LAYERS, jnp.float32)
    loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))
    assert loss(ddln.DeepDiagonal(single)()).dtype == jnp.float32
    assert LOSS(ddln.DeepDiagonal(LAYERS)()).dtype == jnp.float64


def elsewhere(compiled, plain):
    """`tests/sweeps/test_executors.py` and `tests/sweeps/store/test_store_crashes.py` start the processes."""


def freed(compiled, plain):
    start = ddln.DeepDiagonal(LAYERS)

    def references():
        """To an array of a loss, and to one in the closure of a loss."""
        leaf, closed = jnp.asarray(2.0 * Y), jnp.asarray(3.0 * Y)
        for loss in (ddln.LeastSquares(X, leaf), lambda theta: jnp.sum((X @ theta - closed) ** 2)):
            ddln.descend(start, loss, optax.sgd(1e-3), 1, dual=False)
        return weakref.ref(leaf), weakref.ref(closed)

    leaf, closed = references()
    jax.clear_caches()
    gc.collect()
    assert leaf() is None
    assert closed() is not None


def undefined(compiled, plain):
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        ddln.gradient_flow(
            ddln.DeepDiagonal(LAYERS),
            LOSS,
            9.0,
            ts=[0.1, 9.0],
            event=lambda t, network, loss: t > 0.5,
            solver=diffrax.Tsit5(),
            throw=False,
        )


ROWS = (
    jitted, eager, nested, looped, sharded, disabled, leaking, threaded, converted, weakly_typed, keys,
    trees, trained, copied, precisions, elsewhere, freed, undefined,
)  # fmt: skip


def test_every_row_has_a_test():
    assert len(COMPOSES) == len(ROWS)
    assert len(UNUSUAL) >= 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_composes(row, compiled, plain):
    row(compiled, plain)


@pytest.mark.parametrize(("code", "said"), UNUSUAL, ids=[code for code, _ in UNUSUAL])
def test_unusual_inputs(code, said, unchecked):
    """The page shows the beginning of the message, and its parts between three dots."""
    kind, _, message = said.partition(": ")
    parts = [re.escape(part) for part in message.removesuffix(" ...").split(" ... ")]
    error = {"FileNotFoundError": FileNotFoundError, "ValueError": ValueError}[kind]
    with pytest.raises(error, match=f"(?s)^{'.*'.join(parts)}"):
        eval(code.strip("`"), NAMES)
