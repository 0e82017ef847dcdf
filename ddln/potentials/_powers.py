"""The potentials of a power, and of a difference of powers."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Theta
from ddln._validation import float_array
from ddln.potentials._base import AbstractCurve
from ddln.potentials._divergence import log_ratio, short_divergence
from ddln.potentials._domain import require_positive_start, require_shape
from ddln.potentials._separable import AbstractSeparablePotential


class PowerPotential(AbstractSeparablePotential, AbstractCurve):
    """The potential of theta = w^L, w > 0, for any real L > 2; L = 2 is `EntropyPotential(start, rate=4)`.

    With r = 1 - 2/L, per coordinate and summed:

        xi = grad Q(theta) = (theta_0^-r - theta^-r) / (L (L - 2)),
        Q(theta) = (theta_0^-r (theta - theta_0) - (L/2) E) / (L (L - 2)),
        Q*(xi) = E / (2 L),     E = theta^(2/L) - theta_0^(2/L).

    The domain is theta > 0 (`value`, and `bregman` in its first argument, admit 0 as well), and
    xi < theta_0^-r / (L (L - 2)).

    As a curve, its coordinate v is theta itself, with z = log theta.

    Source: Labarrière et al. 2024, Appendix A.3, with two corrections of equation 29: the exponent
    of u(0) is -(L-2), and the whole is divided by L (L - 2).

    Args:
        start: theta_0 > 0, of any shape.
        depth: L > 2.

    Raises:
        ValueError: if a known entry of `start` is not finite and positive, or `depth` <= 2.
    """

    origin: Theta
    depth: int | float = eqx.field(static=True)

    def __init__(self, start, depth: int | float):
        self.origin = float_array("start", start, "...")
        require_positive_start("start", self.origin)
        if not depth > 2:
            raise ValueError(
                f"Argument `depth` must be above 2, but it is {depth}. "
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

    def at(self, v: Theta) -> Theta:
        return v

    def metric(self, v: Theta) -> Theta:
        return self._metric(v)

    def slope(self, v: Theta) -> Theta:
        return jnp.ones_like(v)

    def scale(self, v: Theta) -> Theta:
        return v

    def steepness(self, v: Theta) -> Theta:
        return jnp.ones_like(v)

    def advance(self, v: Theta, dz: Theta) -> Theta:
        return v * jnp.exp(dz)

    def step(self, v: Theta, dz: Theta) -> Theta:
        return -(v**-self._decay) * jnp.expm1(-self._decay * dz) / self._speed

    def dual(self, v: Theta) -> Theta:
        return self._step(v, self.origin)

    def confined(self) -> Bool[Array, ""]:
        return jnp.asarray(True)

    def _mirror_map(self, theta: Theta) -> Theta:
        return self.dual(theta)

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


def _difference(x: Theta, exponent: float) -> Theta:
    """(1 + e^x)^exponent - (1 + e^-x)^exponent."""
    return (2 * jnp.cosh(x / 2)) ** exponent * 2 * jnp.sinh(exponent * x / 2)


def _sum(x: Theta, exponent: float) -> Theta:
    """(1 + e^x)^exponent + (1 + e^-x)^exponent."""
    return (2 * jnp.cosh(x / 2)) ** exponent * 2 * jnp.cosh(exponent * x / 2)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
@partial(jax.jit, static_argnums=1)
def _difference_inverse(target: Theta, exponent: float) -> Theta:
    """The x with `_difference(x, exponent)` = target, for exponent > 1.

    By Newton's method for the logarithm of the difference as a function of log x, x > 0. The
    function is convex, so that the iteration, started from above, converges monotonically. The start
    bounds the second power by its value at 0; it is right within a factor of two.
    """
    zero = target == 0
    size = jnp.where(zero, 1, jnp.abs(target))
    x = jnp.log1p(2 * jnp.expm1(jnp.log1p(size * 2.0**-exponent) / exponent))

    def newton(_, x):
        half = x / 2
        # Logarithms of the two factors, without the exponentials: x may be large.
        level = exponent * (half + jnp.log1p(jnp.exp(-x))) + exponent * half
        level = level + jnp.log(-jnp.expm1(-exponent * x))
        slope = exponent * half * (jnp.tanh(half) + 1 / jnp.tanh(exponent * half))
        return x * jnp.exp((jnp.log(size) - level) / slope)

    x = jax.lax.fori_loop(0, 7, newton, x)
    return jnp.where(zero, 0, jnp.sign(target) * x)


@_difference_inverse.defjvp
def _difference_inverse_jvp(exponent, primals, tangents):
    (target,), (target_dot,) = primals, tangents
    x = _difference_inverse(target, exponent)
    # d/dx (1 + e^x)^q = q (1 + e^x)^(q-1) e^x, and (1 + e^x) = e^(x/2) 2 cosh(x/2).
    slope = exponent * (2 * jnp.cosh(x / 2)) ** (exponent - 1)
    slope = slope * 2 * jnp.cosh((exponent + 1) * x / 2)
    return x, target_dot / slope


class PowerDifferencePotential(AbstractSeparablePotential, AbstractCurve):
    """The potential of theta = u^L - v^L, u, v > 0, for any real L > 2; L = 2 is `HypentropyPotential`.

    The two powers move with opposite dual coordinates: with K = L (L - 2), a = u_0^(2-L) and
    b = v_0^(2-L), along the flow u^(2-L) = a - K xi and v^(2-L) = b + K xi, so that

        theta = (a - K xi)^(-L/(L-2)) - (b + K xi)^(-L/(L-2)),     -b < K xi < a.

    The mirror map solves this for xi, in the coordinate x = log((b + K xi)/(a - K xi)), where theta
    is proportional to (1 + e^x)^q - (1 + e^-x)^q, q = L/(L-2): odd and increasing. By the energy
    formula Q*(xi) = (u^2 + v^2 - u_0^2 - v_0^2) / (2 L). The domain of theta is the whole space.

    As a curve, its coordinate v is x = (L - 2) log(u / v); xi is an affine function of
    1 / (1 + e^-x).

    Args:
        positive: u_0 > 0, of any shape.
        negative: v_0 > 0, of the same shape.
        depth: L > 2.

    Raises:
        ValueError: if the shapes differ, a known entry is not positive, or `depth` <= 2 or so close to 2 that
            powers overflow.
    """

    positive: Theta
    negative: Theta
    depth: int | float = eqx.field(static=True)

    def __init__(self, positive, negative, depth: int | float):
        self.positive = float_array("positive", positive, "...")
        self.negative = float_array("negative", negative, "...")
        require_shape("negative", self.negative, self.positive)
        require_positive_start("positive", self.positive)
        require_positive_start("negative", self.negative)
        if not depth > 2:
            raise ValueError(
                f"Argument `depth` must be above 2, but it is {depth}. "
                "Depth 2 is `HypentropyPotential(u**2 - v**2, 2 * u * v, 4.0)`."
            )
        # Powers of 2 cosh(x / 2) with this exponent and the next must stay in the range of the dtype.
        if depth / (depth - 2) > 0.9 * jnp.finfo(self.positive.dtype).maxexp:
            raise ValueError(
                f"Argument `depth` must be 2 or further from it, but it is {depth}: powers of "
                f"L / (L - 2) overflow in {self.positive.dtype}. Take 2."
            )
        self.depth = depth

    @property
    def _speed(self) -> float:
        return float(self.depth * (self.depth - 2))

    @property
    def _exponent(self) -> float:
        return self.depth / (self.depth - 2)

    @property
    def _ends(self) -> tuple[Theta, Theta]:
        """a and b, the distances of K xi = 0 to the upper and to the lower end."""
        power = 2 - self.depth
        return self.positive**power, self.negative**power

    @property
    def origin(self) -> Theta:
        """x at the start, x = log((b + K xi) / (a - K xi)) = (L - 2) log(u / v)."""
        return (self.depth - 2) * jnp.log(self.positive / self.negative)

    @property
    def start(self) -> Theta:
        return self.positive**self.depth - self.negative**self.depth

    @property
    def domain(self) -> tuple[Theta, Theta]:
        infinite = jnp.full_like(self.positive, jnp.inf)
        return -infinite, infinite

    @property
    def dual_domain(self) -> tuple[Theta, Theta]:
        upper, lower = self._ends
        return -lower / self._speed, upper / self._speed

    def _x(self, theta: Theta) -> Theta:
        return _difference_inverse(theta * sum(self._ends) ** self._exponent, self._exponent)

    def _x_at(self, xi: Theta) -> Theta:
        upper, lower = self._ends
        shift = self._speed * xi
        return self.origin + jnp.log1p(shift / lower) - jnp.log1p(-shift / upper)

    def step(self, x: Theta, change: Theta) -> Theta:
        """xi(x + change) - xi(x): xi is a logistic function, times the length of its range."""
        ratio = jnp.sinh(change / 2) / (jnp.cosh(x / 2) * jnp.cosh((x + change) / 2))
        return sum(self._ends) / (2 * self._speed) * ratio

    def rate(self, x: Theta) -> Theta:
        """d xi / d x."""
        return sum(self._ends) / (4 * self._speed) / jnp.square(jnp.cosh(x / 2))

    def weights(self, x: Theta) -> tuple[Theta, Theta]:
        """u and v."""
        size, power = sum(self._ends), 1 / (self.depth - 2)
        return ((1 + jnp.exp(x)) / size) ** power, ((1 + jnp.exp(-x)) / size) ** power

    def metric(self, x: Theta) -> Theta:
        """M = d theta / d xi."""
        power = self._exponent + 1
        return self.depth**2 * sum(self._ends) ** -power * _sum(x, power)

    def slope(self, x: Theta) -> Theta:
        return self.metric(x) * self.rate(x)

    def steepness(self, x: Theta) -> Theta:
        return jnp.full_like(x, self._exponent)

    def dual(self, x: Theta) -> Theta:
        return self.step(self.origin, x - self.origin)

    def confined(self) -> Bool[Array, ""]:
        return ~jnp.all((self.positive > 0) & (self.negative > 0))

    def _energy(self, x: Theta) -> Theta:
        power = 2 / (self.depth - 2)
        return sum(self._ends) ** -power * _sum(x, power) / (2 * self.depth)

    def at(self, x: Theta) -> Theta:
        """theta(x)."""
        return sum(self._ends) ** -self._exponent * _difference(x, self._exponent)

    def _divergence(self, theta: Theta, x: Theta, reference: Theta) -> Theta:
        near = jnp.abs(x - reference) < 1 / self._exponent
        start = jnp.where(near, reference, 0)
        length = sum(self._ends) / self._speed
        fraction = jax.nn.sigmoid(start), jax.nn.sigmoid(-start)

        def metric(eta: Theta) -> Theta:
            part = eta / length
            return self.metric(
                start + jnp.log1p(part / fraction[0]) - jnp.log1p(-part / fraction[1])
            )

        step = self.step(reference, x - reference)
        short = short_divergence(metric, jnp.where(near, step, 0))
        far = theta * step - (self._energy(x) - self._energy(reference))
        return jnp.where(near, short, far)

    def _value(self, theta: Theta) -> Theta:
        return self._divergence(theta, self._x(theta), self.origin)

    def _mirror_map(self, theta: Theta) -> Theta:
        return self.dual(self._x(theta))

    def _inverse_mirror_map(self, xi: Theta) -> Theta:
        return self.at(self._x_at(xi))

    def _conjugate(self, xi: Theta) -> Theta:
        x = self._x_at(xi)
        near = jnp.abs(x - self.origin) < 0.1
        theta = self.at(jnp.where(near, x, self.origin))
        by_xi = xi * theta - self._divergence(theta, jnp.where(near, x, self.origin), self.origin)
        return jnp.where(near, by_xi, self._energy(x) - self._energy(self.origin))

    def _hessian(self, theta: Theta) -> Theta:
        return 1 / self.metric(self._x(theta))

    def _bregman(self, theta: Theta, reference: Theta) -> Theta:
        return self._divergence(theta, self._x(theta), self._x(reference))
