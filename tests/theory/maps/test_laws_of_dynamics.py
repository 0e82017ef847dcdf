"""Conservation laws beyond gradient flow: momentum, steepest descent, metrics of the weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
DIAGONAL = ddln.DeepDiagonal(RNG.choice([-1.0, 1.0], (3, 2)) * RNG.uniform(0.5, 1.5, (3, 2)))
MOMENTUM = ddln.MomentumDynamics(0.7)
NESTEROV = ddln.MomentumDynamics(0.7, ddln.VanishingDamping(3.0))


def factors(rows, columns, rank):
    return ddln.MatrixFactorization(RNG.normal(size=(rows, rank)), RNG.normal(size=(columns, rank)))


# The published counts with momentum: r (r - 1) / 2 rotations of two factors, none for ReLU networks.
COUNTS = {
    "momentum, factors": (factors(2, 2, 2), MOMENTUM, 1),
    "momentum, more columns": (factors(2, 1, 3), MOMENTUM, 3),
    "momentum, diagonal": (DIAGONAL, MOMENTUM, 0),
    "vanishing damping, factors": (factors(2, 2, 2), NESTEROV, 1),
    "vanishing damping, diagonal": (DIAGONAL, NESTEROV, 0),
    "momentum, relu": (
        theory.path_products([RNG.normal(size=(2, 1)), RNG.normal(size=(1, 2))]), MOMENTUM, 0,
    ),
    "sign, diagonal": (DIAGONAL, ddln.SteepestDynamics(1.0), 4),
    "steepest, diagonal": (DIAGONAL, ddln.SteepestDynamics(3.0), 4),
    "steepest, factors": (factors(2, 1, 2), ddln.SteepestDynamics(3.0), 0),
    "gradient, diagonal": (DIAGONAL, ddln.GradientDynamics(), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts_with_dynamics(name):
    parameterization, dynamics, count = COUNTS[name]
    laws = theory.count_conservation_laws(parameterization, dynamics=dynamics)
    assert laws.count == count, laws
    assert laws.certified, laws
    assert laws.quadratics.complete


# Positive factors move in the metric of the entropy, M = w; an input convex network x -> V relu(U x) has V in
# that metric and U in the plain one.
POSITIVE = ddln.MatrixFactorization(RNG.uniform(0.5, 1.5, (3, 2)), RNG.uniform(0.5, 1.5, (2, 2)))
CONVEX = theory.path_products([RNG.normal(size=(2, 2)), RNG.uniform(0.5, 1.5, (2, 2))])


def positive(factors):
    return factors


def convex(network):
    (first, _), _ = network.weights
    return eqx.tree_at(lambda p: p.weights[0][0], network, jnp.ones_like(first))


# The published ones: a law for each column, or hidden neuron, by gradient flow, and none by momentum.
METRICS = {
    "factors": (POSITIVE, positive, None, 2),
    "factors, momentum": (POSITIVE, positive, MOMENTUM, 0),
    "convex": (CONVEX, convex, None, 2),
    "convex, momentum": (CONVEX, convex, MOMENTUM, 0),
}


@pytest.mark.parametrize("name", METRICS)
def test_counts_with_metrics(name):
    parameterization, metric, dynamics, count = METRICS[name]
    laws = theory.count_conservation_laws(parameterization, dynamics=dynamics, metric=metric)
    assert laws.count == count, laws
    assert laws.certified, laws
    if dynamics is not None:
        return
    # Sums of columns of positive factors, and their products; |u_k|^2 / 2 - sum_j v_jk of networks.
    left, right = jax.tree.leaves(parameterization)
    one, other = np.asarray(left), np.asarray(right)
    known = [
        np.concatenate([first[k].ravel(), -second[k].ravel()])
        for first, second in [_gradients_of_laws(name, one, other)]
        for k in range(2)
    ]
    gradients = laws.quadratics.gradients(np.concatenate([one.ravel(), other.ravel()]))
    assert np.linalg.matrix_rank(np.concatenate([gradients, known]), tol=1e-8) == count


def _gradients_of_laws(name, left, right):
    """The gradients of the published laws k = 0, 1 in both leaves."""
    columns = np.eye(2)
    if name == "factors":
        return columns[:, None] * np.ones_like(left), columns[:, None] * np.ones_like(right)
    return columns[:, :, None] * left, columns[:, None] * np.ones_like(right)


@pytest.mark.parametrize("dynamics", [MOMENTUM, NESTEROV], ids=["constant", "vanishing"])
def test_momenta_along_paths_of_scipy(dynamics):
    """From a start that turns: r(t) <w', S w>, r = exp(t / 0.7) or t^3, is constant, its factors are not."""
    left, right = RNG.normal(size=(2, 2)), RNG.normal(size=(2, 2))
    X, y = RNG.normal(size=(3, 2, 2)), RNG.normal(size=3)

    def velocity(t, state):
        u, v, *rates = state.reshape(4, 2, 2)
        g = np.einsum("nij,n->ij", X, np.einsum("nij,ij->n", X, u @ v.T) - y)
        rate = 1 / 0.7 if dynamics is MOMENTUM else 3 / t
        forces = -np.stack([g @ v, g.T @ u]) / 0.7
        return np.concatenate([np.stack(rates), forces - rate * np.stack(rates)]).ravel()

    start = np.concatenate([np.stack([left, right]), RNG.normal(size=(2, 2, 2))])
    ts = np.array([0.5, 1.0, 2.0])
    path = solve_ivp(
        velocity, (0.5, 2.0), start.ravel(), "DOP853", ts, rtol=1e-11, atol=1e-13
    ).y.T.reshape(3, 4, 2, 2)
    momenta = theory.count_conservation_laws(
        ddln.MatrixFactorization(left, right), dynamics=dynamics
    ).quadratics
    (values,) = np.asarray([
        momenta(ddln.MatrixFactorization(u, v), ddln.MatrixFactorization(a, b), jnp.asarray(t))
        for t, (u, v, a, b) in zip(ts, path, strict=True)
    ]).T  # fmt: skip
    assert abs(values[0]) > 0.1
    np.testing.assert_allclose(values, values[0], rtol=1e-9)


def test_the_laws_are_those_of_the_flows():
    start = factors(2, 2, 2)
    X, y = RNG.normal(size=(3, 2, 2)), RNG.normal(size=3)
    loss, ts = ddln.LeastSquares(X, y), jnp.asarray([0.3, 1.0])
    flow = ddln.momentum_flow(start, loss, 1.0, inertia=0.7, ts=ts, rtol=1e-10, atol=1e-12)
    momenta = theory.count_conservation_laws(start, dynamics=MOMENTUM).quadratics
    values = jax.vmap(momenta)(flow.parameterization, flow.record.velocity, ts)
    # From rest the momentum of the rotation is zero, and stays so; that of another one does not.
    np.testing.assert_allclose(values, 0, atol=1e-8)
    left, right = map(np.asarray, (flow.record.velocity.left, flow.parameterization.left))
    turned = np.einsum("tik,tik->t", left, right[..., ::-1] * np.array([1.0, -1.0]))
    assert np.abs(turned).max() > 1e-2
    steepest = ddln.steepest_flow(
        DIAGONAL, ddln.LeastSquares(X[:, 0], y), 1.0, exponent=3.0, ts=ts, rtol=1e-10, atol=1e-12,
        coordinates="full",
    )  # fmt: skip
    dynamics = ddln.SteepestDynamics(3.0)
    powers = theory.count_conservation_laws(DIAGONAL, dynamics=dynamics).quadratics
    values = jax.vmap(powers)(steepest.parameterization)
    expected = np.broadcast_to(powers(DIAGONAL), values.shape)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-8)
    assert np.abs(np.diff(np.square(steepest.parameterization.layers), axis=0)).max() > 1e-2


@pytest.mark.parametrize(
    ("dynamics", "message"),
    [
        (ddln.GradientDynamics(0.1), "`dynamics` must be gradient flow"),
        (ddln.MirrorDynamics(), "`dynamics` must be gradient flow"),
        (ddln.SteepestDynamics(ddln.PerLane(jnp.ones(2))), "must be a known number"),
    ],
)
def test_other_dynamics_are_refused(dynamics, message):
    with pytest.raises(ValueError, match=message):
        theory.count_conservation_laws(DIAGONAL, dynamics=dynamics)


@pytest.mark.parametrize(
    ("metric", "dynamics", "message"),
    [
        (lambda p: p, ddln.SteepestDynamics(3.0), "`dynamics` must be gradient flow"),
        (lambda p: ddln.Identity(jnp.ones(2)), None, "`metric` must give one finite number"),
        (lambda p: ddln.DeepDiagonal(0 * p.layers), None, "`metric` must give one finite number"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(metric, dynamics, message):
    with pytest.raises(ValueError, match=message):
        theory.count_conservation_laws(DIAGONAL, dynamics=dynamics, metric=metric)
