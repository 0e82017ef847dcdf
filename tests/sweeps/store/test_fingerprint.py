"""The description of a sweep distinguishes other sweeps, and is the same in every process.

Here is also the digest of a program, of `_program`.
"""

import functools
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.sweeps._sweep import lanes_of
from ddln.sweeps._widths import widths_for
from ddln.sweeps.store._fingerprint import (
    describe_function,
    describe_tree,
    differences,
    fingerprint,
)

SCRIPT = """
import json, jax, numpy as np
jax.config.update("jax_enable_x64", True)
import diffrax, jax.numpy as jnp, ddln, optax
from ddln.sweeps.store import describe_tree
from ddln.sweeps._sweep import lanes_of
from ddln.sweeps._widths import widths_for
X = np.random.default_rng(0).normal(size=(40, 6))
key = jax.random.key(3)
rule = ddln.Initializations(lambda i: ddln.DeepDiagonal.random(jax.random.fold_in(key, i), 3, 6), 9)
loss = ddln.GeneralizedLinear(jnp.asarray(X), jnp.ones(40), lambda p, y: jnp.logaddexp(0.0, p - y))
observe = lambda flow: {"rate": jax.vmap(jax.nn.softplus)(flow.loss)}
lanes = lanes_of(rule, loss, 2.0, widths=widths_for(None), max_steps=100, observe=observe)
print(json.dumps(lanes.describe()))
untraced = lambda a, b: X @ a in {"x", "y", "z"}
tree = [untraced, {"p", "q"}, optax.adam(0.1), diffrax.Kvaerno5(), ddln.RESULTS.successful, np.exp, object()]
print(json.dumps(describe_tree(tree, jax.ShapeDtypeStruct((), int))))
"""


def test_two_processes_agree():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert " at 0x" not in outputs[0]


X = np.random.default_rng(0).normal(size=(4, 6))
KEY = jax.random.key(0)
POWERS = jnp.ones((5, 6))


def rule(key=KEY, scale=0.1, size=5, dtype=float):
    def start(index):
        normal = jax.random.normal(jax.random.fold_in(key, index), (3, 6), dtype)
        return ddln.DeepDiagonal(jnp.asarray(scale, dtype) * normal)

    return ddln.Initializations(start, size)


def described(initializations=None, loss=None, t1=2.0, observe=None, **settings):
    loss = ddln.LeastSquares(X, np.ones(4)) if loss is None else loss
    starts = rule() if initializations is None else initializations
    settings = {"max_steps": 100} | settings
    return lanes_of(
        starts, loss, t1, widths=widths_for(None), observe=observe, **settings
    ).describe()


def test_everything_that_matters_is_distinguished():
    stack = jax.vmap(ddln.DeepDiagonal)(jnp.ones((5, 3, 6)))
    other = jax.vmap(ddln.DeepDiagonal)(jnp.ones((5, 3, 6)).at[4, 0, 0].set(2.0))
    variants = [
        described(),
        described(rule(key=jax.random.key(1))),
        described(rule(scale=0.2)),
        described(rule(size=6)),
        described(stack),
        described(other),
        described(loss=ddln.LeastSquares(X, np.zeros(4))),
        described(loss=ddln.LeastSquares(X, np.ones(4), scale=1.0)),
        described(loss=lambda theta: jnp.sum((X @ theta) ** 2)),
        described(loss=lambda theta: jnp.sum((X @ theta) ** 4)),
        described(t1=3.0),
        described(t1=jnp.inf),
        described(ts=[1.0]),
        described(ts=[1.5]),
        described(ts=np.linspace(0.0, 2.0, 100)),
        described(ts=np.linspace(0.0, 1.0, 100)),
        described(rtol=1e-5),
        described(atol=1e-5),
        described(max_steps=99),
        described(coordinates="full"),
        described(observe=lambda flow: flow.theta),
        described(observe=lambda flow: 2 * flow.theta),
        described(ddln.Initializations(lambda i: ddln.Power(POWERS[i], 3), 5)),
        described(ddln.Initializations(lambda i: ddln.Power(POWERS[i], 4), 5)),
        described(solver=diffrax.Kvaerno5()),
        described(solver=diffrax.Kvaerno5(root_find_max_steps=7)),
    ]
    prints = [fingerprint(variant) for variant in variants]
    assert len(set(prints)) == len(prints)
    for variant in variants:
        json.dumps(variant, allow_nan=False)


def test_names_do_not_matter():
    def renamed(index):
        draw = jax.random.normal(jax.random.fold_in(KEY, index), (3, 6), float)
        return ddln.DeepDiagonal(jnp.asarray(0.1, float) * draw)

    assert described(ddln.Initializations(renamed, 5)) == described()


@pytest.mark.parametrize("value", [1.0, 2.0])
def test_constants_of_inner_programs_count(value):
    table = np.full(100, value)

    def function(x):
        return jax.lax.fori_loop(0, 3, lambda _, carry: carry + jnp.sum(table), x)

    one = jax.ShapeDtypeStruct((), np.float64)
    same = describe_function(function, one)
    table = np.full(100, value)
    assert describe_function(function, one) == same
    table = np.full(100, value + 1)
    assert describe_function(lambda x: function(x), one) != same


def test_differences_name_what_differs():
    old = {"rtol": 1e-6, "loss": {"arrays": {"X": "a", "y": "b"}}, "gone": 1}
    new = {"rtol": 1e-5, "loss": {"arrays": {"X": "a", "y": "c" * 200}}}
    lines = list(differences(old, new))
    assert lines[0] == "gone: 1 in the store, absent now"
    assert lines[1].startswith("loss.arrays.y: b in the store, ccc")
    assert len(lines[1]) < 200
    assert lines[2] == "rtol: 1e-06 in the store, 1e-05 now"


INDEX = jax.ShapeDtypeStruct((), np.dtype(int))
TABLE = jnp.arange(200.0).reshape(50, 4)


class PerLane(eqx.Module):
    """Values of all lanes, or a function of the lane's index."""

    values: Any


class Pair(NamedTuple):
    first: Any
    second: Any


class Shift:
    def __init__(self, by):
        self.by = by

    def apply(self, x, y):
        return x + y + self.by


def closing(value):
    """A function of two arguments, which an index is not enough to trace."""
    return lambda x, y: x + value * y


def described_all(*trees):
    return [json.dumps(describe_tree(tree, INDEX), allow_nan=False) for tree in trees]


def distinguished(*trees):
    descriptions = described_all(*trees)
    return len(set(descriptions)) == len(descriptions)


def test_values_of_each_lane():
    def losses(X=TABLE, kind=ddln.LeastSquares):
        return PerLane(lambda index: kind(X[index][None], jnp.ones(1)))

    def functions(power):
        return PerLane(lambda index: lambda theta: jnp.sum((TABLE[index] @ theta) ** power))

    assert distinguished(
        PerLane(jnp.arange(5.0)),
        PerLane(jnp.arange(5.0).at[4].set(0.0)),
        PerLane(TABLE),
        PerLane(TABLE + 1),
        PerLane({"a": TABLE, "b": jnp.ones(5)}),
        PerLane(lambda index: index),
        PerLane(lambda index: 2 * index),
        losses(),
        losses(TABLE + 1),
        losses(kind=ddln.Logistic),
        functions(2),
        functions(4),
    )
    assert not distinguished(losses(), losses())
    assert not distinguished(functions(2), functions(2))
    # In a module of settings, by the name of the field.
    settings = diffrax.PIDController(PerLane(lambda index: 0.1 * index.astype(float)), 1e-9)
    description = describe_tree(settings, INDEX, without=("norm",))
    assert list(description["rtol"]["values"]) == ["program"]
    assert "norm" not in description


def test_functions_that_cannot_be_traced():
    assert distinguished(
        closing(1.0),
        closing(2.0),
        closing(TABLE),
        closing(TABLE + 1),
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x + 3 * y,
        lambda x, y: x + y * TABLE,
        lambda x, y: x + y * POWERS,
        lambda x, y, z=1: x + y,
        functools.partial(closing(1.0), 2.0),
        functools.partial(closing(1.0), 3.0),
        Shift(1.0).apply,
        Shift(2.0).apply,
        jax.jit(closing(3.0)),
        np.logaddexp,
        np.hypot,
        Shift,
    )
    for make in (lambda: closing(TABLE), lambda: Shift(1.0).apply, lambda: jax.jit(closing(1.0))):
        assert not distinguished(make(), make())


def test_functions_that_refer_to_themselves():
    def odd(x, y):
        return even(x, y - 1)

    def even(x, y):
        return later if y == 0 else odd(x, y - 1)

    def itself(index):
        return itself

    described_all(odd, itself)
    later = 1
    assert later


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1.5, 1.5),
        (float("inf"), "inf"),
        (jnp.asarray(2), 2),
        (np.arange(3), [0, 1, 2]),
        (np.asarray(["a", None], object), ["a", None]),
        (jax.ShapeDtypeStruct((3,), np.float32), "float32[3]"),
        (Pair(1, {"x": (2, [3])}), {"is": "test_fingerprint.Pair", "first": 1, "second": {"x": [2, [3]]}}),
        ({"c", "a", "b"}, ["a", "b", "c"]),
        (PerLane, "test_fingerprint.PerLane"),
        (ddln.Square(jnp.ones(2)), {"weights": [1.0, 1.0]}),
        (np.dtype(float), "dtype('float64')"),
    ],
)  # fmt: skip
def test_leaves_and_containers(value, expected):
    assert describe_tree(value) == expected


@pytest.mark.parametrize("value", [jnp.nan, 1j, jnp.bfloat16(1), jax.random.key(1), "2020-01-01"])
def test_other_arrays_are_described_by_their_bytes_or_entries(value):
    array = np.asarray(value, "datetime64[D]") if isinstance(value, str) else jnp.asarray(value)
    (description,) = described_all(array)
    assert "sha256" in description or description == "[0, 1]"


def test_arrays_that_are_traced():
    descriptions = []

    def function(x):
        descriptions.append(describe_tree({"x": x, "closing": closing(x)}))
        return x

    jax.eval_shape(function, jax.ShapeDtypeStruct((3,), float))
    assert descriptions[0]["x"] == "float64[3]"
    assert descriptions[0]["closing"]["closure"] == {"value": "float64[3]"}
