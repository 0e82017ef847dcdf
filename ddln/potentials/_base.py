"""The common interfaces of potentials and of curves of mirror flows."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from ddln._card import card, readable
from ddln._plot import figures
from ddln._types import Array, Bool, Scalar, Theta


class AbstractPotential(eqx.Module):
    """The potential Q of a mirror flow: d/dt grad Q(theta(t)) = -grad L(theta(t)).

    Gradient flow on the weights of theta = h(w) is a mirror flow on theta when its metric
    M = J J^T is the inverse of the Hessian of Q along the way. Q is normalised at the start:
    Q(theta_0) = 0 and grad Q(theta_0) = 0, so that grad Q(theta(t)) is the dual coordinate

        xi(t) = -int_0^t grad L(theta(s)) ds,

    and Q(theta) is the Bregman divergence of theta from the start.

    Every method raises a `ValueError` that names a coordinate for known arguments outside of the
    domain, and returns nan in that coordinate (for a sum: nan) when it is traced by JAX. A
    potential is not changed by either.
    """

    @property
    @abc.abstractmethod
    def start(self) -> Theta:
        """theta_0, where Q and its gradient vanish."""

    @property
    @abc.abstractmethod
    def domain(self) -> tuple[Theta, Theta]:
        """Lower and upper bounds of theta, per coordinate; grad Q exists between them."""

    @property
    @abc.abstractmethod
    def dual_domain(self) -> tuple[Theta, Theta]:
        """Lower and upper bounds of xi, per coordinate, both excluded: theta is infinite there,
        or at a finite end of its own domain.
        """

    @property
    def hyperbolic(self) -> tuple[Theta, Theta] | None:
        """rate and A if theta = A sinh(rate xi + k) or, with A = 0, theta = theta_0 exp(+-rate xi).

        None for every other relation between theta and xi.
        """
        return None

    @abc.abstractmethod
    def in_domain(self, theta: Theta) -> Bool[Array, "*theta"]:
        """Test of each coordinate of theta: grad Q exists there."""

    @abc.abstractmethod
    def value(self, theta: Theta) -> Scalar:
        """Q(theta) >= 0, with its limit at finite ends of the domain."""

    @abc.abstractmethod
    def mirror_map(self, theta: Theta) -> Theta:
        """xi = grad Q(theta)."""

    @abc.abstractmethod
    def inverse_mirror_map(self, xi: Theta) -> Theta:
        """theta = grad Q*(xi), the theta with grad Q(theta) = xi."""

    @abc.abstractmethod
    def conjugate(self, xi: Theta) -> Scalar:
        """Q*(xi) = max over theta of <xi, theta> - Q(theta), so that Q*(0) = 0."""

    @abc.abstractmethod
    def hessian_diagonal(self, theta: Theta) -> Theta:
        """Diagonal of the Hessian of Q at theta; 1/M_ii if the Hessian is diagonal."""

    @abc.abstractmethod
    def bregman(self, theta: Theta, reference: Theta) -> Scalar:
        """Q(theta) - Q(reference) - <grad Q(reference), theta - reference>, not negative.

        As for `value`, `theta` may be at a finite end of the domain, but `reference` may not.
        """

    def plot(self, reach: float = 1.0, **options: Any) -> Any:
        """Draw Q along coordinates, up to `reach` from the start, by `ddln.plots.potential_curves`."""
        return figures().potential_curves(self, reach, **options)

    def _repr_html_(self) -> str | None:
        if not readable(self):
            return None
        low, high = (jnp.asarray(bound) for bound in self.domain)
        domain = f"from {jnp.max(low):.4g} to {jnp.min(high):.4g} in every coordinate"
        return card(type(self).__name__, {"theta": self.start.shape, "domain": domain})


class AbstractCurve(eqx.Module):
    """The points (theta, xi = grad Q(theta)), elementwise, as functions of a coordinate v.

    v is an array of the shape of theta, or a tree of such arrays that move together. A separable mirror
    flow stays on its curve, and so does its limit. Steps are taken in a second coordinate z(v), in which
    theta and xi change mildly: theta by a factor of at most about
    exp(steepness * dz). Unless a subclass says otherwise, z = v.

    Every array leaf is real and differentiable.

    Attributes:
        origin: v_0, the coordinate of the start.
        reach: the largest step in z for which `step` is at rounding.
    """

    origin: eqx.AbstractVar[Any]
    reach: ClassVar[float] = float("inf")

    @abc.abstractmethod
    def at(self, v: Any) -> Theta:
        """theta(v)."""

    @abc.abstractmethod
    def metric(self, v: Any) -> Theta:
        """M = d theta / d xi; 0 in a coordinate that never moves."""

    @abc.abstractmethod
    def slope(self, v: Any) -> Theta:
        """d theta / d v, not zero; arbitrary in a coordinate that never moves."""

    def scale(self, v: Any) -> Theta:
        """d v / d z, positive."""
        return jnp.ones_like(v)

    @abc.abstractmethod
    def steepness(self, v: Any) -> Theta:
        """|d log theta / d z| far from the start."""

    def advance(self, v: Any, dz: Theta) -> Any:
        """v after a step in z."""
        return v + dz

    def travel(self, v: Any, dz: Theta) -> Any:
        """v after a step in z of any length, to rounding in z."""
        return self.advance(v, dz)

    @abc.abstractmethod
    def step(self, v: Any, dz: Theta) -> Theta:
        """Change of xi over a step in z, to relative accuracy however small it is."""

    def move(self, v: Any, dz: Theta) -> tuple[Any, Theta]:
        """v after a step in z, and the change of xi over it; override to share their work."""
        return self.advance(v, dz), self.step(v, dz)

    @abc.abstractmethod
    def dual(self, v: Any) -> Theta:
        """xi(v), differentiable in the start as well."""

    def tangent(self, v: Any, curve_dot: Any, change: Theta) -> Any:
        """The tangent of v that changes theta by `change`, next to what `curve_dot` changes at fixed v.

        Args:
            v: a point.
            curve_dot: the tangent of the curve itself, for a v of several arrays, which stay at one xi.
            change: the part of the tangent of theta that is due to v.
        """
        return change / self.slope(v)

    def confined(self) -> Bool[Array, ""]:
        """True if a coordinate keeps its sign or never moves."""
        return jnp.asarray(False)
