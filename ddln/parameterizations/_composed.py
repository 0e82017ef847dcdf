"""One parameterization after another."""

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
        outer: from an array to a parameterization: a class, or a function. It is compared by
            identity, so define it once.
        inner: the parameterization whose weights are trained.

    Raises:
        ValueError: if `outer` does not give a parameterization.
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

    def _made(self) -> AbstractParameterization:
        return self.outer(self.inner.effective())

    @property
    def homogeneity(self) -> int | None:
        outer = eqx.filter_eval_shape(self._made).homogeneity
        inner = self.inner.homogeneity
        return None if outer is None or inner is None else outer * inner

    def effective(self) -> Theta:
        return self._made().effective()
