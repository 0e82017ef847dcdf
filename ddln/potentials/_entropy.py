"""The entropy: the potential of a square map."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Theta
from ddln._validation import float_array, require_positive
from ddln.potentials._divergence import log_ratio, short_divergence
from ddln.potentials._domain import require_positive_start
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

    def _value(self, theta: Theta) -> Theta:
        return self._bregman(theta, self.origin)

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
