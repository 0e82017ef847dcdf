"""The potential of a deep diagonal network and its mirror map at d = 100000.

The values are compared with those of 100 coordinates by SciPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import ddln

DIM = 100_000


def mirror_by_scipy(layers, theta):
    """int dr / prod_j sqrt(r^2 + gap_j) from v_0 to the v with theta(v) = theta, by SciPy."""
    order = np.argsort(np.abs(layers))
    start, others = layers[order[0]], layers[order[1:]]
    sign, gaps = np.prod(np.sign(others)), others**2 - start**2

    def speed(v):
        return sign * np.prod(np.sqrt(v**2 + gaps))

    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        below = middle * abs(speed(middle)) < sign * theta
        low, high = (middle, high) if below else (low, middle)
    return quad(lambda v: 1 / speed(v), start, low, epsabs=0, epsrel=1e-11, limit=500)[0]


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_value_and_mirror_map(benchmark, depth):
    rng = np.random.default_rng(depth)
    layers, theta = rng.normal(size=(depth, DIM)), rng.normal(size=DIM)

    @jax.jit
    def run(q, theta):
        return q.value(theta), q.mirror_map(theta)

    arguments = ddln.potential(ddln.DeepDiagonal(layers)), jnp.asarray(theta)
    _, xi = run(*arguments)
    expected = [mirror_by_scipy(layers[:, i], theta[i]) for i in range(100)]
    np.testing.assert_allclose(xi[:100], expected, rtol=1e-8)
    benchmark.extra_info.update(group="potential", row=f"depth {depth}")
    benchmark.pedantic(lambda: jax.block_until_ready(run(*arguments)), rounds=10)
