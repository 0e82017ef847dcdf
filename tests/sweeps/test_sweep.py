import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.sweeps import _plan

X = np.random.default_rng(0).normal(size=(4, 6))
Y = np.random.default_rng(1).normal(size=4)
LOSS = ddln.LeastSquares(X, Y)
KEYS = jax.random.split(jax.random.key(2), 10)
STACK = jax.vmap(lambda key: ddln.DeepDiagonal.random(key, 3, 6))(KEYS)
TS = np.array([0.5, 2.0])


# One program for most of the tests, and one that compiles fast for those of chunks and programs.
SETTINGS = {"ts": TS, "chunk_size": 4, "progress": False}
SQUARES = jax.vmap(ddln.Square)(STACK.layers[:, 0])
FAST = {"ts": TS, "solver": diffrax.Tsit5(), "progress": False}


@pytest.fixture(scope="module")
def clean():
    return ddln.sweep(STACK, LOSS, 2.0, **SETTINGS)


def test_lanes_are_the_flows_one_by_one_in_order(clean):
    assert clean.theta.shape == (10, 2, 6)
    for lane in (0, 4, 9):
        alone = ddln.gradient_flow(ddln.DeepDiagonal(STACK.layers[lane]), LOSS, 2.0, ts=TS)
        np.testing.assert_allclose(clean.theta[lane], alone.theta, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(clean.loss[lane], alone.loss, rtol=1e-9)
    assert clean.method == "reduced, Rodas5P"
    assert clean.okay.all()


def test_results_do_not_depend_on_chunking(clean):
    other = ddln.sweep(STACK, LOSS, 2.0, **{**SETTINGS, "chunk_size": 10})
    np.testing.assert_allclose(clean.theta, other.theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(clean.stats["num_steps"], other.stats["num_steps"])


def test_lanes_that_take_the_next_flow_make_the_same_steps(clean):
    """Three lanes for nine flows of different lengths."""
    queued = ddln.sweep(STACK, LOSS, 2.0, **{**SETTINGS, "chunk_size": 9}, lanes=3)
    assert len(set(clean.stats["num_steps"].tolist())) > 3
    np.testing.assert_array_equal(queued.stats["num_steps"], clean.stats["num_steps"])
    np.testing.assert_allclose(queued.theta, clean.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("solver", [None, diffrax.Tsit5(), diffrax.Kvaerno3()])
def test_lanes_make_the_steps_of_diffrax(solver):
    arguments = dict(ts=TS, solver=solver, rtol=1e-5, atol=1e-7)
    swept = ddln.sweep(STACK, LOSS, 2.0, **SETTINGS | arguments)
    flows = jax.vmap(lambda start: ddln.gradient_flow(start, LOSS, 2.0, throw=False, **arguments))
    expected = flows(STACK)
    for count in ("num_steps", "num_accepted_steps", "num_rejected_steps"):
        np.testing.assert_array_equal(swept.stats[count], expected.stats[count])
    np.testing.assert_allclose(swept.theta, expected.theta, rtol=1e-8, atol=1e-10)


def test_lanes_that_run_out_of_steps_say_so():
    full = ddln.sweep(SQUARES, LOSS, 2.0, **FAST)
    steps = full.stats["num_steps"]
    enough = int(np.median(steps))
    result = ddln.sweep(SQUARES, LOSS, 2.0, max_steps=enough, **FAST)
    assert 0 < np.sum(steps > enough) < 10
    np.testing.assert_array_equal(result.okay, steps <= enough)


def test_a_rule_makes_the_same_lanes_as_a_stack(clean):
    rule = ddln.Initializations(lambda i: ddln.DeepDiagonal.random(KEYS[i], 3, 6), 10)
    other = ddln.sweep(rule, LOSS, 2.0, **SETTINGS)
    np.testing.assert_allclose(clean.theta, other.theta, rtol=1e-9, atol=1e-12)


def test_failed_lanes_have_reasons_and_do_not_touch_the_others(clean):
    layers = STACK.layers.at[3, 0, 0].set(jnp.nan).at[7].multiply(1e200)
    broken = eqx.tree_at(lambda stack: stack.layers, STACK, layers)
    calls = []
    progress = {"progress": lambda *numbers: calls.append(numbers)}
    result = ddln.sweep(broken, LOSS, 2.0, **SETTINGS | progress)
    reasons = {lane: why for why, lanes in result.failures().items() for lane in lanes.tolist()}
    assert "NaN or infinite" in reasons[3]
    assert "not finite at the initialization" in reasons[7]
    others = [lane for lane in range(10) if lane not in (3, 7)]
    np.testing.assert_array_equal(result.theta[others], clean.theta[others])
    np.testing.assert_array_equal(np.flatnonzero(~result.okay), [3, 7])
    with pytest.raises(
        RuntimeError, match=r"2 of 10 lanes failed. Lanes \[3\]: The initialization"
    ):
        ddln.sweep(broken, LOSS, 2.0, throw=True, **SETTINGS)
    # Chunks may end in another order: the short last one before the second.
    assert len(calls) == 3
    assert calls[-1] == (10, 10, 2)
    assert np.all(np.diff([done for done, _, _ in calls]) >= 2)


def test_observe_keeps_only_what_is_wanted():
    observe = {"observe": lambda flow: {"l1": jnp.sum(jnp.abs(flow.theta[-1]))}}
    result = ddln.sweep(SQUARES, LOSS, 2.0, **FAST, **observe)
    full = ddln.sweep(SQUARES, LOSS, 2.0, **FAST)
    assert result.theta is None
    np.testing.assert_allclose(result.values["l1"], np.abs(full.theta[:, -1]).sum(-1), rtol=1e-9)


def test_a_chunk_that_does_not_fit_in_memory_is_halved(monkeypatch):
    whole = ddln.sweep(SQUARES, LOSS, 2.0, **FAST)
    run = _plan.Program.run

    def small_memory(program, start, stop):
        if program.plan.width > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return run(program, start, stop)

    monkeypatch.setattr(_plan.Program, "run", small_memory)
    with pytest.warns(UserWarning, match="do not fit in memory; the sweep goes on with") as warned:
        result = ddln.sweep(SQUARES, LOSS, 2.0, chunk_size=10, **FAST)
    assert [int(str(w.message).split()[2]) for w in warned] == [10, 5]
    np.testing.assert_allclose(result.theta, whole.theta, rtol=1e-10, atol=1e-12)

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(_plan.Program, "run", full)
    with (
        pytest.warns(UserWarning, match="do not fit"),
        pytest.raises(MemoryError, match=r"One lane does not fit .* `observe`"),
    ):
        ddln.sweep(SQUARES, LOSS, 2.0, chunk_size=2, **FAST)

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(_plan.Program, "run", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        ddln.sweep(SQUARES, LOSS, 2.0, chunk_size=10, **FAST)


def test_float32_that_underflows_says_so():
    layers = np.asarray(STACK.layers, np.float32)
    layers[4] *= np.float32(1e-25)
    stack = jax.vmap(ddln.DeepDiagonal)(jnp.asarray(layers))
    loss = ddln.LeastSquares(X.astype(np.float32), Y.astype(np.float32))
    result = ddln.sweep(stack, loss, 2.0, rtol=1e-3, atol=1e-6, **FAST)
    ((reason, lanes),) = result.failures().items()
    assert "Use float64" in reason
    np.testing.assert_array_equal(lanes, [4])


def test_chunks_share_one_compilation_which_may_be_made_before():
    traces = []

    def loss(theta):
        traces.append(1)
        return jnp.sum((X @ theta - Y) ** 2)

    ddln.compile_sweep(SQUARES, loss, 1.0, chunk_size=3, solver=diffrax.Tsit5())
    first = len(traces)
    assert first > 0
    for t1, rtol in ((1.0, 1e-6), (2.0, 1e-5)):
        settings = {"chunk_size": 3, "solver": diffrax.Tsit5(), "rtol": rtol}
        ddln.sweep(SQUARES, loss, t1, progress=False, **settings)
    assert len(traces) == first
    with pytest.raises(ValueError, match="`t1` must be finite and positive"):
        ddln.compile_sweep(STACK, loss, -1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t1": -1.0}, "`t1` must be finite and positive"),
        ({"ts": [2.0, 1.0]}, "`ts` must be increasing"),
        ({"chunk_size": 0}, "`chunk_size` must be at least 1"),
        ({"devices": []}, "`devices` must name at least one device"),
        ({"coordinates": "polar"}, "`coordinates` must be one of"),
        ({"initializations": ddln.Identity(jnp.array(1.0))}, "must have one leading axis"),
        ({"loss": ddln.LeastSquares(X[:, :5], Y)}, r"the effective parameter has shape \(6,\)"),
    ],
)
def test_bad_arguments(arguments, message):
    call = {"initializations": STACK, "loss": LOSS, "t1": 1.0, "progress": False}
    with pytest.raises(ValueError, match=message):
        ddln.sweep(**(call | arguments))
