"""The unknowns of a stochastic flow: logarithms, layers with their integrals, or any weights.

Notation: dZ = grad L dt + sqrt(gamma) C^(1/2) dB is the stochastic gradient over dt, dw = -J^T dZ in the
sense of Ito. For a deep diagonal network theta = c u^1 ... u^L let k be the layer that is smallest at
the start. Ito's formula gives d(u^j)^2 = -2 theta dZ + (theta / u^j)^2 gamma C_ii dt, so the gaps
Delta_j = (u^j)^2 - (u^k)^2 have no martingale part:

    d log Delta_j = -gamma C_ii c^2 prod_{l != j, k} (u^l)^2 dt.

They keep their sign and, because the smallest one shrinks fastest, their order.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float, PyTree, Theta
from ddln.flows.states._base import AbstractStates
from ddln.flows.states._weights import FullSpace
from ddln.parameterizations import CanonicalForm, DeepDiagonal, products_of_others

# The discretization error is a weighted sum of squares of normal numbers. It exceeds its estimate with
# probability exp(-TAIL) (Laurent and Massart 2000, Lemma 1).
TAIL = 18


class AbstractNoisyStates(AbstractStates):
    """Unknowns of a stochastic flow."""

    @abc.abstractmethod
    def move(self, state: PyTree[Array], gradient: Theta) -> PyTree[Array]:
        """The move of the state by a gradient with respect to theta: linear in it."""

    @abc.abstractmethod
    def drift(self, state: PyTree[Array], gradient: Theta, variance: Theta) -> PyTree[Array]:
        """The drift of the state, for the gradient and the variance gamma C_ii."""

    @abc.abstractmethod
    def shrinkage(
        self, rows: PyTree[Array], dt: Float[Array, ""]
    ) -> tuple[Float[Array, "T gaps d"] | None, Float[Array, "T gaps d"] | None]:
        """gamma c^2 int C_ii prod_{l != j, k} (u^l)^2 ds and the error of the law, where there is one."""


class LogSpace(AbstractNoisyStates):
    """Logarithmic coordinates of a deep diagonal network, in which the law of the gaps is exact.

    The state is (x, s): s_j the exponent of Delta_j(t) = Delta_j(0) exp(-s_j), and x with
    u^k = sqrt(Delta_1) sinh x, Delta_1 the smallest gap. The drift of x vanishes but for the gradient:

        dx = -c sigma prod_{l != k, 1} |u^l| dZ,   sigma the product of the signs of the other layers.

    Indeed d(sqrt(Delta_1) sinh x) = sqrt(Delta_1) (cosh x dx + sinh x (d log Delta_1 + d<x>) / 2), where
    sqrt(Delta_1) cosh x = |u^1|, so that the first term is -(theta / u^k) dZ, and the second is zero:
    d<x> = gamma C_ii c^2 prod_{l != k, 1} (u^l)^2 dt = -d log Delta_1. With two layers x is
    log|w_+ / w_-| / 2 up to its sign, and Euler's method is exponentiated gradient descent. At a tie,
    Delta_1 = 0, |u^k| = |u^1| for ever: there u^k = u^k(0) exp(x - s_1 / 2), x(0) = 0.
    """

    initial: DeepDiagonal
    canonical: CanonicalForm

    def start(self):
        first = self.canonical.start
        root = jnp.sqrt(self._smallest_gap)
        x = jnp.where(self._tied, 0, jnp.arcsinh(first / root))
        return x, jnp.zeros_like(self.canonical.gaps)

    def rebuild(self, state):
        smallest, others = self._layers(state)
        ordered = jnp.concatenate([smallest[None, :], self.canonical.signs * others])
        order = jnp.argsort(self.canonical.permutation, axis=0)
        layers = jnp.take_along_axis(ordered, order, axis=0)
        return eqx.tree_at(lambda p: p.layers, self.initial, layers)

    def effective(self, state):
        # The layers in their order of size will do.
        smallest, others = self._layers(state)
        return self.initial.factor * smallest * jnp.prod(self.canonical.signs * others, axis=0)

    def move(self, state, gradient):
        _, others = self._layers(state)
        sign = jnp.prod(self.canonical.signs, axis=0)
        sign = jnp.where(self._tied, jnp.sign(self.canonical.start) * sign, sign)
        speed = self.initial.factor * sign * jnp.prod(others[1:], axis=0)
        return -speed * gradient, jnp.zeros_like(others)

    def drift(self, state, gradient, variance):
        dx, _ = self.move(state, gradient)
        return dx, shrinkage_rate(self._layers(state)[1], self.initial.factor, variance)

    def shrinkage(self, rows, dt):
        return rows[1], jnp.zeros_like(rows[1])

    @property
    def _tied(self):
        return self.canonical.gaps[0] == 0

    @property
    def _smallest_gap(self):
        return jnp.where(self._tied, 1, self.canonical.gaps[0])

    def _layers(self, state) -> tuple[Float[Array, " d"], Float[Array, "gaps d"]]:
        """The layer that was smallest, signed, and the sizes of the others."""
        x, exponents = state
        root = jnp.sqrt(self._smallest_gap)
        shrunk = jnp.exp(-exponents[0] / 2)
        grown = self.canonical.start * jnp.exp(jnp.where(self._tied, x, 0))
        smallest = shrunk * jnp.where(self._tied, grown, root * jnp.sinh(x))
        next_one = shrunk * jnp.where(self._tied, jnp.abs(grown), root * jnp.cosh(x))
        squares = jnp.square(smallest)[None, :] + self.canonical.gaps[1:] * jnp.exp(-exponents[1:])
        positive = squares > 0
        larger = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)
        return smallest, jnp.concatenate([next_one[None, :], larger])


class LayerSpace(AbstractNoisyStates):
    """The layers of a deep diagonal network, with the integrals of the law and of its error.

    One step of Euler's method multiplies Delta_j by 1 - r (dZ_i)^2 with r = c^2 prod_{l != j, k} (u^l)^2,
    instead of exp(-r gamma C_ii dt). To leading order the difference in the logarithm is
    -r gamma C_ii dt (z^2 - 1), z standard normal, and has the mean -(r g^2 + (3/2) (r gamma C_ii)^2) dt^2.
    """

    initial: DeepDiagonal
    canonical: CanonicalForm

    def start(self):
        zeros = jnp.zeros_like(self.canonical.gaps)
        return self.initial.layers, zeros, zeros, zeros, zeros

    def rebuild(self, state):
        return eqx.tree_at(lambda p: p.layers, self.initial, state[0])

    def move(self, state, gradient):
        layers, *integrals = state
        slopes = self.initial.factor * products_of_others(layers)
        return -slopes * gradient[None, :], *map(jnp.zeros_like, integrals)

    def drift(self, state, gradient, variance):
        layers, *_ = state
        ordered = jnp.take_along_axis(layers, self.canonical.permutation, axis=0)
        rate = shrinkage_rate(ordered[1:], self.initial.factor, variance)
        pull = shrinkage_rate(ordered[1:], self.initial.factor, jnp.square(gradient))
        moved, *_ = self.move(state, gradient)
        return moved, rate, pull, rate**2, rate**4

    def shrinkage(self, rows, dt):
        _, exponents, pull, squares, fourth = rows
        mean = dt * (pull + 1.5 * squares)
        # The norm of order 4 of the weights bounds the largest one.
        chance = 2 * jnp.sqrt(TAIL * dt * squares) + 2 * TAIL * (dt**3 * fourth) ** 0.25
        # Twice the mean, for the orders left out.
        return exponents, 2 * mean + chance


class WeightSpace(AbstractNoisyStates):
    """The weights of any parameterization: dw = -J^T dZ."""

    full: FullSpace

    def start(self):
        return self.full.start()

    def rebuild(self, state):
        return self.full.rebuild(state)

    def move(self, state, gradient):
        _, pull_back = jax.vjp(lambda w: self.rebuild(w).effective(), state)
        (direction,) = pull_back(gradient)
        return jax.tree.map(jnp.negative, direction)

    def drift(self, state, gradient, variance):
        return self.move(state, gradient)

    def shrinkage(self, rows, dt):
        return None, None


def shrinkage_rate(
    others: Float[Array, "gaps d"], factor: float, variance: Float[Array, " d"]
) -> Float[Array, "gaps d"]:
    """c^2 prod_{l != j, k} (u^l)^2 times the variance, for the layers other than k."""
    # With two layers the product is empty; XLA is slow to find out.
    products = products_of_others(others) if len(others) > 1 else jnp.ones_like(others)
    return jnp.square(factor * products) * variance[None, :]
