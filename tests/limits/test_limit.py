"""Limits against integrated flows, convex programs, closed forms and finite differences."""

from functools import partial

import cvxpy as cp
import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.potentials import potential

RNG = np.random.default_rng(0)
FIRST = RNG.bit_generator.state
# Most tests have data of one size, and share the programs of their depth.
LANES, N, D = 16, 4, 10


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order():
    RNG.bit_generator.state = FIRST


def code(result, lane=None):
    """The message of a code."""
    picked = result if lane is None else jax.tree.map(lambda leaf: np.asarray(leaf[lane]), result)
    return ddln.RESULTS[picked]


@eqx.filter_jit
@jax.vmap
def _ends(layers, X, y):
    return ddln.limit(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), throw=False)


def ends(layers, X, y):
    """Limits of a stack of starts, with one data set or one each, as NumPy arrays.

    Any number of them, by one program for each depth and size of the data.
    """
    count = len(layers)
    arrays = (
        np.broadcast_to(a, (count, *np.shape(a)[-axes:]))
        for a, axes in ((layers, 2), (X, 2), (y, 1))
    )
    lanes = np.arange(count + -count % LANES) % count
    stacks = [jnp.asarray(a[lanes]) for a in arrays]
    parts = [_ends(*(a[i : i + LANES] for a in stacks)) for i in range(0, len(lanes), LANES)]
    return jax.tree.map(lambda *rows: np.concatenate(rows)[:count], *parts)


def all_okay(end):
    return bool(jnp.all(ddln.is_okay(end.result)))


def sparse_problem(n=20, d=50):
    X = RNG.normal(size=(n, d)) / np.sqrt(n)
    theta = np.zeros(d)
    theta[:3] = 1, -1, 0.7
    return X, X @ theta


@pytest.mark.parametrize("depth", [2, 4])
def test_end_of_the_integrated_flow(depth):
    count = 128
    X, y = RNG.normal(size=(count, N, D)), RNG.normal(size=(count, N))
    layers = RNG.uniform(0.3, 1.0, (count, 1, 1)) * RNG.normal(size=(count, depth, D))
    # Starts far from ties: the flow to compare with is then fast enough to be run to its end.
    layers[:, 0] = 0.3 * np.tanh(layers[:, 0])
    layers[:, 1:] += 0.3 * np.sign(layers[:, 1:])
    end = ends(layers, X, y)
    assert all_okay(end)

    @jax.jit
    @jax.vmap
    def integrated(layers, X, y):
        network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y)
        rest = ddln.LossBelow(0.5 * 1e-20)
        flow = ddln.gradient_flow(
            network, loss, 1e7, rtol=1e-9, atol=1e-12, event=rest, throw=False
        )
        return flow.theta[-1], flow.dual[-1], flow.loss[-1]

    theta, dual, loss = integrated(jnp.asarray(layers), jnp.asarray(X), jnp.asarray(y))
    assert float(jnp.max(loss)) < 1e-19
    scale = 1 + np.abs(theta).max(axis=1, keepdims=True)
    np.testing.assert_allclose(end.theta / scale, theta / scale, atol=1e-6)
    np.testing.assert_allclose(end.dual, dual, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.prod(end.parameterization.layers, axis=1), theta, atol=1e-5)


def test_dual_of_two_layers_is_a_convex_program():
    # theta = (D/2) sinh(2 xi + k), so that Q* = (D/4) (cosh(2 xi + k) - cosh k).
    count = 12
    X, y = RNG.normal(size=(count, N, D)), RNG.normal(size=(count, N))
    layers = RNG.normal(size=(count, 2, D))
    end = ends(layers, X, y)
    assert all_okay(end)
    u, v = layers[:, 0], layers[:, 1]
    gap, k = np.abs(u**2 - v**2), np.log(np.abs((u + v) / (u - v)))
    for i in range(count):
        nu = cp.Variable(N)
        exponents = 2 * X[i].T @ nu + k[i]
        cosh = 0.5 * (cp.exp(exponents) + cp.exp(-exponents))
        cp.Problem(cp.Minimize(gap[i] / 4 @ cosh - y[i] @ nu)).solve(
            "CLARABEL", **dict.fromkeys(["tol_gap_abs", "tol_gap_rel", "tol_feas"], 1e-10)
        )
        theta = gap[i] / 2 * np.sinh(2 * X[i].T @ nu.value + k[i])
        np.testing.assert_allclose(end.theta[i], theta, atol=1e-4)
        np.testing.assert_allclose(end.multipliers[i], nu.value, atol=1e-4)


@pytest.mark.parametrize("depth", [2, 3, 10])
def test_every_scale_succeeds(depth):
    X, y = sparse_problem()
    scales = np.repeat(10.0 ** np.arange(-4, 4), 3)
    layers = RNG.normal(size=(len(scales), depth, 50))
    layers[::3, 1:] = layers[::3, :1]
    layers[::3, -1] = 0.0
    end = ends(scales[:, None, None] * layers, X, y)
    assert all_okay(end)
    assert float(jnp.max(end.residual)) < 1e-9
    assert float(jnp.max(end.gap)) < 1e-9
    misfit = np.linalg.norm(end.theta @ X.T - y, axis=1)
    start = np.linalg.norm(np.prod(scales[:, None, None] * layers, axis=1), axis=1)
    assert np.max(misfit / (np.linalg.norm(y) + np.linalg.norm(X, 2) * start)) < 1e-9


def test_optimality_and_gap_by_the_potential():
    depth = 3
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    network = ddln.DeepDiagonal(RNG.normal(size=(depth, D)))
    end = ddln.limit(network, ddln.LeastSquares(X, y))
    Q = potential(network)
    np.testing.assert_allclose(Q.mirror_map(end.theta), X.T @ end.multipliers, rtol=1e-9)
    np.testing.assert_allclose(end.dual, X.T @ end.multipliers, rtol=1e-10)

    def gap(multipliers):
        xi = jnp.asarray(X.T @ multipliers)
        return Q.value(end.theta) + Q.conjugate(xi) - y @ multipliers

    assert abs(gap(end.multipliers)) < 1e-12
    assert gap(end.multipliers + 1e-3) > 1e-8
    # Moving within the solutions of X theta = y increases Q.
    null = np.linalg.svd(X)[2][N:]
    for direction in np.concatenate([null, -null]):
        assert Q.value(end.theta + 1e-2 * direction) > Q.value(end.theta)


@pytest.mark.parametrize(("n", "d", "rank"), [(9, 4, 4), (9, 4, 3), (N, D, 2)])
def test_least_squares_of_any_shape(n, d, rank):
    X = RNG.normal(size=(n, rank)) @ RNG.normal(size=(rank, d))
    y = RNG.normal(size=n)
    layers = 10.0 ** RNG.uniform(-2, 1, (16, 1, 1)) * RNG.normal(size=(16, 3, d))
    end = ends(layers, X, y)
    assert all_okay(end)
    gradient = (end.theta @ X.T - y) @ X
    assert np.abs(gradient).max() < 1e-7
    if rank == d:
        least = np.linalg.lstsq(X, y, rcond=None)[0]
        np.testing.assert_allclose(end.theta, np.broadcast_to(least, (16, d)), atol=1e-8)
    # The dual is in the range of X^T.
    reduced = np.linalg.lstsq(X.T, end.dual.T, rcond=1e-10)[0]
    np.testing.assert_allclose(X.T @ reduced, end.dual.T, rtol=1e-7, atol=1e-7)


def test_large_deep_starts_of_independent_equations():
    # theta_0 is some 1e30, theta about 1, and the metric differs by 1e30 between equations.
    X, y = np.eye(50)[:20], RNG.normal(size=20)
    end = ends(1e3 * RNG.normal(size=(16, 10, 50)), X, y)
    assert all_okay(end)
    np.testing.assert_allclose(end.theta[:, :20], np.broadcast_to(y, (16, 20)), rtol=1e-6)


def test_scaling_law():
    depth = 4
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    layers = RNG.normal(size=(depth, D))
    alphas = np.array([1e-2, 0.3, 3.0])
    small = ends(alphas[:, None, None] * layers, X, y)
    large = ends(np.stack([layers] * 3), X, y / alphas[:, None] ** depth)
    assert all_okay(small)
    assert all_okay(large)
    expected = alphas[:, None] ** depth * large.theta
    np.testing.assert_allclose(small.theta, expected, rtol=1e-7, atol=1e-9)


def test_small_two_layer_starts_reach_the_minimum_l1_norm():
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    layers = 1e-8 * RNG.normal(size=(8, 2, D))
    end = ends(layers, X, y)
    assert all_okay(end)
    least = ddln.minimum_l1(X, y)
    excess = np.abs(end.theta).sum(axis=1) / np.abs(least).sum() - 1
    assert excess.max() < 2e-2
    assert excess.min() > -1e-12


def test_small_deep_starts_reach_a_weighted_l1_norm():
    depth = 3
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    layers = RNG.normal(size=(depth, D))
    end = ends(1e-4 * layers[None], X, y)
    assert all_okay(end)
    # The weights are the ends of the range of xi at scale 1.
    lower, upper = potential(ddln.DeepDiagonal(layers)).dual_domain
    weighted = ddln.minimum_l1(X, y, np.stack([upper, -lower]))
    np.testing.assert_allclose(end.theta[0], weighted, atol=1e-5)
    assert np.abs(end.theta[0] - ddln.minimum_l1(X, y)).max() > 1e-3


def test_excess_of_deep_networks_has_the_exponent_of_the_depth():
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    least = np.abs(ddln.minimum_l1(X, y)).sum()
    alphas = np.array([2.0**-11, 2.0**-12])
    layers = np.ones((2, 3, D)) * alphas[:, None, None]
    layers[:, -1] = 0.0
    end = ends(layers, X, y)
    excess = np.abs(end.theta).sum(axis=1) - least
    np.testing.assert_allclose(np.log2(excess[0] / excess[1]), 3, atol=0.05)


def test_permutations_of_layers_and_coordinates():
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    layers = 0.1 * RNG.normal(size=(4, D))
    order, depth_order = RNG.permutation(D), RNG.permutation(4)
    stack = np.stack([layers, layers[depth_order]])
    plain, permuted = ends(stack, X, y), ends(stack[..., order], X[:, order], y)
    np.testing.assert_allclose(plain.theta[0], plain.theta[1], rtol=1e-10)
    np.testing.assert_allclose(permuted.theta, plain.theta[:, order], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        plain.parameterization.layers[1], plain.parameterization.layers[0][depth_order], rtol=1e-12
    )


def differentiated(layers, X, y):
    end = ddln.limit(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), throw=False)
    return end.theta, end.dual, end.parameterization.layers


@pytest.mark.parametrize(("n", "depth", "scale"), [(3, 4, 0.1), (7, 2, 0.5)])
def test_derivatives(n, depth, scale):
    d = 5
    point = (scale * RNG.normal(size=(depth, d)), RNG.normal(size=(n, d)), RNG.normal(size=n))
    direction = (scale * RNG.normal(size=(depth, d)), RNG.normal(size=(n, d)), RNG.normal(size=n))
    point, direction = jax.tree.map(jnp.asarray, (point, direction))
    cotangents = tuple(jnp.asarray(RNG.normal(size=shape)) for shape in ((d,), (d,), (depth, d)))

    @jax.jit
    def both(point, direction, cotangents):
        values, tangents = jax.jvp(differentiated, point, direction)
        return values, tangents, jax.vjp(differentiated, *point)[1](cotangents)

    _, tangents, pulled = both(point, direction, cotangents)
    h = 1e-6

    def moved(sign):
        there = jax.tree.map(lambda x, dx: x + sign * h * dx, point, direction)
        return both(there, direction, cotangents)[0]

    for plus, minus, tangent in zip(moved(1), moved(-1), tangents, strict=True):
        size = float(jnp.max(jnp.abs(tangent)))
        np.testing.assert_allclose(tangent, (plus - minus) / (2 * h), atol=1e-6 * size)
    dot = lambda a, b: sum(float(jnp.vdot(x, z)) for x, z in zip(a, b, strict=True))  # noqa: E731
    np.testing.assert_allclose(dot(pulled, direction), dot(cotangents, tangents), rtol=1e-9)


def test_second_derivative():
    X, y = RNG.normal(size=(2, 4)), RNG.normal(size=2)
    layers, direction = RNG.normal(size=(2, 2, 4))

    def theta(s):
        network = ddln.DeepDiagonal(jnp.asarray(layers) + s * jnp.asarray(direction))
        return ddln.limit(network, ddln.LeastSquares(X, y), throw=False).theta

    @jax.jit
    def slope_and_its_slope(s):
        return jax.jvp(jax.jacfwd(theta), (s,), (jnp.ones(()),))

    h = 1e-5
    (plus, _), (minus, _), (_, second) = (slope_and_its_slope(jnp.asarray(s)) for s in (h, -h, 0.0))
    difference = (plus - minus) / (2 * h)
    np.testing.assert_allclose(second, difference, atol=1e-6 * float(jnp.max(jnp.abs(second))))


def test_codes_and_independence_of_lanes():
    X, y = np.zeros((N, D)), np.eye(N)[0]
    X[0, :3] = 1, 2, 1
    good = RNG.normal(size=(3, D))
    tied = np.ones((3, D)) * np.array([-1.0, 1.0, 1.0])[:, None]
    frozen = good.copy()
    frozen[:2] = 0.0
    broken = good.copy()
    broken[0, 0] = np.nan
    end = ends(np.stack([good, tied, frozen, broken]), X, y)
    assert np.asarray(ddln.is_okay(end.result)).tolist() == [True, False, False, False]
    assert code(end.result, 1) == ddln.RESULTS[ddln.RESULTS.limit_out_of_reach]
    assert code(end.result, 2) == ddln.RESULTS[ddln.RESULTS.limit_out_of_reach]
    assert code(end.result, 3) == ddln.RESULTS[ddln.RESULTS.nonfinite_initialization]
    assert np.isfinite(end.theta[:3]).all()
    np.testing.assert_array_equal(end.theta[2], 0.0)
    alone = ends(np.stack([good] * 4), X, y)
    np.testing.assert_array_equal(end.theta[0], alone.theta[0])

    network, loss = ddln.DeepDiagonal(good), ddln.LeastSquares(X, y)
    short = ddln.limit(network, loss, max_steps=1, throw=False)
    assert code(short.result) == ddln.RESULTS[ddln.RESULTS.max_steps_reached]
    with pytest.raises(eqx.EquinoxRuntimeError, match="keep their sign"):
        ddln.limit(ddln.DeepDiagonal(tied), loss)


def test_ties_within_reach():
    # Balanced layers keep their signs, and the flow ends within their orthant.
    X, theta = RNG.normal(size=(N, D)), RNG.uniform(0.5, 1.5, D)
    network = ddln.DeepDiagonal.balanced(0.1 * jnp.ones(D), 3)
    end = ddln.limit(network, ddln.LeastSquares(X, X @ theta))
    assert np.all(end.theta > 0)
    # Q'' = 1/M = theta^(-4/3)/3, so that xi = theta_0^(-1/3) - theta^(-1/3).
    np.testing.assert_allclose(end.dual, 0.1 ** (-1 / 3) - end.theta ** (-1 / 3), rtol=1e-9)


def test_a_frozen_coordinate_among_others():
    X, y = RNG.normal(size=(N, D)), RNG.normal(size=N)
    layers = RNG.normal(size=(3, D))
    # A coordinate that no prediction sees.
    blind = np.where(np.arange(D) == 2, 0, X)
    without = ddln.limit(ddln.DeepDiagonal(layers), ddln.LeastSquares(blind, y))
    layers[:2, 2] = 0.0
    rest = np.delete(np.arange(D), 2)
    with pytest.warns(UserWarning, match="never move"):
        end = ddln.limit(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y))
    np.testing.assert_allclose(end.theta[rest], without.theta[rest], rtol=1e-9)
    assert end.theta[2] == 0


def test_identity_ends_at_the_nearest_solution():
    X, y, theta = RNG.normal(size=(3, 2, 4)), RNG.normal(size=3), RNG.normal(size=(2, 4))
    end = ddln.limit(ddln.Identity(theta), ddln.LeastSquares(X, y))
    flat = X.reshape(3, 8)
    nearest = theta.ravel() + np.linalg.pinv(flat) @ (y - flat @ theta.ravel())
    np.testing.assert_allclose(end.theta.ravel(), nearest, atol=1e-10)
    assert end.method == "path"


class _Normalized(ddln.AbstractParameterization):
    """g v / |v|, whose gradient fields do not commute."""

    gain: jax.Array
    direction: jax.Array

    def effective(self):
        return self.gain * self.direction / jnp.linalg.norm(self.direction)


def test_without_a_potential_the_flow_is_integrated():
    X, y = jnp.asarray(RNG.normal(size=(2, 4))), jnp.asarray([1.0, 0.5])
    start = _Normalized(jnp.asarray(1.0), jnp.asarray(RNG.normal(size=4)))
    loss = ddln.LeastSquares(X, y)
    end = ddln.limit(start, loss, max_steps=4096)
    assert end.method == "flow"
    assert np.isinf(end.gap)
    assert float(end.residual) < 1e-7
    long = ddln.gradient_flow(start, loss, 200.0, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(end.theta, long.theta[-1], atol=1e-6)


def test_float32():
    X, y = (a.astype(np.float32) for a in sparse_problem(10, 30))
    layers = (0.1 * RNG.normal(size=(8, 3, 30))).astype(np.float32)
    end = ends(layers, X, y)
    assert all_okay(end)
    assert end.theta.dtype == np.float32
    assert np.abs(end.theta @ X.T - y).max() < 1e-5


def test_one_trace_and_every_platform():
    loss = ddln.LeastSquares(RNG.normal(size=(2, 4)), RNG.normal(size=2))
    traces = []

    @jax.jit
    @jax.vmap
    def theta(layers):
        traces.append(layers)
        return ddln.limit(ddln.DeepDiagonal(layers), loss, throw=False).theta

    for _ in range(3):
        theta(jnp.asarray(RNG.normal(size=(5, 3, 4))))
    assert len(traces) == 1
    platforms = ["cpu", "cuda", "tpu"]
    exported = jax.export.export(theta, platforms=platforms)(jnp.zeros((5, 3, 4)))
    assert set(exported.platforms) == set(platforms)
    assert "callback" not in exported.mlir_module()


def test_bad_arguments():
    network = ddln.DeepDiagonal(np.ones((2, 3)) * np.array([[1.0], [2.0]]))
    loss = ddln.LeastSquares(np.eye(3), np.ones(3))
    limit = partial(ddln.limit, network)
    with pytest.raises(ValueError, match="`loss` must be a"):
        limit(jnp.sum)
    with pytest.raises(ValueError, match="`rtol` must be finite and positive"):
        limit(loss, rtol=0.0)
    with pytest.raises(ValueError, match="`max_steps` must be at least 1"):
        limit(loss, max_steps=0)
    with pytest.raises(ValueError, match="must have the same theta"):
        limit(ddln.LeastSquares(np.eye(4), np.ones(4)))
