"""The common interface of potentials, the convex functions of mirror flows."""

import abc

import equinox as eqx

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
