import jax
import jax.numpy as jnp
import numpy as np

from ddln.parameterizations import DeepDiagonal, Identity, Power, PowerDifference, Square
from ddln.potentials import (
    DeepDiagonalPotential,
    NumericalPotential,
    QuadraticPotential,
    bracket_residual,
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
