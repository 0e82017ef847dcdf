"""Models of flax and haiku in `ddln.FromFunction`: the row of parameters on the page "In your own program".

Neither package is needed for anything else: the tests are skipped without them, and continuous integration
installs both.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

# A linear layer of each package against the same layer as plain arrays, in a process of its own: the packages
# warn when they are imported.
SCRIPT = """
import sys
import diffrax, jax, jax.numpy as jnp, numpy as np
import ddln

jax.config.update("jax_enable_x64", True)
x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))
loss = ddln.LeastSquares(np.eye(3), np.array([1.0, -1.0, 0.5]))


def linen():
    import flax.linen as nn

    net = nn.Dense(1, param_dtype=jnp.float64)
    return lambda w: net.apply(w, x)[:, 0], net.init(jax.random.key(0), x)


def nnx():
    from flax import nnx

    layer = nnx.Linear(2, 1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    return lambda w: nnx.merge(graph, w)(x)[:, 0], state


def haiku():
    import haiku as hk

    net = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(1)(x)[:, 0]))
    return lambda w: net.apply(w, x), net.init(jax.random.key(0), x)


def flow(function, weights):
    return ddln.gradient_flow(
        ddln.FromFunction(function, weights), loss, 0.5, solver=diffrax.Tsit5(), rtol=1e-9
    )


function, weights = {"linen": linen, "nnx": nnx, "haiku": haiku}[sys.argv[1]]()
found = flow(function, weights)
kernel, bias = sorted(jax.tree.leaves(weights), key=lambda leaf: -leaf.ndim)
plain = flow(lambda w: x @ w[0][:, 0] + w[1], (kernel, bias))
np.testing.assert_allclose(found.theta, plain.theta, rtol=1e-12)
assert float(loss(found.theta[-1])) < float(loss(function(weights)))
assert jax.tree.structure(found.final.weights) == jax.tree.structure(weights)
"""


@pytest.mark.parametrize(
    ("package", "kind"), [("flax", "linen"), ("flax", "nnx"), ("haiku", "haiku")]
)
def test_a_layer_trains_as_its_arrays_do(package, kind):
    if not (os.environ.get("DDLN_REQUIRE_FLAX") or importlib.util.find_spec(package)):
        pytest.skip(f"{package} is not installed")
    subprocess.run([sys.executable, "-c", SCRIPT, kind], check=True)
