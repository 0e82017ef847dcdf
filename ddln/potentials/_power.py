"""The potential of a power map."""

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Theta
from ddln._validation import float_array
from ddln.potentials._divergence import log_ratio, short_divergence
from ddln.potentials._domain import require_positive_start
from ddln.potentials._separable import AbstractSeparablePotential


class PowerPotential(AbstractSeparablePotential):
    """The potential of theta = w^L, w > 0, L >= 3; L = 2 is `EntropyPotential(start, rate=4)`.

    With r = 1 - 2/L, per coordinate and summed:

        xi = grad Q(theta) = (theta_0^-r - theta^-r) / (L (L - 2)),
        Q(theta) = (theta_0^-r (theta - theta_0) - (L/2) E) / (L (L - 2)),
        Q*(xi) = E / (2 L),     E = theta^(2/L) - theta_0^(2/L).

    The domain is theta > 0 (`value`, and `bregman` in its first argument, admit 0 as well), and
    xi < theta_0^-r / (L (L - 2)).

    Source: Labarrière et al. 2024, Appendix A.3, with two corrections of equation 29: the exponent
    of u(0) is -(L-2), and the whole is divided by L (L - 2).

    Args:
        start: theta_0 > 0, of any shape.
        depth: L >= 3.

    Raises:
        ValueError: if a known entry of `start` is not finite and positive, or `depth` < 3.
    """

    origin: Theta
    depth: int = eqx.field(static=True)

    def __init__(self, start, depth: int):
        self.origin = float_array("start", start, "...")
        require_positive_start("start", self.origin)
        if depth < 3:
            raise ValueError(
                f"Argument `depth` must be at least 3, but it is {depth}. "
                "Depth 2 is `EntropyPotential(start, rate=4.0)`."
            )
        self.depth = depth

    @property
    def _decay(self) -> float:
        """r = 1 - 2/L: xi approaches its end as theta^-r."""
        return 1 - 2 / self.depth

    @property
    def _speed(self) -> float:
        return float(self.depth * (self.depth - 2))

    @property
    def start(self) -> Theta:
        return self.origin

    @property
    def domain(self) -> tuple[Theta, Theta]:
        return jnp.zeros_like(self.origin), jnp.full_like(self.origin, jnp.inf)

    @property
    def dual_domain(self) -> tuple[Theta, Theta]:
        return jnp.full_like(self.origin, -jnp.inf), self.origin**-self._decay / self._speed

    def _step(self, theta: Theta, reference: Theta) -> Theta:
        logarithm = log_ratio(theta, reference)
        return -(reference**-self._decay) * jnp.expm1(-self._decay * logarithm) / self._speed

    def _moved(self, reference: Theta, step: Theta) -> Theta:
        """log(theta / reference) after a step of xi."""
        return -jnp.log1p(-self._speed * step * reference**self._decay) / self._decay

    def _value(self, theta: Theta) -> Theta:
        return self._bregman(theta, self.origin)

    def _mirror_map(self, theta: Theta) -> Theta:
        return self._step(theta, self.origin)

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        return self.origin * jnp.exp(self._moved(self.origin, xi))

    def _conjugate(self, xi: Theta) -> Theta:
        power = 2 / self.depth
        growth = jnp.expm1(power * self._moved(self.origin, xi))
        return self.origin**power * growth / (2 * self.depth)

    def _metric(self, theta: Theta) -> Theta:
        return self.depth**2 * theta ** (2 - 2 / self.depth)

    def _hessian(self, theta: Theta) -> Theta:
        return 1 / self._metric(theta)

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        power = 2 / self.depth
        ends = theta == 0
        inner = jnp.where(ends, reference, theta)
        logarithm = log_ratio(inner, reference)
        near = jnp.abs(logarithm) < 1
        short = short_divergence(
            lambda eta: self._metric(reference * jnp.exp(self._moved(reference, eta))),
            jnp.where(near, self._step(inner, reference), 0),
        )
        growth = reference**power * jnp.expm1(power * logarithm)
        far = (reference**-self._decay * (inner - reference) - growth / power) / self._speed
        at_end = reference**power * (1 / power - 1) / self._speed
        return jnp.where(ends, at_end, jnp.where(near, short, far))
