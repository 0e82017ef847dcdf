"""The potential of plain gradient flow."""

import jax.numpy as jnp

from ddln._types import Theta
from ddln._validation import float_array
from ddln.potentials._base import AbstractCurve
from ddln.potentials._separable import AbstractSeparablePotential


class QuadraticPotential(AbstractSeparablePotential, AbstractCurve):
    """Q(theta) = |theta - theta_0|^2 / 2, the potential of theta = w.

    Its conjugate is Q*(xi) = <xi, theta_0> + |xi|^2 / 2. Both domains are the whole space.
    As a curve, its coordinate v is theta itself.

    Args:
        start: theta_0, of any shape.

    Raises:
        ValueError: if `start` is empty, not real, or has known values that are not finite.
    """

    origin: Theta

    def __init__(self, start):
        self.origin = float_array("start", start, "...")

    @property
    def start(self) -> Theta:
        return self.origin

    @property
    def domain(self) -> tuple[Theta, Theta]:
        infinite = jnp.full_like(self.origin, jnp.inf)
        return -infinite, infinite

    @property
    def dual_domain(self) -> tuple[Theta, Theta]:
        return self.domain

    def at(self, v: Theta) -> Theta:
        return v

    def metric(self, v: Theta) -> Theta:
        return jnp.ones_like(v)

    def slope(self, v: Theta) -> Theta:
        return jnp.ones_like(v)

    def steepness(self, v: Theta) -> Theta:
        return jnp.zeros_like(v)

    def step(self, v: Theta, dz: Theta) -> Theta:
        return dz

    def dual(self, v: Theta) -> Theta:
        return v - self.origin

    def _mirror_map(self, theta: Theta) -> Theta:
        return self.dual(theta)

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        return self.origin + xi

    def _conjugate(self, xi: Theta) -> Theta:
        return xi * (self.origin + 0.5 * xi)

    def _hessian(self, theta: Theta) -> Theta:
        return jnp.ones_like(theta)

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        return 0.5 * jnp.square(theta - reference)
