"""The parameterizations besides the deep diagonal network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
W = RNG.uniform(0.5, 1.5, 3)
V = RNG.uniform(0.5, 1.5, 3)
U = RNG.normal(size=(3, 2))
R = RNG.normal(size=(4, 2))
FACTORS = [RNG.normal(size=shape) for shape in ((3, 2), (2, 4), (4, 2))]


def cubes(w):
    return w["a"] ** 3 - w["b"]


# Each with theta by NumPy, of the weights flattened leaf after leaf.
MAPS = {
    "Square": (ddln.Square(W), lambda w: w**2 / 2),
    "Power": (ddln.Power(W, 3), lambda w: w**3),
    "PowerDifference": (ddln.PowerDifference(W, V, 3), lambda w: w[:3] ** 3 - w[3:] ** 3),
    "Power 2.5": (ddln.Power(W, 2.5), lambda w: w**2.5),
    "PowerDifference 1.5": (ddln.PowerDifference(W, V, 1.5), lambda w: w[:3] ** 1.5 - w[3:] ** 1.5),
    "FourVector": (
        ddln.FourVector(W, V, -V, R[:3, 0]),
        lambda w: w[:3] * w[3:6] - w[6:9] * w[9:],
    ),
    "Sum": (
        ddln.Sum(ddln.Constant(W), ddln.Sum(ddln.DeepDiagonal(R[:3].T, -0.7), ddln.Square(V))),
        lambda w: W - 0.7 * w[:3] * w[3:6] + w[6:] ** 2 / 2,
    ),
    "Grouped": (
        ddln.Grouped(R[:2, :2], R[:, 0], [[0, 3], [2, 1]]),
        lambda w: (w[:2] * w[2:4])[[0, 1, 1, 0]] * w[4:],
    ),
    "Tied": (
        ddln.Tied([W, V, U[:, 0]], [2, 1, 3], -0.7),
        lambda w: -0.7 * w[:3] ** 2 * w[3:6] * w[6:] ** 3,
    ),
    "MatrixFactorization": (
        ddln.MatrixFactorization(U, R),
        lambda w: w[:6].reshape(3, 2) @ w[6:].reshape(4, 2).T,
    ),
    "SymmetricFactorization": (
        ddln.SymmetricFactorization(U),
        lambda w: w.reshape(3, 2) @ w.reshape(3, 2).T,
    ),
    "DeepMatrixFactorization": (
        ddln.DeepMatrixFactorization(FACTORS),
        lambda w: w[:6].reshape(3, 2) @ w[6:14].reshape(2, 4) @ w[14:].reshape(4, 2),
    ),
    "WeightNorm": (ddln.WeightNorm(2.0, V), lambda w: w[0] * w[1:] / np.linalg.norm(w[1:])),
    "Composed": (
        ddln.Composed(ddln.Square, ddln.WeightNorm(2.0, V)),
        lambda w: (w[0] * w[1:] / np.linalg.norm(w[1:])) ** 2 / 2,
    ),
    "FromFunction": (
        ddln.FromFunction(cubes, {"a": W, "b": V}),
        lambda w: w[:3] ** 3 - w[3:],
    ),
}
NAMES = sorted(MAPS)


def flat_weights(parameterization):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(parameterization)])


def numerical_jacobian(function, w, step=1e-6):
    sides = [
        (np.ravel(function(w + step * e)) - np.ravel(function(w - step * e))) / (2 * step)
        for e in np.eye(len(w))
    ]
    return np.stack(sides, axis=1)


@pytest.mark.parametrize("name", NAMES)
def test_theta_jacobian_and_metric(name):
    parameterization, function = MAPS[name]
    w = flat_weights(parameterization)
    np.testing.assert_allclose(parameterization(), function(w), rtol=1e-13)
    jacobian = numerical_jacobian(function, w)
    np.testing.assert_allclose(parameterization.jacobian(), jacobian, atol=1e-8)
    metric = parameterization.metric()
    np.testing.assert_allclose(metric, jacobian @ jacobian.T, atol=1e-7)
    if parameterization.separable:
        np.testing.assert_allclose(
            jnp.diag(parameterization.metric_diagonal()), metric, rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("name", NAMES)
def test_homogeneity(name):
    parameterization, function = MAPS[name]
    w = flat_weights(parameterization)
    degrees = [d for d in range(1, 8) if np.allclose(function(1.5 * w), 1.5**d * function(w))]
    # Weight normalization is homogeneous in all weights together, which is not used.
    known = parameterization.homogeneity
    if isinstance(known, float):
        degrees = [known] if np.allclose(function(1.5 * w), 1.5**known * function(w)) else []
    assert known is None or [known] == degrees


@pytest.mark.parametrize("name", [name for name in NAMES if not MAPS[name][0].separable])
def test_gradient_flow_against_scipy(name):
    parameterization, function = MAPS[name]
    w = flat_weights(parameterization)
    theta = function(w)
    rng = np.random.default_rng(1)
    X = rng.normal(size=(5, *theta.shape)) / np.sqrt(theta.size)
    y = rng.normal(size=5)
    flow = ddln.gradient_flow(parameterization, ddln.LeastSquares(X, y), 0.5, rtol=1e-9, atol=1e-11)

    def velocity(t, w):
        slope = X.reshape(5, -1).T @ (X.reshape(5, -1) @ np.ravel(function(w)) - y)
        return -numerical_jacobian(function, w).T @ slope

    expected = solve_ivp(velocity, (0, 0.5), w, rtol=1e-9, atol=1e-11).y[:, -1]
    np.testing.assert_allclose(flow.theta[-1], function(expected), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(flat_weights(flow.final), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "parameterization",
    [
        ddln.Square(W),
        ddln.Power(W, 4),
        ddln.PowerDifference(W, V, 2),
        ddln.PowerDifference(W, V, 3),
        ddln.PowerDifference(W, V, 2.5),
    ],
    ids=lambda p: f"{type(p).__name__} {getattr(p, 'depth', '')}",
)
def test_closed_potentials_are_those_of_the_flow(parameterization):
    rng = np.random.default_rng(2)
    loss = ddln.LeastSquares(rng.normal(size=(2, 3)) / 2, rng.uniform(0.5, 1, 2))
    flow = ddln.gradient_flow(
        parameterization, loss, 2.0, ts=[0.5, 1.0, 2.0], rtol=1e-9, atol=1e-12
    )
    check = theory.mirror_identity(flow, loss)
    assert check.holds, check
    np.testing.assert_allclose(check.lhs, flow.dual, rtol=1e-6, atol=1e-9)


def test_matrix_factorization_conserves_its_invariant():
    parameterization, _ = MAPS["MatrixFactorization"]
    mask = np.random.default_rng(3).uniform(size=(3, 4)) < 0.6
    X = np.eye(12)[mask.ravel()].reshape(-1, 3, 4)
    loss = ddln.LeastSquares(X, np.ones(len(X)))
    flow = ddln.gradient_flow(parameterization, loss, 5.0, rtol=1e-9, atol=1e-11)
    left, right = flow.final.left, flow.final.right
    np.testing.assert_allclose(left.T @ left - right.T @ right, U.T @ U - R.T @ R, atol=1e-7)


def test_weight_norm_conserves_its_norm():
    parameterization, _ = MAPS["WeightNorm"]
    loss = ddln.LeastSquares(np.eye(3), np.ones(3))
    flow = ddln.gradient_flow(parameterization, loss, 5.0, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(jnp.linalg.norm(flow.final.direction), np.linalg.norm(V), rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ddln.Power(W, 1),
            "`depth` must be finite and above 1, but it is 1. The first power",
        ),
        (
            lambda: ddln.Power(-W, 2.5),
            "`weights` must not be negative for a depth that is no integer",
        ),
        (lambda: ddln.Power(0 * W, 1.5), "`weights` must be positive for a depth below 2"),
        (lambda: ddln.PowerDifference(W, -V, 2.5), "`negative` must not be negative"),
        (lambda: ddln.PowerDifference(W, V[:2], 2), r"`negative` must have the shape \(3,\)"),
        (lambda: ddln.MatrixFactorization(U, R[:, :1]), "`right` must have 2 columns"),
        (lambda: ddln.DeepMatrixFactorization([U]), "at least 2 matrices, but it has 1"),
        (lambda: ddln.DeepMatrixFactorization([U, R]), r"factors\[0\] has shape \(3, 2\) and"),
        (lambda: ddln.WeightNorm(1.0, np.zeros(3)), "`direction` must not be zero"),
        (lambda: ddln.WeightNorm([1.0, 2.0], V), "`gain` must be a number"),
        (lambda: ddln.Composed(ddln.Square, W), "`inner` must be a parameterization"),
        (lambda: ddln.Composed(jnp.sin, ddln.Square(W)), "`outer` must give a parameterization"),
        (lambda: ddln.FromFunction(cubes, {}), "`weights` must have at least one array"),
        (lambda: ddln.FromFunction(cubes, {"a": W, "b": np.nan * V}), r"weights\['b'\]"),
        (
            lambda: ddln.FromFunction(lambda w: jnp.log(-w), W),
            r"function\(weights\)` must be finite",
        ),
        (
            lambda: ddln.FromFunction(lambda w: w > 0, W),
            "must give a real array, but it gives bool",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
