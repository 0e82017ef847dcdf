"""The common interface of curves (theta, xi) of separable mirror flows."""

import abc
from typing import Any

import equinox as eqx

from ddln._types import Array, Bool, Theta


class AbstractCurve(eqx.Module):
    """The points (theta, xi = grad Q(theta)), elementwise, as functions of a coordinate v.

    A separable mirror flow stays on its curve, and so does its limit. Steps are taken in a second
    coordinate z(v), in which theta and xi change mildly: theta by a factor of at most about
    exp(steepness * dz).

    Every array leaf is real and differentiable.

    Attributes:
        origin: v_0, the coordinate of the start.
        reach: the largest step in z for which `step` is at rounding.
    """

    origin: eqx.AbstractVar[Any]
    reach: eqx.AbstractClassVar[float]

    @abc.abstractmethod
    def at(self, v: Theta) -> Theta:
        """theta(v)."""

    @abc.abstractmethod
    def metric(self, v: Theta) -> Theta:
        """M = d theta / d xi; 0 in a coordinate that never moves."""

    @abc.abstractmethod
    def slope(self, v: Theta) -> Theta:
        """d theta / d v, not zero; arbitrary in a coordinate that never moves."""

    @abc.abstractmethod
    def scale(self, v: Theta) -> Theta:
        """d v / d z, positive."""

    @abc.abstractmethod
    def steepness(self, v: Theta) -> Theta:
        """|d log theta / d z| far from the start."""

    @abc.abstractmethod
    def advance(self, v: Theta, dz: Theta) -> Theta:
        """v after a step in z."""

    @abc.abstractmethod
    def step(self, v: Theta, dz: Theta) -> Theta:
        """Change of xi over a step in z, to relative accuracy however small it is."""

    @abc.abstractmethod
    def dual(self, v: Theta) -> Theta:
        """xi(v), differentiable in the start as well."""

    @abc.abstractmethod
    def confined(self) -> Bool[Array, ""]:
        """True if a coordinate keeps its sign or never moves."""
