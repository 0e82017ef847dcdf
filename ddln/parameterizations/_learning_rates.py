"""Learning rates, one for each leaf of weights."""

import equinox as eqx
import jax

from ddln._types import PyTree, Theta
from ddln.parameterizations._base import AbstractParameterization


class LearningRates(AbstractParameterization):
    """The same map with a learning rate for each leaf of weights: w' = -rate * grad_w L(h(w)).

    In the variables z = w / sqrt(rate) this is the plain gradient flow of z -> h(sqrt(rate) z), and
    flows, checks, potentials and conservation laws apply to this map. The weights of this
    parameterization are z; `parameterization` has the weights w.

    Example (the direction learns a hundred times faster than the gain):
        >>> LearningRates(WeightNorm(1.0, jnp.array([3.0, 4.0])), (0.01, 1.0)).effective()
        Array([0.6, 0.8], dtype=float64)

    Args:
        parameterization: the map h with the initial weights w.
        rates: positive numbers, one for each leaf of weights in the order of `jax.tree.leaves`, as a
            tuple or another tree of that order; a single number is the rate of all leaves.

    Attributes:
        scaled: the parameterization with w replaced by z.
        rates: the rates of the leaves, not trained. Compilation caches compare them by value.

    Raises:
        ValueError: if the numbers of rates and of leaves differ, or a rate is not positive and
            finite.
    """

    scaled: AbstractParameterization
    rates: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, parameterization, rates: PyTree):
        if not isinstance(parameterization, AbstractParameterization):
            raise ValueError(
                "Argument `parameterization` must be a parameterization, but it is a "
                f"{type(parameterization).__name__}."
            )
        paths, _ = jax.tree.flatten_with_path(eqx.filter(parameterization, eqx.is_inexact_array))
        names = [jax.tree_util.keystr(path) for path, _ in paths]
        given = [float(rate) for rate in jax.tree.leaves(rates)]
        if len(given) == 1:
            given = given * len(names)
        if len(given) != len(names):
            raise ValueError(
                f"Argument `rates` must have one number, or one for each of the {len(names)} leaves "
                f"{', '.join(names)}, but it has {len(given)}."
            )
        for name, rate in zip(names, given, strict=True):
            if not 0 < rate < float("inf"):
                raise ValueError(
                    f"Argument `rates` must be positive and finite, but that of {name} is {rate}. "
                    "A leaf that is not trained belongs into the map, not among its weights."
                )
        self.rates = tuple(given)
        self.scaled = self._multiplied(parameterization, -0.5)

    def _multiplied(
        self, parameterization: AbstractParameterization, power: float
    ) -> AbstractParameterization:
        """The parameterization with each leaf of weights multiplied by its rate^power."""
        weights, rest = eqx.partition(parameterization, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(weights)
        scaled = [rate**power * leaf for rate, leaf in zip(self.rates, leaves, strict=True)]
        return eqx.combine(jax.tree.unflatten(structure, scaled), rest)

    @property
    def parameterization(self) -> AbstractParameterization:
        """The parameterization h with the weights w = sqrt(rate) z."""
        return self._multiplied(self.scaled, 0.5)

    @property
    def separable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.scaled.separable

    @property
    def homogeneity(self) -> int | float | None:
        return self.scaled.homogeneity

    def effective(self) -> Theta:
        return self.parameterization.effective()
