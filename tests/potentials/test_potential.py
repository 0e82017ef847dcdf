import jax
import jax.numpy as jnp

from ddln.parameterizations import DeepDiagonal, Identity
from ddln.potentials import (
    DeepDiagonalPotential,
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
