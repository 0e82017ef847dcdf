"""The path of vanishing initialization (`_vanishing_limit`, `_signed_least_squares`, `_l1_face`, `_ends`)
against linear programs, integrated flows and closed forms."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq, nnls

import ddln
from ddln.limits._ends import Ends
from ddln.limits._l1_face import point_of_face
from ddln.limits._signed_least_squares import Span
from ddln.potentials import potential

RNG = np.random.default_rng(0)
FIRST = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _the_same_numbers_in_any_order():
    RNG.bit_generator.state = FIRST


@jax.jit
@jax.vmap
def _paths(layers, X, y):
    return ddln.vanishing_limit(ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y), throw=False)


def paths(layers, X, y):
    """Paths of a stack of problems, one program for each shape, as NumPy arrays."""
    return jax.tree.map(np.asarray, _paths(*map(jnp.asarray, (layers, X, y))))


def codes(result):
    """The message of each lane."""
    return [ddln.RESULTS[_at(result, lane)] for lane in range(COUNT)]


def _at(tree, lane):
    return jax.tree.map(lambda leaf: np.asarray(leaf[lane]), tree)


# All tests share two programs, one for each depth.
COUNT, N, D = 96, 4, 8


def problems(depth):
    """Random ones; every other one has dependent columns."""
    X = RNG.normal(size=(COUNT, N, D))
    X[1::2, :, -1] = X[1::2, :, 0] - X[1::2, :, 1]
    return RNG.normal(size=(COUNT, depth, D)), X, RNG.normal(size=(COUNT, N))


def one_path(layers, X, y):
    """The path of one problem, by the program for many."""
    repeated = (np.repeat(a[None], COUNT, axis=0) for a in (layers, X, y))
    return _at(paths(*repeated), 0)


@pytest.mark.parametrize("depth", [2, 3])
def test_ends_at_the_weighted_l1_norm(depth):
    layers, X, y = problems(depth)
    path = paths(layers, X, y)
    assert set(codes(path.result)) == {"successful"}
    for lane in range(len(y)):
        weights = path.weights[lane]
        end = ddln.minimum_l1(X[lane], y[lane], weights)
        np.testing.assert_allclose(path.theta[lane, -1], end, atol=1e-10)
        # The dual certifies it: s = X^T nu, within the weights, at their ends where theta is not 0.
        dual = path.dual[lane, -1]
        assert np.all((dual <= weights[0]) & (dual >= -weights[1]))
        nu = np.linalg.lstsq(X[lane].T, dual, rcond=1e-10)[0]
        np.testing.assert_allclose(X[lane].T @ nu, dual, atol=1e-9)
        assert np.all(dual[end > 1e-9] == weights[0][end > 1e-9])
        assert np.all(dual[end < -1e-9] == -weights[1][end < -1e-9])
    plain = [np.abs(path.theta[i, -1] - ddln.minimum_l1(X[i], y[i])).max() for i in range(len(y))]
    assert (np.median(plain) < 1e-12) == (depth == 2)


@pytest.mark.parametrize("depth", [2, 3])
def test_rows_are_plateaus(depth):
    layers, X, y = problems(depth)
    path = paths(layers, X, y)
    dropped = 0
    for lane, count in enumerate(path.stats["num_plateaus"]):
        ts, theta = path.ts[lane], path.theta[lane]
        assert ts[0] == 0
        assert np.all(theta[0] == 0)
        assert np.all(np.diff(ts[:count]) > 0)
        assert np.all(np.isinf(ts[count:]))
        assert np.all(theta[count:] == theta[count - 1])
        loss = np.sum((theta[:count] @ X[lane].T - y[lane]) ** 2, axis=1)
        assert np.all(np.diff(loss) < 0)
        for row in range(1, count):
            dual = path.dual[lane, row]
            upper, lower = dual == path.weights[lane, 0], dual == -path.weights[lane, 1]
            columns = np.concatenate([X[lane][:, upper], -X[lane][:, lower]], axis=1)
            best = nnls(columns, y[lane])[1] ** 2
            np.testing.assert_allclose(loss[row], best, rtol=1e-9, atol=1e-12)
        active = path.active[lane, :count].astype(int)
        np.testing.assert_array_equal(active, theta[:count] != 0)
        dropped += np.sum(np.diff(active, axis=0) < 0)
    assert dropped > 0


def integrated(layers, X, y, alpha, times):
    """theta of the flow from alpha * layers at times tau, by SciPy's Radau in a logarithmic coordinate."""
    depth = len(layers)
    if depth == 2:
        # theta = (alpha^2 D / 2) sinh(2 xi + k), unknown xi / log(1/alpha).
        u, v = layers
        scale = np.log(1 / alpha)
        D, k = np.abs(u**2 - v**2), np.log(np.abs((u + v) / (u - v)))

        def effective(s):
            # Trial points of Newton's method may be anywhere.
            bounded = np.clip(s, -2, 2)
            ends = np.exp(2 * scale * (bounded - 1) + k), np.exp(-2 * scale * (bounded + 1) - k)
            return D / 4 * (ends[0] - ends[1]), D / 2 * scale * (ends[0] + ends[1])

        def field(_, s):
            return X.T @ (y - X @ effective(s)[0])

        def jacobian(_, s):
            return -X.T @ X * effective(s)[1]

        start = np.zeros(len(D))
    else:
        # v = alpha sqrt(Delta_min) sinh(x), unknown x.
        order = np.take_along_axis(layers, np.argsort(np.abs(layers), axis=0), axis=0)
        gaps, sign = order[1:] ** 2 - order[:1] ** 2, np.prod(np.sign(order[1:]), axis=0)
        root = np.sqrt(gaps[0])

        def effective(x):
            v, cosh = root * np.sinh(x), root * np.cosh(x)
            rho = np.prod(np.sqrt(v**2 + gaps), axis=0)
            slope = 1 + np.sum(v**2 / (v**2 + gaps), axis=0)
            speed = sign * rho / cosh
            d_speed = speed * (np.sum(v * cosh / (v**2 + gaps), axis=0) - np.tanh(x))
            return (
                alpha**depth * sign * v * rho,
                speed,
                alpha**depth * sign * rho * slope * cosh,
                d_speed,
            )

        def field(_, x):
            theta, speed, _, _ = effective(x)
            return speed * (X.T @ (y - X @ theta))

        def jacobian(_, x):
            theta, speed, d_theta, d_speed = effective(x)
            return np.diag(d_speed * (X.T @ (y - X @ theta))) - speed[:, None] * (X.T @ X * d_theta)

        start = np.arcsinh(order[0] / root)
    flow = solve_ivp(
        field, (0, times[-1]), start, "Radau", times, jac=jacobian, rtol=1e-8, atol=1e-8
    )
    assert flow.success
    return np.stack([effective(point)[0] for point in flow.y.T])


@pytest.mark.parametrize(
    ("depth", "alphas", "order"),
    [(2, [1e-10, 1e-30, 1e-60], None), (3, [1e-2, 1e-3, 1e-4], 1)],
)
def test_flows_from_small_scales_tend_to_the_path(depth, alphas, order):
    layers, X, y = (stack[0] for stack in problems(depth))
    path = one_path(layers, X, y)
    count = path.stats["num_plateaus"]
    ts, theta = path.ts[:count], path.theta[:count]
    # Near the end of each plateau the flow has arrived.
    ends = np.append(ts[1:], 2 * ts[-1])
    errors, delays = [], []
    for alpha in alphas:
        grid = np.linspace(0, ends[-1], 2001)[1:]
        late = ts + 0.9 * (ends - ts)
        times = np.unique(np.concatenate([grid, late]))
        flow = integrated(layers, X, y, alpha, times)
        rows = np.searchsorted(times, late)
        errors.append(np.abs(flow[rows] - theta).max(axis=1))
        # When each coordinate that appears first passes half of what it jumps to.
        delay = 0.0
        for row in range(1, count):
            for i in np.flatnonzero(path.active[row] & ~path.active[:row].any(axis=0)):
                passed = np.abs(flow[:, i]) > 0.5 * abs(theta[row, i])
                delay = max(delay, abs(times[np.argmax(passed)] - ts[row]) / ts[-1])
        delays.append(delay)
    # Between jumps that are close to each other (at log(1/alpha) times their distance) last of all.
    assert np.max(errors[0]) > np.max(errors[1]) > np.max(errors[2])
    assert np.median(errors[2]) < 1e-6
    assert np.max(errors[2]) < (2e-2 if depth == 2 else 1e-7)
    step = 2 * 2 / 2000
    if order is None:
        # As 1 / log(1/alpha).
        assert delays[0] > 1.5 * delays[1] > 1.5**2 * delays[2]
        assert delays[2] < 0.1
    else:
        ratio = (alphas[1] / alphas[0]) ** order
        assert delays[1] < 2 * ratio * delays[0] + step
        assert delays[2] < 2 * ratio**2 * delays[0] + step


def test_orthogonal_columns_have_closed_form_times():
    # Each coordinate on its own: it jumps to y_i when |y_i| tau reaches the end of its range.
    y = np.array([2.0, -2.0, 0.5, 0.0])
    layers = np.ones((3, D))
    layers[-1] = 0.0
    path = one_path(layers, np.eye(N, D), y)
    # The first two arrive together, at the end pi/2 = R_F(0, 1, 1) of the range.
    np.testing.assert_allclose(path.weights, np.pi / 2, rtol=1e-14)
    np.testing.assert_allclose(path.ts[:3], [0, np.pi / 4, np.pi], rtol=1e-13)
    np.testing.assert_allclose(path.theta[1], [2, -2, *[0] * 6], rtol=1e-14)
    np.testing.assert_allclose(path.theta[2], [2, -2, 0.5, *[0] * 5], rtol=1e-14)
    assert path.stats["num_plateaus"] == 3


@pytest.mark.parametrize("depth", [2, 3])
def test_equal_columns_share_as_the_flow_does(depth):
    layers, X, _ = (stack[0] for stack in problems(depth))
    X[:, 5], X[:, 6] = X[:, 2], -X[:, 2]
    if depth == 3:
        # Equal weights need equal layers; another order, and a negative one, so that theta is opposite.
        layers[:, 5], layers[:, 6] = layers[[2, 0, 1], 2], layers[:, 2] * [-1, 1, 1]
    y = X @ np.array([0.0, 0, 2, 1, 0, 0, 0, 0])
    path = one_path(layers, X, y)
    together = [2, 5, 6]
    theta = path.theta[-1, together]
    assert path.active[-1, together].all()
    np.testing.assert_allclose(X @ path.theta[-1], y, atol=1e-12)
    if depth == 3:
        np.testing.assert_allclose(theta, theta[0] * np.array([1, 1, -1]), rtol=1e-12)
    else:
        u, v = layers[:, together]
        D, k = np.abs(u**2 - v**2), np.log(np.abs((u + v) / (u - v)))
        share = D * np.exp(np.sign(theta) * k)
        np.testing.assert_allclose(np.abs(theta) / share, np.abs(theta[0]) / share[0], rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_dependent_columns_are_shared_as_the_flow_does(depth):
    # Columns 4 to 7 are means of the first four: all that are active together have the same norm.
    layers, X, _ = problems(depth)
    means = RNG.uniform(size=(COUNT, N, 4)) * np.array(
        [[1, 1, 0, 1], [1, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]
    )
    X[:, :, 4:] = X[:, :, :4] @ (means / means.sum(axis=1, keepdims=True))
    y = np.einsum("bnd,bd->bn", X, RNG.uniform(0.5, 1.5, (COUNT, D)))
    if depth == 3:
        layers[:] = np.array([1.0, 1.0, 0.0])[:, None]
    path = paths(layers, X, y)
    assert set(codes(path.result)) == {"successful"}
    assert np.all(path.active[:, -1])
    u, v = layers[:, 0], layers[:, 1]
    shares, shared = np.square(u + v) / 4, 0
    for lane, count in enumerate(path.stats["num_plateaus"]):
        for row in range(1, count):
            theta, on = path.theta[lane, row], path.active[lane, row]
            residual = y[lane] - X[lane] @ theta
            size = np.linalg.norm(y[lane])
            np.testing.assert_allclose(X[lane][:, on].T @ residual, 0, atol=1e-9 * size)
            # Stationary on the face: the derivative of the entropy is in the row space of its columns.
            signs, t = np.sign(theta[on]), np.abs(theta[on])
            share = np.square(u[lane, on] + signs * v[lane, on]) / 4
            slope = -(t ** (-1 / 3)) if depth == 3 else np.log(t / share)
            columns = (X[lane][:, on] * signs).T
            left = slope - columns @ np.linalg.lstsq(columns, slope, rcond=1e-10)[0]
            np.testing.assert_allclose(left, 0, atol=1e-9 * np.abs(slope).max())
            shared += on.sum() > np.linalg.matrix_rank(columns)
    # Also on plateaus before the last one.
    assert shared > COUNT + 10
    # The first three of one problem by a solver of conic programs.
    for lane in range(3):
        t = cp.Variable(D, pos=True)
        if depth == 3:
            best = cp.Maximize(cp.sum(cp.power(t, 2 / 3)))
        else:
            best = cp.Maximize(cp.sum(cp.entr(t)) + cp.sum(cp.multiply(np.log(shares[lane]), t)))
        cp.Problem(best, [X[lane] @ t == y[lane]]).solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(path.theta[lane, -1], t.value, atol=1e-3)


def tied(p, scale):
    """The solution between (1, 2, 0) and (0, 0, 3) with the largest sum of scale |theta|^(2/p)."""
    a, b, c = scale

    def slope(t):
        q = 2 / p - 1
        return 3 * c * (3 * t) ** q - a * (1 - t) ** q - 2 * b * (2 - 2 * t) ** q

    return brentq(slope, 1e-9, 1 - 1e-9, xtol=1e-15)


@pytest.mark.parametrize("p", [2, 2.5, 3, 4])
def test_solutions_of_the_same_norm_are_decided_by_the_start(p):
    A, y = np.array([[1.0, 1, 1], [3, 0, 1]]), np.array([3.0, 3])
    sizes = np.array([[1.0, 1, 1], [0.5, 2, 0.8]])
    # Other starts have other weights for p > 2: with columns in proportion the solutions tie again.
    weights = np.ones((2, 3)) if p == 2 else sizes ** (2 - p)

    @jax.jit
    @jax.vmap
    def ends(size, weight):
        start = ddln.PowerDifference(size, size, p)
        path = ddln.vanishing_limit(
            start, ddln.LeastSquares(A * weight[None], y), max_plateaus=4, throw=False
        )
        return weight * path.theta[-1], path.result

    theta, result = ends(jnp.asarray(sizes), jnp.asarray(weights))
    assert ddln.is_okay(result).all()
    close = 1e-10 if p == 2 else 1e-8
    if p == 2:
        found = [4 ** (1 / 3) / (3 + 4 ** (1 / 3))]
        # (1 - t)(2 - 2 t)^2 / (3 t)^3 is the product of the shares, the squares of the starts.
        product = sizes[1, 0] ** 2 * sizes[1, 1] ** 4 / sizes[1, 2] ** 6
        found.append(brentq(lambda t: 4 * (1 - t) ** 3 - product * 27 * t**3, 0, 1, xtol=1e-15))
    else:
        found = [1 / (1 + (3 ** (2 / p) / (2 ** (2 / p) + 1)) ** (-p / (p - 2)))]
        found.append(tied(p, weights[1] ** (-2 / p)))
    for t, end in zip(found, theta, strict=True):
        np.testing.assert_allclose(end, [1 - t, 2 - 2 * t, 3 * t], atol=close)


def test_coordinates_that_are_zero_on_the_whole_face():
    # e_1 is a sum of itself and of the last two; nothing takes the third entry of the others back.
    X = np.array([[1.0, 0, 0, 1, 1], [0, 0, 1, 1, -1], [0, 1, 1, 0, 0]])
    ones = jnp.ones(5)
    ends = Ends(jnp.ones((2, 5)), jnp.ones((2, 5)), 0.0)
    basic = jnp.asarray([2.0, 0, 0, 0, 0])
    support = Span.of(jnp.asarray(X), basic != 0)
    decide = jax.jit(
        lambda y: point_of_face(jnp.asarray(X), y, basic, support, ones, ends, jnp.asarray(True))
    )
    theta, found = decide(jnp.asarray([2.0, 0, 0]))
    assert found
    # t_1 = exp(nu_1), t_4 t_5 = t_1^2 and t_4 = t_5: 3 t_1 = 2.
    np.testing.assert_allclose(theta, np.array([2, 0, 0, 2, 2]) / 3, atol=1e-12)
    slope = jax.jacrev(lambda y: decide(y)[0])(jnp.asarray([2.0, 0, 0]))
    np.testing.assert_allclose(slope[:, 0], np.array([1, 0, 0, 1, 1]) / 3, atol=1e-12)


def test_plateaus_of_dependent_columns_are_those_of_small_scales():
    layers, X, y = (stack[0] for stack in problems(2))
    X[:, 3:6] = 0.5 * (X[:, :3] + X[:, [1, 2, 0]])
    y = X @ np.array([1.0, 2, 1.5, 0.5, 1, 1, 0, 0])
    path = one_path(layers, X, y)
    count = path.stats["num_plateaus"]
    ts = path.ts[:count]
    ends = np.append(ts[1:], 2 * ts[-1])
    times = ts + 0.9 * (ends - ts)
    first, second = (
        np.abs(integrated(layers, X, y, alpha, times) - path.theta[:count]).max(axis=1)
        for alpha in (1e-30, 1e-60)
    )
    # By exp(-length log(1/alpha)) on each plateau.
    assert np.all(second < 0.4 * first + 1e-6)
    assert second[-1] < 1e-6
    assert path.active[-1].sum() > np.linalg.matrix_rank(X[:, path.active[-1]])


def rotated(growth):
    """Symmetric matrices with these eigenvalues, and their eigenvectors."""
    frames = np.linalg.qr(RNG.normal(size=(len(growth), 3, 3)))[0]
    return np.einsum("iab,ib,icb->iac", frames, growth, frames), frames


def test_maps_with_a_block_of_weights_for_each_entry():
    # Growth times 1 on both sides, with the rational numbers of Zhao et al.; then others, two of them equal.
    growth = np.array([[1.0, 0.3, -1]] * 4), RNG.uniform(0.5, 1, (4, 3)) * [1, 0.1, -1]
    growth[1][:2] = [2.0, 0.3, -0.7]
    hessians, frames = zip(*(rotated(one) for one in growth), strict=True)
    inputs, targets = np.array([[1, 0.5, 0.7, 0], [0.5, 1, 0.1, 0.7]]), np.array([1.0, 0])
    blocks = RNG.normal(size=(4, 3))

    @jax.jit
    @jax.vmap
    def run(hessian, X):
        def quadratic(w):
            return 0.5 * jnp.einsum("ia,iab,ib->i", w, hessian, w) + 0.1 * jnp.sum(w**3, axis=1)

        start = ddln.FromFunction(quadratic, jnp.asarray(blocks))
        return ddln.vanishing_limit(
            start, ddln.LeastSquares(X, targets), max_plateaus=6, throw=False
        )

    # In the second problem equal columns share.
    other = inputs[:, [0, 0, 2, 3]]
    path = run(jnp.asarray(np.stack(hessians)), jnp.asarray(np.stack([inputs, other])))
    assert ddln.is_okay(path.result).all()
    rows = [[0, 0, 0, 0], [0.8, 0, 0, 0], [0, 0, 1.4, 0], [0, 0, 10 / 7, -10 / 49]]
    np.testing.assert_allclose(path.theta[0, :4], rows, atol=1e-12)
    np.testing.assert_allclose(path.ts[0, :4], [0, 1, 4, 4 + 80 / 49], rtol=1e-12)
    np.testing.assert_allclose(path.weights[1, 0], 1 / growth[1].max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(path.weights[1, 1], -1 / growth[1].min(axis=1), rtol=1e-12)
    leads = np.square(np.einsum("ia,ia->i", blocks, frames[1][:, :, 0]))[:2]
    assert path.theta[1, 1, 0] > 0
    np.testing.assert_allclose(
        path.theta[1, 1, 0] * leads[1], path.theta[1, 1, 1] * leads[0], rtol=1e-9
    )


def test_sums_with_factors_of_different_sizes_and_ties_have_growth_times():
    layers = RNG.normal(size=(2, 2, 3))
    # The first coordinate of the second term is a tie, which grows to the other side alone.
    layers[1, 1, 0] = layers[1, 0, 0]
    weights = ddln.l1_weights(
        ddln.Sum(ddln.DeepDiagonal(layers[0], 0.5), ddln.DeepDiagonal(layers[1], -3.0))
    )
    np.testing.assert_allclose(weights, [[2, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_ties_keep_their_signs(depth):
    layers, X, y = problems(depth)
    # Balanced layers: theta keeps the sign of its start.
    layers[:] = np.abs(layers[:, :1])
    layers[:, 0] *= RNG.choice([-1.0, 1.0], (COUNT, D))
    start = np.prod(layers, axis=1)
    path = paths(layers, X, y)
    assert np.all(np.isinf(np.where(start > 0, path.weights[:, 1], path.weights[:, 0])))
    reached = 0
    for lane, code in enumerate(codes(path.result)):
        _, misfit = nnls(X[lane] * np.sign(start[lane]), y[lane])
        assert np.all(path.theta[lane] * np.sign(start[lane]) >= 0)
        end = np.linalg.norm(X[lane] @ path.theta[lane, -1] - y[lane])
        np.testing.assert_allclose(end, misfit, atol=1e-10)
        assert code == (
            "successful" if misfit < 1e-10 else ddln.RESULTS[ddln.RESULTS.minimum_out_of_reach]
        )
        reached += misfit < 1e-10
        if misfit < 1e-10:
            least = ddln.minimum_l1(X[lane], y[lane], path.weights[lane])
            np.testing.assert_allclose(path.theta[lane, -1], least, atol=1e-10)
    assert 10 < reached < COUNT - 10


@pytest.mark.parametrize(
    "parameterization",
    [
        ddln.Square(jnp.array([0.5, 2.0, 1.0])),
        ddln.Power(jnp.array([0.5, 2.0, 1.0]), 2),
        ddln.Power(jnp.array([0.5, 2.0, 1.0]), 4),
        ddln.PowerDifference(jnp.array([0.5, 2.0, 1.0]), jnp.array([1.5, 0.4, 1.0]), 2),
        ddln.PowerDifference(jnp.array([0.5, 2.0, 1.0]), jnp.array([1.5, 0.4, 1.0]), 3),
    ],
)
def test_weights_are_the_growth_of_the_potential(parameterization):
    # Q_alpha(theta) / |theta| over log(1/alpha), as the slope between two scales, or times alpha^(L-2).
    weights = ddln.l1_weights(parameterization)
    theta = jnp.asarray([0.3, 1.0, 2.0])
    depth = parameterization.homogeneity
    for row, sign in enumerate((1, -1)):
        if np.isinf(weights[row]).all():
            assert sign == -1
            continue

        def dual(alpha, sign=sign):
            start = jax.tree.map(lambda leaf: alpha * leaf, parameterization)
            return sign * potential(start).mirror_map(sign * theta)

        if depth == 2:
            growth = (dual(1e-20) - dual(1e-10)) / np.log(1e10)
        else:
            growth = 1e-4 ** (depth - 2) * dual(1e-4)
        np.testing.assert_allclose(weights[row], growth, rtol=1e-3)


def test_weights_are_integrals():
    layers = RNG.normal(size=(4, 3))
    weights = ddln.l1_weights(ddln.DeepDiagonal(layers, factor=-1.3))
    for i in range(3):
        ordered = layers[np.argsort(np.abs(layers[:, i])), i]
        gaps, s = ordered[1:] ** 2 - ordered[0] ** 2, -np.prod(np.sign(ordered[1:]))
        for row, end in enumerate((s * ordered[0], -s * ordered[0])):
            value = quad(lambda r: 1 / np.prod(np.sqrt(r**2 + gaps)), end, np.inf)[0]  # noqa: B023
            np.testing.assert_allclose(weights[row, i], value / 1.3, rtol=1e-7)


def test_derivatives():
    batch, other = problems(3), problems(3)
    point, direction = (tuple(jnp.asarray(a[0]) for a in stack) for stack in (batch, other))

    def rows(path):
        return jnp.where(jnp.isinf(path.ts), 0, path.ts), path.theta, path.dual

    def function(layers, X, y):
        loss = ddln.LeastSquares(X, y)
        return rows(ddln.vanishing_limit(ddln.DeepDiagonal(layers), loss, throw=False))

    @jax.jit
    def both(point, direction):
        _, linear = jax.linearize(function, *point)
        tangents = linear(*direction)
        cotangents = jax.tree.map(jnp.cos, tangents)
        return tangents, cotangents, jax.linear_transpose(linear, *point)(cotangents)

    tangents, cotangents, pulled = both(point, direction)
    h = 1e-6
    for stack, x, dx in zip(batch, point, direction, strict=True):
        stack[0], stack[1] = x + h * dx, x - h * dx
    moved = paths(*batch)
    plus, minus = rows(_at(moved, 0)), rows(_at(moved, 1))
    for high, low, tangent in zip(plus, minus, tangents, strict=True):
        size = float(jnp.max(jnp.abs(tangent)))
        np.testing.assert_allclose(tangent, (high - low) / (2 * h), atol=1e-7 * size)
    dot = lambda a, b: sum(float(jnp.vdot(x, z)) for x, z in zip(a, b, strict=True))  # noqa: E731
    np.testing.assert_allclose(dot(pulled, direction), dot(cotangents, tangents), rtol=1e-9)


def test_codes_and_independence_of_lanes():
    layers, X, y = problems(3)
    layers[:], X[:], y[:] = layers[:1], X[:1], y[:1]
    layers[1, 0, 0] = np.nan
    layers[2, :2] = 0.0
    y[3] = 0.0
    path = paths(layers, X, y)
    results = codes(path.result)
    names = ddln.RESULTS
    assert results[0] == results[3] == "successful"
    assert results[1] == names[names.nonfinite_initialization]
    assert results[2] == names[names.minimum_out_of_reach]
    assert np.isnan(path.theta[1]).all()
    assert np.all(path.theta[2:4] == 0)
    assert path.stats["num_plateaus"][2:4].tolist() == [1, 1]
    np.testing.assert_array_equal(path.theta[0], path.theta[4])


def test_too_few_rows_in_float32():
    layers, X, y = (stack[0].astype(np.float32) for stack in problems(3))
    network, loss = ddln.DeepDiagonal(layers), ddln.LeastSquares(X, y)
    path = ddln.vanishing_limit(network, loss, max_plateaus=4, throw=False)
    assert path.theta.dtype == path.ts.dtype == np.float32
    exact = one_path(*(a.astype(float) for a in (layers, X, y)))
    np.testing.assert_allclose(path.theta, exact.theta[:4], atol=1e-4)
    np.testing.assert_allclose(path.ts, exact.ts[:4], rtol=1e-4)
    assert ddln.RESULTS[path.result] == ddln.RESULTS[ddln.RESULTS.max_steps_reached]
    with pytest.raises(RuntimeError, match="maximum number"):
        ddln.vanishing_limit(network, loss, max_plateaus=4)


def test_bad_arguments():
    network = ddln.DeepDiagonal(np.ones((2, 3)) * np.array([[1.0], [2.0]]))
    loss = ddln.LeastSquares(np.eye(3), np.ones(3))
    with pytest.raises(ValueError, match="`loss` must be a"):
        ddln.vanishing_limit(network, ddln.Logistic(np.eye(3), np.ones(3)))
    with pytest.raises(ValueError, match="`max_plateaus` must be at least 2"):
        ddln.vanishing_limit(network, loss, max_plateaus=1)
    with pytest.raises(ValueError, match=r"`parameterization` must be a `ddln\.DeepDiagonal`"):
        ddln.vanishing_limit(ddln.Identity(jnp.ones(3)), loss)
    shared = ddln.FromFunction(lambda w: w[0] * w[1:], jnp.ones(4))
    with pytest.raises(ValueError, match="a block of weights with a Hessian for each entry"):
        ddln.vanishing_limit(shared, loss)
