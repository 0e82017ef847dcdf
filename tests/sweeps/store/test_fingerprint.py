"""The description of a sweep tells other sweeps apart, and is the same in every process."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.sweeps._sweep import _checked
from ddln.sweeps.store._fingerprint import describe_function, differences, fingerprint

SCRIPT = """
import json, jax, numpy as np
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, ddln, optimistix
from ddln.sweeps._sweep import _checked
X = np.random.default_rng(0).normal(size=(40, 6))
key = jax.random.key(3)
rule = ddln.Initializations(lambda i: ddln.DeepDiagonal.random(jax.random.fold_in(key, i), 3, 6), 9)
loss = ddln.GeneralizedLinear(jnp.asarray(X), jnp.ones(40), lambda p, y: jnp.logaddexp(0.0, p - y))
observe = lambda flow: {"rate": jax.vmap(jax.nn.softplus)(flow.loss)}
_, lanes = _checked(rule, loss, 2.0, None, "auto", None, 1e-6, 1e-9, 100, observe)
print(json.dumps(lanes.describe()))
"""


def test_two_processes_agree():
    told = [
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
    assert told[0] == told[1]
    assert " at 0x" not in told[0]


X = np.random.default_rng(0).normal(size=(4, 6))
KEY = jax.random.key(0)


def rule(key=KEY, scale=0.1, size=5, dtype=float):
    def start(index):
        normal = jax.random.normal(jax.random.fold_in(key, index), (3, 6), dtype)
        return ddln.DeepDiagonal(jnp.asarray(scale, dtype) * normal)

    return ddln.Initializations(start, size)


def described(initializations=None, loss=None, t1=2.0, observe=None, **settings):
    loss = ddln.LeastSquares(X, np.ones(4)) if loss is None else loss
    options = {"ts": None, "coordinates": "auto", "solver": None, "rtol": 1e-6, "atol": 1e-9}
    options |= {"max_steps": 100} | settings
    starts = rule() if initializations is None else initializations
    _, lanes = _checked(starts, loss, t1, **options, observe=observe)
    return lanes.describe()


def test_everything_that_matters_is_told_apart():
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
    ]
    prints = [fingerprint(variant) for variant in variants]
    assert len(set(prints)) == len(prints)
    for variant in variants:
        json.dumps(variant, allow_nan=False)


def test_what_does_not_matter_is_not_told():
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
