"""Composition of parameterizations."""

from collections.abc import Callable

import equinox as eqx

from ddln._types import Array, Theta
from ddln.parameterizations._base import AbstractParameterization


class Composed(AbstractParameterization):
    """theta = outer(inner.effective()).effective(): the trained weights are those of `inner`.

    Example (a square of a weight-normalized vector):
        >>> inner = WeightNorm(1.0, jnp.array([3.0, 4.0]))
        >>> Composed(Square, inner).effective()
        Array([0.18, 0.32], dtype=float64)

    Args:
        outer: a class or function that makes a parameterization from an array. Compilation caches
            compare it by identity, so define it once.
        inner: the parameterization with the trained weights.

    Raises:
        ValueError: if `inner` is not a parameterization, or `outer` does not return one.
    """

    outer: Callable[[Array], AbstractParameterization] = eqx.field(static=True)
    inner: AbstractParameterization

    def __init__(self, outer, inner):
        if not isinstance(inner, AbstractParameterization):
            raise ValueError(
                f"Argument `inner` must be a parameterization, but it is a {type(inner).__name__}."
            )
        self.outer = outer
        self.inner = inner
        made = outer(inner.effective())
        if not isinstance(made, AbstractParameterization):
            raise ValueError(
                "Argument `outer` must give a parameterization, but it gives a "
                f"{type(made).__name__}."
            )

    def _outer(self) -> AbstractParameterization:
        return self.outer(self.inner.effective())

    @property
    def homogeneity(self) -> int | float | None:
        outer = eqx.filter_eval_shape(self._outer).homogeneity
        inner = self.inner.homogeneity
        return None if outer is None or inner is None else outer * inner

    def effective(self) -> Theta:
        return self._outer().effective()
