"""Abstract parameterizations and reduced coordinates: the Jacobian and metric of any map."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, product, pull_back
from ddln._types import Array, Float, Theta


class AbstractReducedCoordinates(eqx.Module):
    """A state with few unknowns per coordinate that determines the gradient flow of a parameterization.

    With state v, one array of the shape of theta or nested tuples of such arrays, and g = grad L(theta), the
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
        """theta(v) and p(v); override to share their work."""
        return self.effective(v), self.speed(v)

    @abc.abstractmethod
    def speed_slope(self, v: Any) -> Any:
        """d p / d v, with the structure of v."""

    def with_slopes(self, v: Any) -> tuple[Float[Array, " d"], Any, Any, Any]:
        """theta, p, d theta / d v and d p / d v; override to share their work."""
        theta, speed = self.effective_and_speed(v)
        return theta, speed, self.effective_slope(v), self.speed_slope(v)

    def decayed(self, total: Float[Array, ""]) -> "AbstractReducedCoordinates | None":
        """The coordinates after weight decay with the integral Lambda, or None if there are none.

        They are those of the weights exp(-Lambda) w, so that v' = -speed(v) grad L - lambda v there.
        """
        return None

    @abc.abstractmethod
    def weights(self, v: Any) -> tuple[Array, ...]:
        """The weights at v: the inexact leaves of the parameterization, in the order of its tree."""


class AbstractParameterization(eqx.Module):
    """A map theta = h(w) from trained weights to the effective parameter.

    The weights w are the inexact array leaves of the module; `effective` is the map, and the only
    method that a subclass must give: Jacobian, metric, flows and checks follow. The metric is
    M(w) = J J^T with J the Jacobian of h, so that theta' = -M grad L(theta) along the gradient flow
    of L(h(w)).

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
    def homogeneity(self) -> int | float | None:
        """The degree L with h(s w) = s^L h(w), or None if h has no degree or an unknown one."""
        return None

    def reduced(self) -> AbstractReducedCoordinates | None:
        """Reduced coordinates of the gradient flow from these weights, or None."""
        return None

    def jacobian(self) -> Float[Array, "D P"]:
        """The Jacobian of h, theta flattened to D rows and w to P columns.

        The weights are flattened leaf after leaf in the order of `jax.tree.leaves`.
        """
        effective, weights = as_function(self)
        flat, unravel = ravel_pytree(weights)
        return jax.jacrev(lambda w: effective(unravel(w)).reshape(-1))(flat)

    def metric(self) -> Float[Array, "D D"]:
        """The metric M = J J^T as a dense matrix, theta flattened to D entries."""
        jacobian = self.jacobian()
        return product(jacobian, jacobian.T)

    def metric_product(self, g: Theta) -> Theta:
        """M g = J (J^T g), by one reverse and one forward pass, without forming a matrix."""
        effective, weights = as_function(self)
        return jax.jvp(effective, (weights,), (pull_back(self, g),))[1]

    def metric_diagonal(self) -> Theta:
        """The diagonal of M, of the shape of theta, which is all of M for a separable parameterization.

        Raises:
            ValueError: if the parameterization is not separable; use `metric()`.
        """
        if not self.separable:
            raise ValueError(
                f"`metric_diagonal` needs a separable parameterization, but "
                f"{type(self).__name__} is not. Use `metric()`."
            )
        return self.metric_product(jnp.ones_like(self.effective()))
