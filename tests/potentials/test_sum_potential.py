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
XI = np.array([0.1, -0.1, 0.1])


def effective(w):
    deep, short, powers = w[:9].reshape(3, 3), w[9:15].reshape(2, 3), w[15:].reshape(2, 3)
    theta = OFFSET - 0.5 * jnp.prod(deep, axis=0) + jnp.prod(short, axis=0)
    return theta + powers[0] ** 3 - powers[1] ** 3


def test_methods_and_derivatives():
    theta, conjugate = reference.dual_path(effective, W, XI)
    ahead, behind = (reference.dual_path(effective, W, XI + s * 1e-4)[0] for s in (1, -1))
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), START)

    def along(step):
        q = ddln.potential(jax.tree.map(lambda w, way: w + step * way, START, direction))
        point = jnp.asarray(theta) * (1 + step)
        return q.mirror_map(point), q.value(point)

    q, xi = ddln.potential(START), jnp.asarray(XI)
    np.testing.assert_allclose(q.inverse_mirror_map(xi), theta, rtol=1e-10)
    np.testing.assert_allclose(q.conjugate(xi), conjugate, rtol=1e-10)
    found = q.hessian_diagonal(jnp.asarray(theta))
    np.testing.assert_allclose(found, 2e-4 / (ahead - behind), rtol=1e-6)
    steps = jnp.asarray([0.0, 1e-6, -1e-6])
    values, slopes = jax.jit(jax.vmap(lambda s: jax.jvp(along, (s,), (1.0,))))(steps)
    np.testing.assert_allclose(values[0][0], XI, rtol=1e-10)
    np.testing.assert_allclose(values[1][0], XI @ theta - conjugate, rtol=1e-9)
    for value, slope in zip(values, slopes, strict=True):
        np.testing.assert_allclose(slope[0], (value[1] - value[2]) / 2e-6, rtol=1e-6, atol=1e-8)


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
        np.testing.assert_allclose(
            total.value(jnp.asarray([theta])),
            split.fun,  # pyright: ignore[reportAttributeAccessIssue]
            rtol=1e-10,
        )
    # The divergence by its definition, and both zeros of the start.
    a, b = jnp.asarray([2.0]), jnp.asarray([-1.0])
    defined = total.value(a) - total.value(b) - jnp.sum(total.mirror_map(b) * (a - b))
    np.testing.assert_allclose(total.bregman(a, b), defined, rtol=1e-10)
    np.testing.assert_allclose(total.mirror_map(total.start), 0, atol=1e-15)
    np.testing.assert_allclose(total.value(total.start), 0, atol=1e-15)


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
