"""Conservation laws beyond gradient flow: momentum and steepest descent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln import theory

RNG = np.random.default_rng(0)
DIAGONAL = ddln.DeepDiagonal(RNG.choice([-1.0, 1.0], (3, 2)) * RNG.uniform(0.5, 1.5, (3, 2)))
MOMENTUM = ddln.MomentumDynamics(0.7)


def factors(rows, columns, rank):
    return ddln.MatrixFactorization(RNG.normal(size=(rows, rank)), RNG.normal(size=(columns, rank)))


# The published counts with momentum: r (r - 1) / 2 rotations of two factors, none for ReLU networks.
COUNTS = {
    "momentum, factors": (factors(2, 2, 2), MOMENTUM, 1),
    "momentum, more columns": (factors(2, 1, 3), MOMENTUM, 3),
    "momentum, diagonal": (DIAGONAL, MOMENTUM, 0),
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
        (ddln.MomentumDynamics(1.0, ddln.VanishingDamping()), "`dynamics` must be gradient flow"),
        (ddln.SteepestDynamics(ddln.PerLane(jnp.ones(2))), "must be a known number"),
    ],
)
def test_other_dynamics_are_refused(dynamics, message):
    with pytest.raises(ValueError, match=message):
        theory.count_conservation_laws(DIAGONAL, dynamics=dynamics)
