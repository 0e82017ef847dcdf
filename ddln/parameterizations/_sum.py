"""Sums of parameterizations."""

import functools
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from ddln._types import Array, Theta
from ddln.parameterizations._base import AbstractParameterization, AbstractReducedCoordinates
from ddln.parameterizations._constant import Constant
from ddln.parameterizations._deep_diagonal import DeepDiagonal
from ddln.parameterizations._four_vector import FourVector
from ddln.parameterizations._pairs import PairCoordinates, Pairs


class Sum(AbstractParameterization):
    """theta = the sum of several parameterizations, each with weights of its own. M = the sum of their M.

    A sum of separable terms is separable, and all terms see the same dual xi: with the potentials
    Q_k of the terms, theta(xi) = sum_k grad Q_k*(xi), and the potential of the sum is the infimal
    convolution of the Q_k. Its reduced coordinates are those of the terms side by side. For products
    of two layers with factors of one size they are the d unknowns of `two_layers()`, however wide
    the sum.

    Example (a residual network, theta = 1 + u v, and one of depths 2 and 3):
        >>> residual = Sum(Constant(jnp.ones(2)), DeepDiagonal([[1.0, 2.0], [3.0, -1.0]]))
        >>> mixed = Sum(residual, DeepDiagonal.zero_last(jnp.ones(2), depth=3))
        >>> mixed.effective()
        Array([ 4., -1.], dtype=float64)

    Args:
        terms: the parameterizations, which give theta of one shape and dtype.

    Raises:
        ValueError: if there is no term, a term is no parameterization, no term has weights, or the
            shapes or dtypes of their theta differ.
    """

    terms: tuple[AbstractParameterization, ...]

    def __init__(self, *terms):
        if not terms:
            raise ValueError("Argument `terms` must have at least one parameterization.")
        for term in terms:
            if not isinstance(term, AbstractParameterization):
                raise ValueError(
                    "Argument `terms` must be parameterizations, but one is a "
                    f"{type(term).__name__}. A constant is `ddln.Constant(theta)`."
                )
        shapes = [eqx.filter_eval_shape(lambda p: p.effective(), term) for term in terms]
        for number, found in enumerate(shapes):
            if (found.shape, found.dtype) != (shapes[0].shape, shapes[0].dtype):
                raise ValueError(
                    "Argument `terms` must give theta of one shape and dtype, but term 0 gives "
                    f"{shapes[0].dtype}{list(shapes[0].shape)} and term {number} "
                    f"{found.dtype}{list(found.shape)}. Convert or reshape its weights."
                )
        if all(isinstance(term, Constant) for term in terms):
            raise ValueError(
                "Argument `terms` must have weights, but all terms are constants. "
                "Add a term that is trained."
            )
        self.terms = terms

    @property
    def separable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(term.separable for term in self.terms)

    @property
    def homogeneity(self) -> int | float | None:
        degrees = {term.homogeneity for term in self.terms}
        return degrees.pop() if len(degrees) == 1 else None

    def effective(self) -> Theta:
        return _total([term.effective() for term in self.terms])

    def metric_product(self, g: Theta) -> Theta:
        return _total([term.metric_product(g) for term in self.trained()])

    def trained(self) -> tuple[AbstractParameterization, ...]:
        """The terms besides constants, those of inner sums one by one."""
        found: list[AbstractParameterization] = []
        for term in self.terms:
            if isinstance(term, Sum):
                found += term.trained()
            elif not isinstance(term, Constant):
                found.append(term)
        return tuple(found)

    def offset(self) -> Theta:
        """The sum of the constants, those of inner sums too."""
        parts = [term.offset() for term in self.terms if isinstance(term, Sum)]
        parts += [term.effective() for term in self.terms if isinstance(term, Constant)]
        return functools.reduce(jnp.add, parts, jnp.zeros_like(self.effective()))

    def pairs(self) -> Pairs | None:
        """The sum as signed products of pairs, or None if it is no such sum."""
        parts = [_pairs_of(term) for term in self.terms]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or len({part.factor for part in known}) > 1:
            return None
        return Pairs.joined(known)

    def two_layers(self) -> DeepDiagonal:
        """The network of two layers with the same theta, flow of theta, potential and limit.

        For theta = c sum_k s_k a_k b_k with signs s_k: u + v = sqrt(sum_k (a_k + s_k b_k)^2) and
        u - v = sqrt(sum_k (a_k - s_k b_k)^2).

        Raises:
            ValueError: if a term is neither a `DeepDiagonal` of two layers nor a `FourVector`, or the
                factors differ in size.
        """
        pairs = self.pairs()
        if pairs is None:
            raise ValueError(
                "`two_layers` needs a sum of `ddln.DeepDiagonal` of two layers and of "
                "`ddln.FourVector`, all with factors of one size, but this sum has other terms. "
                "Flows, potentials and limits take the sum as it is."
            )
        return pairs.network()

    def reduced(self) -> AbstractReducedCoordinates | None:
        pairs = self.pairs()
        if pairs is not None:
            return PairCoordinates.of(pairs)
        constants = tuple(term for term in self.terms if isinstance(term, Constant))
        parts = [term.reduced() for term in self.terms if not isinstance(term, Constant)]
        known = tuple(part for part in parts if part is not None)
        if len(known) < len(parts):
            return None
        return SumCoordinates(known, constants)  # pyright: ignore[reportCallIssue]


class SumCoordinates(AbstractReducedCoordinates):
    """The reduced coordinates of the terms of a sum that are trained, side by side in a tuple."""

    terms: tuple[AbstractReducedCoordinates, ...]
    constants: tuple[Constant, ...]

    @property
    def start(self) -> tuple[Any, ...]:
        return tuple(term.start for term in self.terms)

    def effective(self, v: tuple[Any, ...]) -> Theta:
        return self._theta([term.effective(one) for term, one in self._with(v)])

    def effective_slope(self, v: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(term.effective_slope(one) for term, one in self._with(v))

    def speed(self, v: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(term.speed(one) for term, one in self._with(v))

    def speed_slope(self, v: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(term.speed_slope(one) for term, one in self._with(v))

    def effective_and_speed(self, v: tuple[Any, ...]) -> tuple[Theta, Any]:
        parts = [term.effective_and_speed(one) for term, one in self._with(v)]
        theta, speeds = zip(*parts, strict=True)
        return self._theta(theta), speeds

    def with_slopes(self, v: tuple[Any, ...]) -> tuple[Theta, Any, Any, Any]:
        parts = [term.with_slopes(one) for term, one in self._with(v)]
        theta, speeds, slopes, speed_slopes = zip(*parts, strict=True)
        return self._theta(theta), speeds, slopes, speed_slopes

    def decayed(self, total: Array) -> "SumCoordinates | None":
        parts = [term.decayed(total) for term in self.terms]
        known = tuple(part for part in parts if part is not None)
        if len(known) < len(parts):
            return None
        return SumCoordinates(known, self.constants)  # pyright: ignore[reportCallIssue]

    def weights(self, v: tuple[Any, ...]) -> tuple[Array, ...]:
        return tuple(leaf for term, one in self._with(v) for leaf in term.weights(one))

    def _with(self, v: tuple[Any, ...]):
        return zip(self.terms, v, strict=True)

    def _theta(self, parts: Iterable[Theta]) -> Theta:
        return _total([*(term.effective() for term in self.constants), *parts])


def _total(parts) -> Theta:
    return functools.reduce(jnp.add, parts)


def _pairs_of(term: AbstractParameterization) -> Pairs | None:
    """A term as signed products of pairs, or None."""
    if isinstance(term, FourVector | Sum):
        return term.pairs()
    if isinstance(term, DeepDiagonal) and term.depth == 2:
        sign = 1.0 if term.factor > 0 else -1.0
        layers = term.layers
        return Pairs(layers[:1], layers[1:], (sign,), abs(term.factor), (True,))
    return None
