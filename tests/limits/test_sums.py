"""Flows and limits of sums, four-vector networks and real depths, against SciPy's flows of their weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 5))
Y = RNG.normal(size=3)
ONES = np.ones(5)
FOUR = RNG.normal(size=(4, 5))
PAIRS = RNG.normal(size=(3, 2, 5))
DEEP = RNG.normal(size=(3, 5))
SHORT = RNG.normal(size=(2, 5))
U, V = RNG.uniform(0.5, 1.5, (2, 5))
ORDER = np.array([2, 0, 4, 1, 3])


def product_slopes(layers):
    return np.stack(
        [np.prod(np.delete(layers, k, axis=0), axis=0) for k in range(len(layers))]
    ).reshape(-1)


def four(w):
    a, b, c, d = w.reshape(4, 5)
    return a * b - c * d, np.concatenate([b, a, -d, -c])


def wide(w):
    factors = 0.7 * np.array([1, -1, 1])[:, None]
    a, b = w.reshape(3, 2, 5).transpose(1, 0, 2)
    return np.sum(factors * a * b, axis=0), np.stack([factors * b, factors * a], axis=1).reshape(-1)


def mixed(w):
    deep, short, powers = w[:15].reshape(3, 5), w[15:25].reshape(2, 5), w[25:].reshape(2, 5)
    theta = ONES + np.prod(deep, axis=0) - 0.7 * np.prod(short, axis=0)
    slopes = [product_slopes(deep), -0.7 * product_slopes(short)]
    return theta + powers[0] ** 3 - powers[1] ** 3, np.concatenate(
        [*slopes, 3 * powers[0] ** 2, -3 * powers[1] ** 2]
    )


def gated(w):
    tied, gates, vector = w[:10].reshape(2, 5), w[10:20].reshape(2, 5), w[20:]
    # The gate of coordinate i is that of the group which it is alone in.
    layers = np.stack([*gates[:, np.argsort(ORDER)], vector])
    slopes = product_slopes(layers).reshape(3, 5)
    theta = 0.8 * tied[0] ** 2 * tied[1] + np.prod(layers, axis=0)
    return theta, np.concatenate(
        [1.6 * tied[0] * tied[1], 0.8 * tied[0] ** 2, *slopes[:2, ORDER], slopes[2]]
    )


def real(w):
    return w[:5] ** 2.5 - w[5:] ** 2.5, np.concatenate([2.5 * w[:5] ** 1.5, -2.5 * w[5:] ** 1.5])


# A start, and theta and d theta / d w of its weights by NumPy.
STARTS = {
    "four vectors": (ddln.FourVector(*FOUR), four),
    "three pairs": (
        ddln.Sum(
            *(ddln.DeepDiagonal(PAIRS[k], factor) for k, factor in enumerate((0.7, -0.7, 0.7)))
        ),
        wide,
    ),
    "mixed depths": (
        ddln.Sum(
            ddln.Constant(ONES),
            ddln.DeepDiagonal(DEEP),
            ddln.Sum(ddln.DeepDiagonal(SHORT, -0.7), ddln.PowerDifference(U, V, 3)),
        ),
        mixed,
    ),
    "tied and gated": (
        ddln.Sum(ddln.Tied(SHORT, [2, 1], 0.8), ddln.Grouped(DEEP[:2], V, [[i] for i in ORDER])),
        gated,
    ),
    "depth 2.5": (ddln.PowerDifference(U, V, 2.5), real),
}
EACH = pytest.mark.parametrize("name", STARTS)
LOSS = ddln.LeastSquares(X, Y)


def flat(parameterization):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameterization)])


def integrated(name, t1):
    start, theta_and_slopes = STARTS[name]

    def velocity(t, w):
        theta, slopes = theta_and_slopes(w)
        g = np.tile(X.T @ (X @ theta - Y), (len(w) // 5, 1))
        if name == "tied and gated":
            g[2:4] = g[2:4, ORDER]
        return -slopes * g.reshape(-1)

    flow = solve_ivp(velocity, (0, t1), flat(start), method="LSODA", rtol=1e-12, atol=1e-14)
    return flow.y[:, -1]


@EACH
def test_flow_in_reduced_coordinates(name):
    start, theta_and_slopes = STARTS[name]
    flow = ddln.gradient_flow(start, LOSS, 0.5, rtol=1e-9, atol=1e-12)
    w = integrated(name, 0.5)
    assert flow.method == "reduced, Rodas5P"
    np.testing.assert_allclose(flow.theta[-1], theta_and_slopes(w)[0], atol=1e-7)
    np.testing.assert_allclose(flat(flow.final), w, atol=1e-7)


def test_weight_decay_of_sums_in_reduced_coordinates():
    start = ddln.Sum(
        ddln.Constant(ONES),
        ddln.DeepDiagonal(DEEP),
        ddln.Sum(ddln.FourVector(*FOUR), ddln.DeepDiagonal(SHORT, -1.0)),
        ddln.PowerDifference(U, V, 3),
    )

    def velocity(t, w):
        deep, pairs, short = w[:15].reshape(3, 5), w[15:35], w[35:45].reshape(2, 5)
        u, v = w[45:].reshape(2, 5)
        of_pairs, pair_slopes = four(pairs)
        theta = ONES + np.prod(deep, axis=0) + of_pairs - np.prod(short, axis=0) + u**3 - v**3
        slopes = [product_slopes(deep), pair_slopes, -product_slopes(short), 3 * u**2, -3 * v**2]
        g = X.T @ (X @ theta - Y)
        return -np.concatenate(slopes) * np.tile(g, 11) - 0.3 * np.exp(-t) * w

    w = solve_ivp(velocity, (0, 1), flat(start), method="LSODA", rtol=1e-12, atol=1e-14).y[:, -1]
    flow = ddln.gradient_flow(
        start, LOSS, 1.0, weight_decay=lambda t: 0.3 * jnp.exp(-t), rtol=1e-9, atol=1e-12
    )
    assert flow.method == "reduced, Rodas5P"
    np.testing.assert_allclose(flat(flow.final), w, atol=1e-7)
    np.testing.assert_allclose(flow.theta[-1], flow.final.effective(), rtol=1e-10)


@EACH
def test_limit(name):
    start, theta_and_slopes = STARTS[name]
    w = integrated(name, 1e4)
    assert np.abs(X @ theta_and_slopes(w)[0] - Y).max() < 1e-9
    end = ddln.limit(start, LOSS)
    assert end.method == "path"
    assert max(float(end.residual), float(end.gap)) < 1e-12
    np.testing.assert_allclose(end.theta, theta_and_slopes(w)[0], atol=1e-8)
    np.testing.assert_allclose(flat(end.parameterization), w, atol=1e-8)


def test_limits_in_lanes_their_derivatives_and_a_bad_start():
    start = STARTS["mixed depths"][0]
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), start)

    def end(step):
        moved = jax.tree.map(lambda w, way: w + step * way, start, direction)
        found = ddln.limit(moved, ddln.LeastSquares(X, Y + step), throw=False)
        return jnp.concatenate(
            [found.theta, *map(jnp.ravel, jax.tree.leaves(found.parameterization))]
        ), (ddln.is_okay(found.result))

    steps = jnp.asarray([0.0, 1e-5, -1e-5, jnp.nan])
    (values, okay), (slopes, _) = jax.jit(jax.vmap(lambda s: jax.jvp(end, (s,), (1.0,))))(steps)
    np.testing.assert_array_equal(okay, [True, True, True, False])
    assert np.isnan(values[3, :5]).all()
    # Rounding of the values over the step, and the third derivative times its square.
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_large_ends_and_small_starts():
    # Ends far beyond the starts: xi is near the ends of its range in some terms.
    def end(scale):
        layers = scale * jnp.asarray(DEEP), jnp.asarray(SHORT) * scale**1.5
        start = ddln.Sum(
            ddln.DeepDiagonal(layers[0]),
            ddln.DeepDiagonal(layers[0][::-1] * 1.1),
            ddln.DeepDiagonal(layers[1]),
        )
        return ddln.limit(start, ddln.LeastSquares(X, 100 * Y), throw=False)

    ends = jax.jit(jax.vmap(end))(jnp.asarray([1e-3, 1e-1, 10.0]))
    assert ddln.is_okay(ends.result).all()
    np.testing.assert_allclose(X @ ends.theta.T, 100 * Y[:, None] * np.ones(3), rtol=1e-9)
    # Every term sees the same dual, and conserves its gaps.
    scales = np.array([1e-3, 1e-1, 10.0])
    for lane, scale in enumerate(scales):
        for term, start in enumerate((DEEP, 1.1 * DEEP[::-1])):
            layers = np.asarray(ends.parameterization.terms[term].layers[lane])
            # At scale 10 the layers move little, so that xi can be read off their theta.
            if scale == 10.0:
                q = ddln.potential(ddln.DeepDiagonal(scale * start))
                xi = q.mirror_map(jnp.prod(jnp.asarray(layers), axis=0))
                np.testing.assert_allclose(xi, ends.dual[lane], rtol=1e-8, atol=1e-14)
            gaps = (scale * start) ** 2 - (scale * start[:1]) ** 2
            size = np.square(layers).max(axis=0)
            assert (np.abs(layers**2 - layers[:1] ** 2 - gaps) < 1e-13 * size).all()


def test_sweep_of_residual_networks():
    stack = jax.vmap(lambda s: ddln.Sum(ddln.Constant(ONES), ddln.DeepDiagonal(s * DEEP)))(
        jnp.asarray([0.3, jnp.nan, 1.0])
    )
    swept = ddln.sweep(stack, LOSS, jnp.inf, progress=False)
    np.testing.assert_array_equal(ddln.is_okay(swept.result), [True, False, True])
    assert swept.theta is not None
    np.testing.assert_allclose(X @ swept.theta[[0, 2], -1].T, np.tile(Y[:, None], 2), atol=1e-8)


def test_the_small_scale_limit_of_four_vectors_has_the_least_l1_norm():
    path = ddln.vanishing_limit(ddln.FourVector(*FOUR), LOSS)
    np.testing.assert_allclose(path.theta[-1], ddln.minimum_l1(X, Y), atol=1e-10)


def test_diagnosis_of_sums():
    found = theory.diagnose(
        ddln.Sum(ddln.Constant(ONES[:2]), ddln.DeepDiagonal(DEEP[:, :2]), ddln.Square(U[:2]))
    )
    assert (found.mirror_flow, found.potential, found.separable) == ("yes", "closed form", True)
    assert found.homogeneity is None
    # L - 1 gaps for each coordinate of the network, and one law between the two terms.
    assert found.conservation.count == 6
    matrices = ddln.Sum(
        ddln.MatrixFactorization(DEEP[:2, :2], DEEP[1:, :2]), ddln.Identity(SHORT[:, :2])
    )
    with pytest.raises(ValueError, match="commut"):
        ddln.potential(matrices)


def test_a_weight_that_reaches_zero_stays_there():
    # w' = -1.5 w^(1/2) g with g = theta + 1 > 0 for depth 1.5: zero is reached in finite time.
    loss = ddln.LeastSquares(np.eye(1), -np.ones(1))
    flow = ddln.gradient_flow(
        ddln.Power([0.5], 1.5), loss, 5.0, ts=[0.2, 5.0], rtol=1e-8, atol=1e-10, max_steps=4096
    )
    expected = solve_ivp(
        lambda t, w: -1.5 * np.sqrt(w) * (w**1.5 + 1), (0, 0.2), [0.5], rtol=1e-11, atol=1e-13
    ).y[:, -1]
    np.testing.assert_allclose(flow.theta[0], expected**1.5, atol=1e-7)
    np.testing.assert_allclose(flow.theta[1], 0, atol=1e-9)
    assert eqx.tree_equal(flow.result == ddln.RESULTS.successful, jnp.asarray(True))


def test_the_small_scale_limit_of_a_sum_of_deep_networks():
    # theta = c u v w with w_0 = 0 and u = v = a: the range of xi ends at pi / (2 c a). That of the first
    # term ends first at coordinate 0, that of the second at coordinate 1, both at pi / 2.
    sizes = np.array([1.0, 0.9, 1.2, 0.8, 1.1]), np.array([0.3, 1 / 3, 0.3, 0.2, 0.35])

    def start(scale):
        first, second = (scale * np.stack([a, a, 0 * a]) for a in sizes)
        return ddln.Sum(ddln.DeepDiagonal(first), ddln.DeepDiagonal(second, 3.0))

    inputs = np.concatenate([X[:, :1], X[:, :4]], axis=1)
    loss = ddln.LeastSquares(inputs, 2 * X[:, 0] + 0.1 * Y)
    path = ddln.vanishing_limit(start(1.0), loss)
    ends = np.pi / 2 / np.maximum(sizes[0], 3 * sizes[1])
    np.testing.assert_allclose(path.weights, [ends, ends], rtol=1e-12)
    # Far out theta = c (c (L - 2) (W - xi))^(-3): the equal columns share by 1 and 3^-2.
    np.testing.assert_allclose(path.theta[-1, 0], 9 * path.theta[-1, 1], rtol=1e-9)
    end = ddln.limit(start(1e-4), loss)
    np.testing.assert_allclose(end.theta, path.theta[-1], atol=5e-3)
    best = ddln.minimum_l1(inputs, loss.y, ends)
    np.testing.assert_allclose(ends @ np.abs(path.theta[-1]), ends @ np.abs(best), rtol=1e-9)
