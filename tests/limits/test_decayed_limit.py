"""Limits with weight decay (`_l1_program`) and of other losses (`_predictions`), against convex programs."""

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

import ddln

RNG = np.random.default_rng(3)
N, D = 6, 9
X = RNG.normal(size=(N, D)) / np.sqrt(N)
Y = X @ np.array([1.5, -1.0, 0.7, 0, 0, 0, 0, 0, 0]) + 0.1 * RNG.normal(size=N)
TALL = RNG.normal(size=(30, 5)) / 2
LABELS = np.where(TALL @ np.array([1.0, -1, 0, 0, 0.5]) + RNG.normal(size=30) > 0, 1.0, -1.0)


def network(depth, factor=1.0, dim=D, seed=0):
    layers = ddln.DeepDiagonal.random(jax.random.key(seed), depth, dim).layers
    return ddln.DeepDiagonal(layers, factor)


def minimizer(loss, penalty, dim, *, signed=None):
    """argmin loss(theta) + penalty |theta|_1 by an interior point method of CVXPY."""
    theta = cp.Variable(dim)
    constraints = [] if signed is None else [cp.multiply(signed, theta) >= 0]
    problem = cp.Problem(cp.Minimize(loss(theta) + penalty * cp.norm1(theta)), constraints)
    problem.solve("CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return theta.value


def squared(theta):
    return cp.sum_squares(X @ theta - Y) / 2


def logistic(theta):
    return cp.sum(cp.logistic(cp.multiply(-LABELS, TALL @ theta)))


def violation(theta, gradient, penalty):
    """The largest violation of the conditions of a minimizer of L + penalty |theta|_1."""
    inside = np.abs(gradient + penalty * np.sign(theta))
    return np.max(np.where(theta != 0, inside, np.maximum(np.abs(gradient) - penalty, 0)))


def test_two_layers_are_the_lasso_for_every_penalty():
    c = -0.7
    decays = np.array([1e-5, 1e-3, 0.02, 0.1, 0.3, 10.0])
    net, loss = network(2, c), ddln.LeastSquares(X, Y)
    end = jax.jit(jax.vmap(lambda decay: ddln.limit(net, loss, weight_decay=decay, throw=False)))(
        jnp.asarray([*decays, -1.0, jnp.nan])
    )
    assert ddln.is_okay(end.result).tolist() == [True] * 6 + [False] * 2
    bad = jax.tree.map(lambda leaf: leaf[-1], end.result)
    assert ddln.RESULTS[bad] == ddln.RESULTS[ddln.RESULTS.unusable_weight_decay]
    for decay, theta, dual, layers in zip(
        decays, end.theta, end.dual, end.parameterization.layers, strict=False
    ):
        theta = np.asarray(theta)
        gradient = X.T @ (X @ theta - Y)
        assert violation(theta, gradient, decay / abs(c)) < 1e-13
        np.testing.assert_allclose(dual, -gradient, atol=1e-13)
        # CVXPY tells the support and its signs; the solution on them is a linear equation.
        near = minimizer(squared, decay / abs(c), D)
        on = np.abs(near) > 1e-6
        expected, part = np.zeros(D), X[:, on]
        expected[on] = np.linalg.solve(
            part.T @ part, part.T @ Y - decay / abs(c) * np.sign(near[on])
        )
        np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-9)
        # The weights are balanced, and keep the signs that the flow keeps.
        np.testing.assert_allclose(c * layers[0] * layers[1], theta, atol=1e-15)
        np.testing.assert_allclose(np.abs(layers[0]), np.abs(layers[1]), atol=1e-15)
        larger = np.argmax(np.abs(net.layers), axis=0)
        kept = np.asarray(net.layers)[larger, np.arange(D)] * layers[larger, np.arange(D)]
        assert np.all(kept >= 0)
    assert not np.any(end.theta[5])
    # Rounding of the gradient, whose terms are of size one, by an objective of the size of the decay.
    assert np.all(end.gap[:6] < 1e-14 / decays)


def test_more_samples_than_coordinates_for_every_penalty():
    """The active set and signs by CVXPY, and the solution on it in closed form."""
    loss, target = ddln.LeastSquares(TALL, LABELS, scale=0.7), LABELS
    decays = np.array([0.1, 1.0, 3.0, 1e3])
    net = network(2, dim=5)
    end = jax.jit(jax.vmap(lambda decay: ddln.limit(net, loss, weight_decay=decay, throw=False)))(
        jnp.asarray(decays)
    )
    assert np.all(ddln.is_okay(end.result))
    for decay, theta in zip(decays, np.asarray(end.theta), strict=True):
        gradient = 1.4 * TALL.T @ (TALL @ theta - target)
        assert violation(theta, gradient, decay) < 1e-10
        near = minimizer(lambda t: 0.7 * cp.sum_squares(TALL @ t - target), decay, 5)
        on = np.abs(near) > 1e-6
        part, expected = TALL[:, on], np.zeros(5)
        expected[on] = np.linalg.solve(
            part.T @ part, part.T @ target - decay / 1.4 * np.sign(near[on])
        )
        np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-9)
    counts = np.count_nonzero(end.theta, axis=1)
    assert counts[0] > counts[2] > counts[3] == 0


def test_derivatives_are_those_of_the_solution_on_its_support():
    net, direction = network(2), RNG.normal(size=D)

    def value(X, y, decay):
        theta = ddln.limit(net, ddln.LeastSquares(X, y), weight_decay=decay).theta
        return jnp.vdot(direction, theta)

    point = jnp.asarray(X), jnp.asarray(Y), jnp.asarray(0.1)
    theta = minimizer(squared, 0.1, D)
    support, sign = np.abs(theta) > 1e-6, np.sign(theta)

    def closed(X, y, decay):
        part = X[:, support]
        inner = np.linalg.solve(part.T @ part, part.T @ y - decay * sign[support])
        return direction[support] @ inner

    tangent = RNG.normal(size=X.shape), RNG.normal(size=N), np.asarray(RNG.normal())
    h = 1e-6
    arrays = [np.asarray(p) for p in point]
    up, down = (
        closed(*(p + s * h * t for p, t in zip(arrays, tangent, strict=True))) for s in (1, -1)
    )

    @jax.jit
    def both(point, tangent):
        _, linear = jax.linearize(value, *point)
        return linear(*tangent), jax.linear_transpose(linear, *point)(jnp.ones(()))

    forward, slope = both(point, tuple(map(jnp.asarray, tangent)))
    along = sum(np.vdot(a, b) for a, b in zip(slope, tangent, strict=True))
    np.testing.assert_allclose(along, (up - down) / (2 * h), rtol=1e-7)
    np.testing.assert_allclose(forward, along, rtol=1e-10)


def test_maps_that_keep_signs_have_signed_penalties():
    loss, start = ddln.LeastSquares(X, Y), jnp.full(D, 0.4)
    tied = jnp.concatenate(
        [jnp.full((2, D - 3), 0.3), jnp.ones((2, 3)) * jnp.array([[0.3], [1.0]])], 1
    )
    tied = tied.at[0, :2].multiply(-1)
    signs = np.sign(np.asarray(tied[0] * tied[1]))
    sides = np.array([1.0, 1, -1, -1, 0, 0, 1, -1, 0])
    free = np.array([0] * (D - 3) + [1] * 3, bool)
    one_sided = (jnp.where(side * sides >= 0, start, 0) for side in (1, -1))
    for map_, penalty, signed in [
        (ddln.Square(start), 0.05, np.ones(D)),
        (ddln.PowerDifference(start, start, 2), 0.025, None),
        # A weight at zero stays there: the domain of theta ends at zero on one side.
        (ddln.PowerDifference(*one_sided, 2), 0.025, sides),
        (ddln.DeepDiagonal(tied), 0.05, np.where(free, 0, signs)),
    ]:
        end = ddln.limit(map_, loss, weight_decay=0.05)
        np.testing.assert_allclose(
            end.theta, minimizer(squared, penalty, D, signed=signed), atol=2e-9
        )
        np.testing.assert_allclose(end.parameterization.effective(), end.theta, atol=1e-15)


def test_equal_columns_make_the_minimizer_ambiguous():
    twice = np.concatenate([X, X[:, :1]], axis=1)
    end = ddln.limit(
        network(2, dim=D + 1), ddln.LeastSquares(twice, Y), weight_decay=0.1, throw=False
    )
    assert end.result == ddln.RESULTS.ambiguous_minimum
    theta = np.asarray(end.theta)
    assert violation(theta, twice.T @ (twice @ theta - Y), 0.1) < 1e-13
    expected = minimizer(squared, 0.1, D)
    np.testing.assert_allclose(twice @ theta, X @ expected, atol=1e-9)


def test_deeper_networks_end_where_their_flow_comes_to_rest():
    loss, net, decay, depth, c = ddln.LeastSquares(X, Y), network(3, -0.8), 0.05, 3, -0.8
    end = ddln.limit(net, loss, weight_decay=decay)

    def velocity(t, w):
        layers = w.reshape(depth, D)
        g = c * (X.T @ (X @ (c * layers.prod(0)) - Y))
        others = np.stack([np.delete(layers, j, 0).prod(0) for j in range(depth)])
        return (-g * others - decay * layers).ravel()

    start = np.asarray(net.layers).ravel()
    layers = solve_ivp(velocity, (0, 3e3), start, "LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
    layers = layers.reshape(depth, D)
    np.testing.assert_allclose(end.theta, c * layers.prod(0), atol=1e-8)
    np.testing.assert_allclose(end.parameterization.layers, layers, atol=1e-8)
    theta = np.asarray(end.theta)
    on = theta != 0
    push = decay * np.sign(theta[on]) * np.abs(theta[on] / c) ** (2 / depth - 1) / abs(c)
    np.testing.assert_allclose((X.T @ (X @ theta - Y))[on] + push, 0, atol=1e-13)
    assert 0 < on.sum() < D
    assert end.method == "stationary"


def test_logistic_regression_with_and_without_penalty():
    loss = ddln.Logistic(TALL, LABELS)
    end = ddln.limit(network(2, dim=5), loss, weight_decay=0.7)
    theta = np.asarray(end.theta)
    np.testing.assert_allclose(theta, minimizer(logistic, 0.7, 5), atol=1e-6)
    margins = LABELS * (TALL @ theta)
    assert violation(theta, -(LABELS / (1 + np.exp(margins))) @ TALL, 0.7) < 1e-13
    assert np.any(theta == 0)
    # Without a penalty and with more samples than coordinates: the minimizer, from every depth.
    plain = minimize(
        lambda t: np.logaddexp(0, -LABELS * (TALL @ t)).sum(), np.zeros(5), tol=1e-12
    ).x
    np.testing.assert_allclose(ddln.limit(network(3, dim=5), loss).theta, plain, atol=1e-6)
    separable = ddln.limit(network(2), ddln.Logistic(X, np.sign(Y)), throw=False)
    assert separable.result == ddln.RESULTS.minimum_at_infinity


def test_l1_logistic_regression_is_that_of_scikit_learn():
    """By the coordinate descent of LIBLINEAR, and by the incremental gradients of SAGA."""
    linear_model = pytest.importorskip(
        "sklearn.linear_model", reason="scikit-learn of the extra `test` is not installed"
    )
    net, loss = network(2, dim=5), ddln.Logistic(TALL, LABELS)
    for decay in (0.05, 0.7, 2.0):
        theta = ddln.limit(net, loss, weight_decay=decay).theta
        for solver in ("liblinear", "saga"):
            model = linear_model.LogisticRegression(
                C=1 / decay, l1_ratio=1.0, solver=solver, fit_intercept=False, tol=1e-11,
                max_iter=100_000, random_state=0,
            )  # fmt: skip
            expected = model.fit(TALL, LABELS).coef_[0]
            np.testing.assert_allclose(theta, expected, rtol=0, atol=1e-6)
        assert np.any(theta == 0) == (decay > 0.1)


def test_generalized_linear_limits_are_those_of_linked_targets():
    """Poisson regression with n < d: exp(X theta) = y, so that the targets of least squares are log y."""
    net, counts = network(3), jnp.asarray(RNG.integers(1, 9, N), float)
    direction = jnp.asarray(RNG.normal(size=D))

    def of_loss(X, y):
        loss = ddln.GeneralizedLinear(X, y, lambda z, y: jnp.exp(z) - y * z)
        return jnp.vdot(direction, ddln.limit(net, loss).theta, precision="highest")

    def of_link(X, y):
        end = ddln.limit(net, ddln.LeastSquares(X, jnp.log(y)))
        return jnp.vdot(direction, end.theta, precision="highest")

    found, expected = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(jnp.asarray(X), counts) for f in (of_loss, of_link)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


def test_targets_that_no_prediction_attains_have_a_code():
    """Poisson regression: exp(z) - y z falls without end for counts of 0 or less."""
    net = network(3)

    def result(y):
        loss = ddln.GeneralizedLinear(X, y, lambda z, y: jnp.exp(z) - y * z)
        return ddln.limit(net, loss, throw=False).result

    counts = jnp.asarray(RNG.integers(1, 9, N), float)
    lanes = jnp.stack([counts, counts.at[2].set(0.0), counts.at[2].set(-1.0)])
    codes = jax.jit(jax.vmap(result), compiler_options={"xla_backend_optimization_level": 0})(lanes)
    assert ddln.is_okay(codes).tolist() == [True, False, False]
    assert np.all((codes == ddln.RESULTS.minimum_at_infinity)[1:])


def test_decay_that_is_switched_off_leaves_the_limit_of_the_state():
    loss, net = ddln.LeastSquares(X, Y), network(3)
    state = ddln.gradient_flow(net, loss, 2.0, weight_decay=0.4, rtol=1e-9, atol=1e-12).final
    decay = ddln.PiecewiseConstant([2.0], [0.4, 0.0])
    flow = ddln.gradient_flow(net, loss, 1e5, weight_decay=decay, rtol=1e-9, atol=1e-12)
    end = ddln.limit(state, loss).theta
    np.testing.assert_allclose(flow.theta[-1], end, atol=1e-7)
    assert np.max(np.abs(end - ddln.limit(net, loss).theta)) > 1e-2
    # It is that of a smaller start without decay.
    smaller = ddln.limit(ddln.DeepDiagonal(np.exp(-0.8) * net.layers), loss).theta
    np.testing.assert_allclose(flow.theta[-1], smaller, atol=1e-7)


def test_the_end_after_decay_has_derivatives_in_the_decay_and_in_its_stop():
    loss, net, direction = ddln.LeastSquares(X, Y), network(3), jnp.asarray(RNG.normal(size=D))

    def value(numbers):
        decay, stop = numbers
        settings = {"rtol": 1e-9, "atol": 1e-12, "dual": False, "throw": False}
        state = ddln.gradient_flow(net, loss, stop, weight_decay=decay, **settings).final
        theta = ddln.limit(state, loss, throw=False).theta
        return jnp.vdot(direction, theta, precision="highest")

    moved = 1e-4 * jnp.concatenate([jnp.zeros((1, 2)), jnp.eye(2), -jnp.eye(2)])
    program = jax.jit(
        jax.vmap(jax.value_and_grad(value)), compiler_options={"xla_backend_optimization_level": 0}
    )
    values, slopes = program(jnp.asarray([[0.4, 2.0]]) + moved)
    np.testing.assert_allclose(slopes[0], (values[1:3] - values[3:]) / 2e-4, rtol=1e-5)


def test_bad_arguments():
    loss = ddln.LeastSquares(X, Y)
    for start, settings, message in [
        (network(2), {"weight_decay": 0.0}, "must be finite and positive.*Pass None for none"),
        (network(2), {"weight_decay": -0.1}, "must be finite and positive.*Pass None for none"),
        (network(2), {"weight_decay": np.nan}, "must be finite and positive.*Pass None for none"),
        (ddln.Identity(jnp.ones(D)), {"weight_decay": 0.1}, "must be None for a parameterization"),
    ]:
        with pytest.raises(ValueError, match=message):
            ddln.limit(start, loss, **settings)
    with pytest.raises(ValueError, match="for a parameterization without a potential"):
        ddln.limit(ddln.FromFunction(lambda w: w, jnp.ones(5)), ddln.Logistic(TALL, LABELS))
