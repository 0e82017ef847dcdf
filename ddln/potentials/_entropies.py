"""The potentials of maps of degree 2: the entropy, and the hyperbolic entropy."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Theta
from ddln._validation import float_array, require_positive
from ddln.potentials._divergence import log_ratio, short_divergence
from ddln.potentials._domain import require_positive_start, require_shape
from ddln.potentials._separable import AbstractSeparablePotential


class EntropyPotential(AbstractSeparablePotential):
    """Q(theta) = (1/rate) sum_i (theta_i log(theta_i/theta_0i) - theta_i + theta_0i).

    The potential of a map with metric M = rate * theta: rate 2 for theta = w^2/2, rate 4 for
    theta = w^2. Then theta = theta_0 exp(rate xi) and Q*(xi) = (1/rate) sum (theta - theta_0). The
    domain is theta > 0; `value`, and `bregman` in its first argument, admit theta_i = 0 as well.

    Source: Labarrière et al. 2024, Appendix A; Q'' = 1/M.

    Args:
        start: theta_0 > 0, of any shape.
        rate: the metric divided by theta.

    Raises:
        ValueError: if a known entry of `start` is not finite and positive, or `rate` is not.
    """

    origin: Theta
    rate: float = eqx.field(static=True)

    def __init__(self, start, rate: float = 2.0):
        self.origin = float_array("start", start, "...")
        require_positive_start("start", self.origin)
        require_positive("rate", rate)
        self.rate = float(rate)

    @property
    def start(self) -> Theta:
        return self.origin

    @property
    def domain(self) -> tuple[Theta, Theta]:
        return jnp.zeros_like(self.origin), jnp.full_like(self.origin, jnp.inf)

    @property
    def dual_domain(self) -> tuple[Theta, Theta]:
        infinite = jnp.full_like(self.origin, jnp.inf)
        return -infinite, infinite

    @property
    def hyperbolic(self) -> tuple[Theta, Theta]:
        return jnp.full_like(self.origin, self.rate), jnp.zeros_like(self.origin)

    def _step(self, theta: Theta, reference: Theta) -> Theta:
        return log_ratio(theta, reference) / self.rate

    def _mirror_map(self, theta: Theta) -> Theta:
        return self._step(theta, self.origin)

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        return self.origin * jnp.exp(self.rate * xi)

    def _conjugate(self, xi: Theta) -> Theta:
        return self.origin * jnp.expm1(self.rate * xi) / self.rate

    def _hessian(self, theta: Theta) -> Theta:
        return 1 / (self.rate * theta)

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        ends = theta == 0
        inner = jnp.where(ends, reference, theta)
        step = self._step(inner, reference)
        near = jnp.abs(self.rate * step) < 1
        short = short_divergence(
            lambda eta: self.rate * reference * jnp.exp(self.rate * eta), jnp.where(near, step, 0)
        )
        far = inner * step - (inner - reference) / self.rate
        # theta log theta tends to 0 with theta.
        return jnp.where(ends, reference / self.rate, jnp.where(near, short, far))


class HypentropyPotential(AbstractSeparablePotential):
    """The potential of theta = A sinh(rate xi + k), k = arcsinh(theta_0 / A).

    Q(theta) = (1/rate) sum(theta (arcsinh(theta/A) - k) - R(theta) + R(theta_0)) with
    R(theta) = sqrt(theta^2 + A^2).
    Two layers theta = c u v have A = |c| |u_0^2 - v_0^2| / 2, rate = 2 |c|; a difference of squares
    theta = u^2 - v^2 has A = 2 u_0 v_0, rate = 4. Both domains are the whole space.

    Source: Woodworth et al. 2020; Labarrière et al. 2024, equations 16 and 19 with the factor of
    the bracket corrected from 1/2 to 1/4.

    Args:
        start: theta_0, of any shape.
        width: A > 0, of the shape of `start`.
        rate: the metric divided by sqrt(theta^2 + A^2), of the shape of `start` or a number.

    Raises:
        ValueError: if the shapes differ, or a known entry of `width` or `rate` is not positive.
    """

    origin: Theta
    width: Theta
    rate: Theta

    def __init__(self, start, width, rate):
        self.origin = float_array("start", start, "...")
        self.width = float_array("width", width, "...")
        self.rate = jnp.broadcast_to(jnp.asarray(rate, self.origin.dtype), self.origin.shape)
        require_shape("width", self.width, self.origin)
        require_positive_start("width", self.width)
        require_positive_start("rate", self.rate)

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

    @property
    def hyperbolic(self) -> tuple[Theta, Theta]:
        return self.rate, self.width

    def _step(self, theta: Theta, reference: Theta) -> Theta:
        """arcsinh(theta/A) - arcsinh(reference/A), by the subtraction theorem of sinh."""
        x, y = theta / self.width, reference / self.width
        root_x, root_y = jnp.hypot(x, jnp.ones_like(x)), jnp.hypot(y, jnp.ones_like(y))
        same = jnp.sign(x) * jnp.sign(y) > 0
        together = jnp.where(same, x * root_y + y * root_x, 1)
        difference = (theta - reference) / self.width * (x + y) / together
        return jnp.arcsinh(jnp.where(same, difference, x * root_y - y * root_x))

    def _metric(self, reference: Theta, turn: Theta) -> Theta:
        """M at the theta whose arcsinh(theta/A) exceeds that of the reference by `turn`."""
        root = jnp.hypot(reference, self.width)
        return self.rate * (root * jnp.cosh(turn) + reference * jnp.sinh(turn))

    def _mirror_map(self, theta: Theta) -> Theta:
        return self._step(theta, self.origin) / self.rate

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        turn = self.rate * xi
        root = jnp.hypot(self.origin, self.width)
        return self.origin * jnp.cosh(turn) + root * jnp.sinh(turn)

    def _conjugate(self, xi: Theta) -> Theta:
        # (1/rate) (sqrt(theta^2 + A^2) - sqrt(theta_0^2 + A^2)) as a product.
        half = 0.5 * self.rate * xi
        root = jnp.hypot(self.origin, self.width)
        middle = self.origin * jnp.cosh(half) + root * jnp.sinh(half)
        return 2 * jnp.sinh(half) * middle / self.rate

    def _hessian(self, theta: Theta) -> Theta:
        return 1 / (self.rate * jnp.hypot(theta, self.width))

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        turn = self._step(theta, reference)
        near = jnp.abs(turn) < 1
        short = short_divergence(
            lambda eta: self._metric(reference, self.rate * eta),
            jnp.where(near, turn, 0) / self.rate,
        )
        roots = jnp.hypot(theta, self.width), jnp.hypot(reference, self.width)
        drop = (theta - reference) * (theta + reference) / (roots[0] + roots[1])
        return jnp.where(near, short, (theta * turn - drop) / self.rate)
