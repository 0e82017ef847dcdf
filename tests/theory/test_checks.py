"""The checks on flows of the library itself, at its own tolerances."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from theory_cases import D, problem, quick_jit

from ddln import DeepDiagonal, LeastSquares, descend
from ddln.flows import gradient_flow
from ddln.theory import checks, conservation, squared_layer_rate, tangent_kernel_rate

LANES = 24


def problems(dtype):
    """Problems of four kinds from random layers of depth 4; every sixth start is balanced."""
    rng = np.random.default_rng(5)
    kinds = ("underdetermined", "noisy", "rank deficient", "square")
    data = [problem(rng, kinds[lane % 4]) for lane in range(LANES)]
    X, y = (np.stack(arrays) for arrays in zip(*data, strict=True))
    layers = rng.standard_normal((LANES, 4, D))
    layers[::6] = np.abs(layers[::6, :1])
    return tuple(jnp.asarray(array, dtype) for array in (X, y, layers))


def test_reduced_coordinates_in_float32():
    @quick_jit
    @jax.vmap
    def run(X, y, layers):
        loss = LeastSquares(X, y)
        ts = jnp.geomspace(0.01, 30, 50, dtype="float32")
        flow = gradient_flow(
            DeepDiagonal(layers), loss, 30.5, ts=ts, rtol=1e-4, atol=1e-7, throw=False
        )
        return checks(flow, loss)

    balanced = np.arange(LANES) % 6 == 0
    found = run(*problems("float32"))
    assert set(found["assumption_a"].status[balanced]) == {"violated"}
    for name in ("metric_lower_bound", "pl_rate", "pl_rate_zero_last", "sign_preservation"):
        assert set(found[name].status[balanced]) == {"hypothesis not met"}
    for name, check in found.items():
        assert check.lhs.dtype == jnp.float32
        if name != "assumption_a":
            assert "violated" not in check.status, check
        if name != "pl_rate_zero_last":
            assert "hypothesis not met" not in check.status[~balanced], check
            assert np.mean(check.status[~balanced] == "holds") >= 0.8, check


def test_dense_output_decides_between_few_times():
    @quick_jit
    @jax.vmap
    def run(X, y, layers):
        loss = LeastSquares(X, y)
        flow = gradient_flow(
            DeepDiagonal(layers),
            loss,
            30.0,
            ts=jnp.geomspace(0.3, 30, 6),
            coordinates="full",
            rtol=1e-8,
            atol=1e-11,
            dense=True,
            max_steps=1024,
            throw=False,
        )
        sparse = tangent_kernel_rate(dataclasses.replace(flow, interpolation=None), loss)
        dense = tangent_kernel_rate(flow, loss)
        return sparse, dense, conservation(flow, loss), squared_layer_rate(flow, loss)

    sparse, dense, *laws = run(*problems("float64"))
    assert np.sum(sparse.status == "inconclusive") > np.sum(dense.status == "inconclusive")
    assert "violated" not in [*sparse.status, *dense.status]
    assert np.sum(sparse.compared) < np.sum(dense.compared)
    for check in laws:
        assert set(check.status) == {"holds"}, check


def test_descents_are_refused():
    """Their times are numbers of steps, and the statements are of flows."""
    network, loss = DeepDiagonal(np.ones((2, 2))), LeastSquares(np.eye(2), np.ones(2))
    run = descend(network, loss, optax.sgd(0.1), 3)
    for record in (run.record, None):
        with pytest.raises(
            ValueError, match="must be a gradient flow, but its method is 'descend'"
        ):
            checks(dataclasses.replace(run, record=record), loss)
