"""The potential of a sum (`_sum`), against SciPy's flow map of all weights and SciPy's minimization."""

import flow_map_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

import ddln

RNG = np.random.default_rng(2)
DEEP, U, V = RNG.normal(size=(3, 3)), *RNG.uniform(0.5, 1.5, (2, 3))
SHORT = RNG.normal(size=(2, 3))
OFFSET = np.array([0.5, -1.0, 2.0])
START = ddln.Sum(
    ddln.Constant(OFFSET),
    ddln.DeepDiagonal(DEEP, -0.5),
    ddln.DeepDiagonal(SHORT),
    ddln.PowerDifference(U, V, 3),
)
W = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(START)])
# Within the ranges of all terms.
XI = np.array([0.3, -0.2, 0.25])


def effective(w):
    deep, short, powers = w[:9].reshape(3, 3), w[9:15].reshape(2, 3), w[15:].reshape(2, 3)
    theta = OFFSET - 0.5 * jnp.prod(deep, axis=0) + jnp.prod(short, axis=0)
    return theta + powers[0] ** 3 - powers[1] ** 3


def everything(start, theta, xi):
    q = ddln.potential(start)
    return {
        "mirror": q.mirror_map(theta),
        "inverse": q.inverse_mirror_map(xi),
        "value": q.value(theta),
        "conjugate": q.conjugate(xi),
        "hessian": q.hessian_diagonal(theta),
        "bregman": q.bregman(theta, 0.5 * theta),
        "defined": q.value(theta)
        - q.value(0.5 * theta)
        - jnp.sum(q.mirror_map(0.5 * theta) * theta * 0.5),
        "start": jnp.concatenate([q.mirror_map(q.start), q.value(q.start)[None]]),
    }


def test_methods_and_derivatives():
    theta, conjugate = reference.dual_path(effective, W, XI)
    ahead, behind = (reference.dual_path(effective, W, XI + s * 1e-4)[0] for s in (1, -1))
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), START)

    def along(step):
        moved = jax.tree.map(lambda w, way: w + step * way, START, direction)
        return everything(moved, jnp.asarray(theta) * (1 + step), jnp.asarray(XI) * (1 + step))

    steps = jnp.asarray([0.0, 1e-6, -1e-6])
    values, slopes = jax.jit(jax.vmap(lambda s: jax.jvp(along, (s,), (1.0,))))(steps)
    found = jax.tree.map(lambda leaf: leaf[0], values)
    np.testing.assert_allclose(found["inverse"], theta, rtol=1e-10)
    np.testing.assert_allclose(found["mirror"], XI, rtol=1e-10)
    np.testing.assert_allclose(found["conjugate"], conjugate, rtol=1e-10)
    np.testing.assert_allclose(found["value"], XI @ theta - conjugate, rtol=1e-9)
    np.testing.assert_allclose(found["hessian"], 2e-4 / (ahead - behind), rtol=1e-6)
    np.testing.assert_allclose(found["bregman"], found["defined"], rtol=1e-9)
    np.testing.assert_allclose(found["start"], 0, atol=1e-15)
    for name, slope in slopes.items():
        difference = (values[name][1] - values[name][2]) / 2e-6
        np.testing.assert_allclose(slope[0], difference, rtol=1e-6, atol=1e-8, err_msg=name)


def test_value_is_the_infimal_convolution():
    one, two = (ddln.DeepDiagonal(layers[:, :1]) for layers in (DEEP, SHORT))
    total = ddln.potential(ddln.Sum(one, two))
    q, p = ddln.potential(one), ddln.potential(two)
    both = jax.jit(lambda a, b: q.value(a) + p.value(b))
    for theta in (2.0, -1.0):
        split = minimize_scalar(
            lambda a, theta=theta: float(both(jnp.asarray([a]), jnp.asarray([theta - a]))),
            bracket=(-1.0, 1.0),
            options={"xtol": 1e-10},
        )
        np.testing.assert_allclose(total.value(jnp.asarray([theta])), split.fun, rtol=1e-10)


def test_domains_are_those_of_the_terms_together():
    # A tie keeps theta positive in the first coordinate alone; the second term starts frozen there.
    tied = ddln.DeepDiagonal([[1.0, 1.0], [1.0, 2.0]])
    still = ddln.DeepDiagonal([[0.0, 1.0], [0.0, 1.0], [2.0, 3.0]])
    q = ddln.potential(ddln.Sum(ddln.Constant([0.5, 0.0]), tied, still))
    lower, upper = q.domain
    assert lower.tolist() == [0.5, -np.inf]
    assert upper.tolist() == [np.inf, np.inf]
    # u = v = 1: theta - 1/2 = exp(2 xi), at depth two.
    theta = jnp.asarray([0.5 + np.exp(0.8), float(q.start[1])])
    np.testing.assert_allclose(q.mirror_map(theta), [0.4, 0.0], atol=1e-12)
    np.testing.assert_allclose(q.value(jnp.asarray([0.5, float(q.start[1])])), 0.5, rtol=1e-12)
