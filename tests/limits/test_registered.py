"""Limits of classes defined outside of the package, by a registered `MirrorGeometry`."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ddln
from ddln.potentials import AbstractCurve, MirrorGeometry, PowerPotential, mirror_geometry

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6))
Y = X @ RNG.uniform(0.5, 1.5, 6)
START = RNG.uniform(0.5, 1.5, 6)


class Exponential(ddln.AbstractParameterization):
    """theta = e^w."""

    exponents: jax.Array
    separable: ClassVar[bool] = True

    def effective(self):
        return jnp.exp(self.exponents)


class ExponentialCurve(AbstractCurve):
    """theta = e^v, xi = e^-v_0 - e^-v, because the metric is theta^2."""

    origin: jax.Array

    def at(self, v):
        return jnp.exp(v)

    def metric(self, v):
        return jnp.exp(2 * v)

    def slope(self, v):
        return jnp.exp(v)

    def steepness(self, v):
        return jnp.ones_like(v)

    def step(self, v, dz):
        return -jnp.exp(-v) * jnp.expm1(-dz)

    def dual(self, v):
        return jnp.exp(-self.origin) - jnp.exp(-v)

    def confined(self):
        return jnp.asarray(True)


class Cube(ddln.AbstractParameterization):
    """theta = w^3, a copy of `ddln.Power` that is unknown to the package."""

    weights: jax.Array
    separable: ClassVar[bool] = True

    def effective(self):
        return self.weights**3

    @property
    def homogeneity(self):
        return 3


@mirror_geometry.register
def _(start: Exponential) -> MirrorGeometry:
    return MirrorGeometry(
        potential=lambda: ddln.NumericalPotential(start),
        curve=lambda: ExponentialCurve(start.exponents),
        weights=lambda v: (v,),
    )


@mirror_geometry.register
def _(start: Cube) -> MirrorGeometry:
    return MirrorGeometry(lambda: PowerPotential(start.effective(), 3))


def test_a_registered_curve_leads_to_the_limit():
    start, loss = Exponential(jnp.log(START)), ddln.LeastSquares(X, Y)
    end = ddln.limit(start, loss)
    assert end.method == "path"
    theta = np.asarray(end.theta)
    np.testing.assert_allclose(X @ theta, Y, rtol=1e-9)
    # xi = 1/theta_0 - 1/theta is in the range of X^T.
    xi = 1 / START - 1 / theta
    np.testing.assert_allclose(xi, X.T @ np.linalg.lstsq(X.T, xi)[0], atol=1e-9)
    np.testing.assert_allclose(end.dual, xi, atol=1e-9)
    (exponents,) = jax.tree.leaves(end.parameterization)
    np.testing.assert_allclose(exponents, np.log(theta), atol=1e-9)


def test_a_registered_potential_gives_the_weights_of_the_l1_norm():
    found = ddln.l1_weights(Cube(jnp.asarray(START)))
    np.testing.assert_allclose(found, ddln.l1_weights(ddln.Power(START, 3)), rtol=1e-14)
    with pytest.raises(ValueError, match="another homogeneous map with a registered"):
        ddln.l1_weights(Exponential(jnp.log(START)))
    with pytest.raises(ValueError, match="but it is a Identity"):
        ddln.l1_weights(ddln.Identity(START))


def test_without_a_curve_the_flow_is_integrated():
    end = ddln.limit(Cube(jnp.asarray(START)), ddln.LeastSquares(X, Y), rtol=1e-6)
    expected = ddln.limit(ddln.Power(START, 3), ddln.LeastSquares(X, Y))
    assert (end.method, expected.method) == ("flow", "path")
    np.testing.assert_allclose(end.theta, expected.theta, rtol=1e-3)
