"""The 1/t bound of Theorem 1 on 1000 random problems, and by how much it holds."""

import functools

import jax
import numpy as np

import ddln
from ddln.theory import bregman_rate

LANES = 1000
TS = np.geomspace(1e-2, 100.0, 24)


def problems():
    """Random data, half of it noisy and overdetermined, and starts over two decades of scale."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(LANES, 6, 4)) / 2
    X[: LANES // 2, 2:] = 0
    scales = 10 ** rng.uniform(-1.5, 0.5, (LANES, 1, 1))
    return X, rng.normal(size=(LANES, 6)), scales * rng.normal(size=(LANES, 3, 4))


# Without these optimizations it takes three times as long to run.
@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
@jax.vmap
def run(X, y, layers):
    loss, network = ddln.LeastSquares(X, y), ddln.DeepDiagonal(layers)
    flow = ddln.gradient_flow(network, loss, TS[-1], ts=TS, rtol=1e-9, atol=1e-11, throw=False)
    end = ddln.limit(network, loss, throw=False)
    return bregman_rate(flow, loss, end.theta), ddln.is_okay(flow.result) & ddln.is_okay(end.result)


def test_the_bound_holds_on_1000_random_problems():
    """For the minimizer of smallest Q, where the bound is sharpest.

    t (L(theta(t)) - L*) / Q(theta*) is at most 1. Its largest value over time has the quantiles 0.01,
    0.10 (5 %), 0.17, 0.23 (median), 0.29, 0.36 (95 %) and 0.44 over the problems: the bound is never
    better than a factor of 2, and rarely worse than 10. (For the minimizer of smallest norm instead,
    Q(theta*) is larger, three times and more in 5 % of the problems.)
    """
    check, okay = run(*problems())
    assert np.all(okay)
    assert np.all(check.holds)
    largest = np.max(check.lhs / check.rhs, axis=1)
    # A bound with half of Q still holds, one with two fifths does not.
    assert 0.4 < largest.max() < 0.5
