"""The registry of mirror geometries (`_potential`), and the curves in it (`_base`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ddln.parameterizations import (
    Composed,
    DeepDiagonal,
    FromFunction,
    Identity,
    Power,
    PowerDifference,
    Square,
)
from ddln.potentials import (
    DeepDiagonalPotential,
    MirrorGeometry,
    NumericalPotential,
    QuadraticPotential,
    bracket_residual,
    mirror_geometry,
    potential,
)


def test_each_parameterization_has_its_closed_form():
    theta = jnp.array([[1.0, 2.0]])
    quadratic = potential(Identity(theta))
    assert isinstance(quadratic, QuadraticPotential)
    assert jnp.array_equal(quadratic.start, theta)
    network = DeepDiagonal.balanced(jnp.array([1.0, -2.0]), 3)
    assert isinstance(potential(network), DeepDiagonalPotential)
    w, v = jnp.array([0.7, 1.2]), jnp.array([0.4, 1.5])
    powers = [Power(w, depth) for depth in (2, 3)]
    differences = [PowerDifference(w, v, depth) for depth in (2, 3)]
    for network in (Square(w), *powers, *differences):
        q = potential(network)
        assert not isinstance(q, NumericalPotential)
        np.testing.assert_allclose(q.start, network(), rtol=1e-14)
        # The Hessian of Q is the inverse of the metric.
        product = q.hessian_diagonal(q.start) * network.metric_diagonal()
        np.testing.assert_allclose(product, 1, rtol=1e-12)


def test_a_registered_class_takes_precedence():
    class Shifted(Identity):
        pass

    @potential.register
    def _(parameterization: Shifted) -> QuadraticPotential:
        return QuadraticPotential(parameterization.theta + 1)

    assert potential(Shifted(jnp.array([1.0]))).start == 2.0


def test_brackets_of_a_deep_diagonal_network_vanish():
    network = DeepDiagonal(jax.random.normal(jax.random.key(0), (3, 4)))
    assert bracket_residual(network, jax.random.key(1)) < 1e-15


def test_a_registered_geometry_gives_the_potential():
    class Doubled(Identity):
        pass

    @mirror_geometry.register
    def _(start: Doubled) -> MirrorGeometry:
        return MirrorGeometry(lambda: QuadraticPotential(2 * start.theta))

    assert potential(Doubled(jnp.array([1.5]))).start == 3.0
    assert mirror_geometry(Identity(jnp.ones(1))) is not None
    assert mirror_geometry(Composed(Square, Identity(jnp.ones(1)))) is None


W, V = np.random.default_rng(1).uniform(0.4, 1.5, (2, 5))
SIGNS = np.array([1, -1, 1, -1, 1])
CURVES = {
    "identity": Identity(SIGNS * W),
    "square": Square(SIGNS * W),
    "power": Power(SIGNS * W, 3),
    "difference of squares": PowerDifference(W, V, 2),
    "difference of powers": PowerDifference(W, V, 4),
    "two layers": DeepDiagonal(np.stack([W, SIGNS * V]), -0.7),
    "four layers": DeepDiagonal(np.stack([W, SIGNS * V, W + 1, V - 2]), 1.3),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_and_its_weights_follow_the_flow_of_the_weights(name):
    """Along w' = J^T, theta' is the metric, and xi' = 1: against that flow, by the classical RK4."""
    start = CURVES[name]
    geometry = mirror_geometry(start)
    assert geometry is not None
    assert geometry.curve is not None
    assert geometry.weights is not None
    curve = geometry.curve()
    z = jnp.asarray([0.3, -0.2, 0.1, 0.25, -0.15])
    v = curve.advance(curve.origin, z)
    xi = curve.dual(v)
    np.testing.assert_allclose(curve.step(curve.origin, z), xi, rtol=1e-12)
    weights, structure = jax.tree.flatten(start)

    def velocity(leaves):
        _, pull = jax.vjp(lambda w: jax.tree.unflatten(structure, w)(), leaves)
        return pull(xi)[0]

    def moved(leaves, direction, step):
        return [w + step * d for w, d in zip(leaves, direction, strict=True)]

    def rk4(leaves, _):
        k1 = velocity(leaves)
        k2 = velocity(moved(leaves, k1, 0.0025))
        k3 = velocity(moved(leaves, k2, 0.0025))
        k4 = velocity(moved(leaves, k3, 0.005))
        for k, size in ((k1, 1), (k2, 2), (k3, 2), (k4, 1)):
            leaves = moved(leaves, k, 0.005 * size / 6)
        return leaves, None

    end, _ = jax.jit(lambda w: jax.lax.scan(rk4, w, length=200))(weights)
    for computed, expected in zip(geometry.weights(v), end, strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-8)
    there = jax.tree.unflatten(structure, end)
    np.testing.assert_allclose(curve.at(v), there(), rtol=1e-8)
    np.testing.assert_allclose(curve.metric(v), there.metric_diagonal(), rtol=1e-8)
    ones = jnp.ones_like(v)
    slope, speed = (jax.jvp(f, (v,), (ones,))[1] for f in (curve.at, curve.dual))
    np.testing.assert_allclose(curve.slope(v), slope, rtol=1e-12)
    np.testing.assert_allclose(curve.metric(v) * speed, slope, rtol=1e-12)
    scale = jax.jvp(lambda dz: curve.advance(v, dz), (0 * v,), (ones,))[1]
    np.testing.assert_allclose(curve.scale(v), scale, rtol=1e-12)


def test_potential_after_weight_decay():
    """grad Q_t(theta(t)) = xi_t with xi_t' = (L - 2) lambda xi_t - grad L, by SciPy on the layers."""
    rng = np.random.default_rng(0)
    X, y, layers = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(3, 4))

    def velocity(t, state):
        u, xi = state[:12].reshape(3, 4), state[12:]
        g = X.T @ (X @ u.prod(0) - y)
        others = np.stack([np.delete(u, j, 0).prod(0) for j in range(3)])
        return np.concatenate([(-g * others - 0.4 * u).ravel(), 0.4 * xi - g])

    first = np.concatenate([layers.ravel(), np.zeros(4)])
    end = solve_ivp(velocity, (0, 1.5), first, "DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    theta, xi = end[:12].reshape(3, 4).prod(0), end[12:]
    start = DeepDiagonal(layers)
    q = potential(start, integrated_decay=0.6)
    np.testing.assert_allclose(q.mirror_map(jnp.asarray(theta)), xi, atol=1e-10)
    conjugate = np.exp(-1.2) * potential(start).conjugate(np.exp(-0.6) * jnp.asarray(xi))
    np.testing.assert_allclose(q.conjugate(jnp.asarray(xi)), conjugate, rtol=1e-10)
    with pytest.raises(ValueError, match="without a degree of homogeneity"):
        potential(FromFunction(lambda w: w, jnp.ones(2)), integrated_decay=0.1)
    for u, v, total in [([0.5, 0.5], [0.5, 0.0], 0.1), ([0.5, 0.5], [0.5, 0.5], 400.0)]:
        pair = PowerDifference(jnp.asarray(u), jnp.asarray(v), 2)
        with pytest.raises(ValueError, match="must have positive weights whose product"):
            potential(pair, integrated_decay=total)
