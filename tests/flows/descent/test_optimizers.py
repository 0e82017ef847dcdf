"""Optimizers of optax beyond gradient descent: that they run, and what theory says of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ddln

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5))
LOSS = ddln.LeastSquares(X, RNG.normal(size=3))
LAYERS = RNG.choice([-1.0, 1.0], (2, 5)) * RNG.uniform(0.5, 1.5, (2, 5))
NETWORK = ddln.DeepDiagonal(LAYERS)
# optax mixes dtypes.
mixed = functools.partial(jax.numpy_dtype_promotion, "standard")


def value(weights):
    return LOSS(ddln.DeepDiagonal(weights)())


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_adam_tends_to_sign_flow(memory):
    """At the time gamma k, with an error of order gamma."""
    rates, t1 = jnp.asarray([1e-3, 5e-5]), 0.4

    def end(rate, steps):
        optimizer = optax.adam(rate, b1=memory, b2=memory, eps=1e-12)
        return ddln.descend(NETWORK, LOSS, optimizer, steps, dual=False).theta[-1]

    with mixed():
        found = [end(rate, round(t1 / float(rate))) for rate in rates]
    flow = ddln.steepest_flow(NETWORK, LOSS, t1, exponent=1.0, width=1e-5, rtol=1e-7)
    far, near = (np.abs(theta - flow.theta[-1]).max() for theta in found)
    assert near < far / 3
    assert near < 5e-3


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_decoupled_decay_shrinks_gaps_of_absolute_values(name):
    """Without memory both are sign descent: |u| - |v| times 1 - gamma lambda a step, exactly."""
    rate, decay, steps = 1e-3, 0.5, 200
    settings = {"eps": 1e-300} if name == "adamw" else {}
    optimizer = getattr(optax, name)(rate, b1=0.0, b2=0.0, weight_decay=decay, **settings)
    with mixed():
        run = ddln.descend(NETWORK, LOSS, optimizer, steps, dual=False)
    layers = np.asarray(run.final.layers)
    assert (layers * LAYERS > 0).all()
    gap, start = (np.abs(w[0]) - np.abs(w[1]) for w in (layers, LAYERS))
    np.testing.assert_allclose(gap, start * (1 - rate * decay) ** steps, rtol=1e-10)


RUNS = {
    "rmsprop": optax.rmsprop(0.01),
    "sophia": optax.contrib.sophia(0.01),
    "muon": optax.contrib.muon(0.01),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_loss_falls(name):
    with mixed():
        run = ddln.descend(NETWORK, LOSS, RUNS[name], 30, dual=False)
    assert run.loss[-1] < 0.9 * value(jnp.asarray(LAYERS))


def test_ascents_inside_of_a_step_get_the_gradient():
    rate, radius = 0.05, 0.1
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(radius))
    optimizer = optax.contrib.sam(optax.sgd(rate), ascent, opaque_mode=True)
    with mixed():
        run = ddln.descend(NETWORK, LOSS, optimizer, 3, dual=False)
    weights, gradient = jnp.asarray(LAYERS), jax.grad(value)
    for _ in range(3):
        d = gradient(weights)
        weights = weights - rate * gradient(weights + radius * d / jnp.linalg.norm(d))
    np.testing.assert_allclose(run.final.layers, weights, rtol=1e-12)


def test_other_needs_are_named():
    optimizer = optax.lookahead(optax.sgd(0.1), 3, 0.5)
    with mixed(), pytest.raises(ValueError, match="has no attribute 'fast'"):
        ddln.descend(NETWORK, LOSS, optimizer, 3, dual=False)
