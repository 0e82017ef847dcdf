"""What a parameterization is, and what follows from `effective` alone."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._types import Array, Float, Theta


class AbstractReducedCoordinates(eqx.Module):
    """Few unknowns per coordinate that carry the whole gradient flow of a parameterization.

    With state v, one array of the shape of theta or a tuple of such arrays, and g = grad L(theta), the
    flow of the weights is

        theta = effective(v),   v' = -speed(v) * g,
        metric M = diag(sum over the arrays of v of speed * effective_slope),

    all maps acting elementwise; each entry of `speed` depends on its own entry of v alone, and
    speed * effective_slope >= 0. The weights are a function of v.
    """

    start: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def effective(self, v: Any) -> Float[Array, " d"]:
        """theta(v)."""

    @abc.abstractmethod
    def effective_slope(self, v: Any) -> Any:
        """d theta / d v, with the structure of v."""

    @abc.abstractmethod
    def speed(self, v: Any) -> Any:
        """p(v), so that v' = -p(v) grad L(theta(v)), with the structure of v."""

    def effective_and_speed(self, v: Any) -> tuple[Float[Array, " d"], Any]:
        """Both, where they have most of their work in common."""
        return self.effective(v), self.speed(v)

    @abc.abstractmethod
    def speed_slope(self, v: Any) -> Any:
        """d p / d v, with the structure of v."""

    def with_slopes(self, v: Any) -> tuple[Float[Array, " d"], Any, Any, Any]:
        """theta, p, d theta / d v and d p / d v, where they have most of their work in common."""
        theta, speed = self.effective_and_speed(v)
        return theta, speed, self.effective_slope(v), self.speed_slope(v)

    @abc.abstractmethod
    def weights(self, v: Any) -> tuple[Array, ...]:
        """The weights at v: the inexact leaves of the parameterization, in the order of its tree."""


class AbstractParameterization(eqx.Module):
    """A map theta = h(w) from trained weights to the effective parameter.

    The weights w are the inexact array leaves of the module; `effective` is the map. To define your
    own, subclass this, give `effective`, and everything else (Jacobian, metric, flows, checks)
    works. Metric: M(w) = J J^T with J the Jacobian of h, so that theta' = -M grad L(theta) along
    the gradient flow of L(h(w)).

    Attributes:
        separable: whether theta_i depends on a block of weights of its own, so that M is diagonal.
    """

    separable: ClassVar[bool] = False

    @abc.abstractmethod
    def effective(self) -> Theta:
        """theta = h(w)."""

    def __call__(self) -> Theta:
        return self.effective()

    @property
    def homogeneity(self) -> int | None:
        """The degree L with h(s w) = s^L h(w), or None if there is none or it is not known."""
        return None

    def reduced(self) -> AbstractReducedCoordinates | None:
        """Reduced coordinates of the gradient flow from these weights, or None."""
        return None

    def jacobian(self) -> Float[Array, "D P"]:
        """The Jacobian of h, theta flattened to D rows and w to P columns.

        The weights are flattened leaf after leaf in the order of `jax.tree.leaves`.
        """
        weights, static = eqx.partition(self, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(weights)
        return jax.jacrev(lambda w: eqx.combine(unravel(w), static).effective().reshape(-1))(flat)

    def metric(self) -> Float[Array, "D D"]:
        """The metric M = J J^T as a dense matrix, theta flattened to D entries."""
        jacobian = self.jacobian()
        return jacobian @ jacobian.T

    def metric_product(self, g: Theta) -> Theta:
        """M g = J (J^T g), by one reverse and one forward pass, without forming a matrix."""
        weights, static = eqx.partition(self, eqx.is_inexact_array)

        def effective(w):
            return eqx.combine(w, static).effective()

        (pulled_back,) = jax.vjp(effective, weights)[1](g)
        return jax.jvp(effective, (weights,), (pulled_back,))[1]

    def metric_diagonal(self) -> Theta:
        """The diagonal of M, of the shape of theta; the whole of M where `separable` holds.

        Raises:
            ValueError: if the parameterization is not separable; take the diagonal of `metric()`.
        """
        if not self.separable:
            raise ValueError(
                f"`metric_diagonal` needs a separable parameterization, but "
                f"{type(self).__name__} is not. Use `metric()`."
            )
        return self.metric_product(jnp.ones_like(self.effective()))
