"""The friction of a momentum flow as a function of time."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Float, PyTree, Scalar
from ddln._validation import is_known


class AbstractDamping(eqx.Module):
    """The friction d of lambda w'' + d(t) w' + grad F(w) = 0, lambda the inertia.

    All laws of the flow are for m(t, s) = exp(-int_s^t d / lambda), the memory of a velocity, and need

        int_s^t m(r, s) dr = k(s) - k(t) m(t, s).
    """

    @abc.abstractmethod
    def rate(self, t: Scalar, inertia: Scalar) -> Scalar:
        """d(t) / lambda, 0 where it is infinite."""

    @abc.abstractmethod
    def accelerate(
        self, t: Scalar, inertia: Scalar, velocity: PyTree[Scalar], force: PyTree[Scalar]
    ) -> PyTree[Scalar]:
        """The acceleration by a force per inertia: force - d velocity / lambda."""

    @abc.abstractmethod
    def memory(self, t: Scalar, inertia: Scalar) -> Scalar:
        """k(t)."""


class ConstantDamping(AbstractDamping):
    """d = 1: lambda w'' + w' + grad F(w) = 0, the heavy ball; inertia 0 is gradient flow.

    k = lambda. Source: Papazov et al. 2024.
    """

    def rate(self, t, inertia):
        return 1 / inertia

    def accelerate(self, t, inertia, velocity, force):
        return jax.tree.map(lambda f, v: f - v / inertia, force, velocity)

    def memory(self, t, inertia):
        return inertia


class VanishingDamping(AbstractDamping):
    """d = lambda alpha / t: lambda (w'' + (alpha / t) w') + grad F(w) = 0, Nesterov's method for alpha = 3.

    The inertia is but a unit of time here: sqrt(lambda). At rest at t = 0 the solution is
    w = w_0 - t^2 grad F(w_0) / (2 lambda (1 + alpha)) + O(t^4), so that the acceleration at 0 is
    -grad F(w_0) / (lambda (1 + alpha)), which is used there. k(t) = t / (alpha - 1).

    Args:
        alpha: the strength of the friction, above 1.

    Raises:
        ValueError: if `alpha` is not above 1.

    Source: Su, Boyd and Candès 2016.
    """

    alpha: float | Float[jax.Array, ""] = 3.0

    def __check_init__(self):
        if is_known(self.alpha) and not self.alpha > 1:
            raise ValueError(f"Argument `alpha` must be above 1, but it is {self.alpha}.")

    def rate(self, t, inertia):
        later = t > 0
        return jnp.where(later, self.alpha / jnp.where(later, t, 1), 0)

    def accelerate(self, t, inertia, velocity, force):
        rate = self.rate(t, inertia)
        return jax.tree.map(
            lambda f, v: jnp.where(t > 0, f - rate * v, f / (1 + self.alpha)), force, velocity
        )

    def memory(self, t, inertia):
        return t / (self.alpha - 1)
