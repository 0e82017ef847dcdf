"""Laws of the signal: mixtures of atoms and Gaussians."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, PRNGKeyArray, Scalar
from ddln._validation import float_array, is_known, require_not_negative


class Signal(eqx.Module):
    """The law of a coordinate of the signal theta*: a mixture of normal laws and atoms.

    theta* is drawn from N(means_j, deviations_j^2) with probability probabilities_j; a deviation of zero
    is an atom.

    Example (a spike and a slab, one coordinate in ten, E theta*^2 = 1):
        >>> ddln.Signal(means=[0.0, 0.0], deviations=[0.0, 10**0.5], probabilities=[0.9, 0.1])

    Args:
        means: shape [J].
        deviations: not negative, shape [J].
        probabilities: not negative, with the sum 1, shape [J].

    Raises:
        ValueError: if the shapes differ, or known values are negative or do not sum to 1.
    """

    means: Float[Array, " J"]
    deviations: Float[Array, " J"]
    probabilities: Float[Array, " J"]

    def __init__(self, means, deviations, probabilities):
        self.means = float_array("means", means, "J")
        self.deviations = float_array("deviations", deviations, "J")
        self.probabilities = float_array("probabilities", probabilities, "J")
        shapes = self.means.shape, self.deviations.shape, self.probabilities.shape
        if len(set(shapes)) > 1:
            raise ValueError(
                "Arguments `means`, `deviations` and `probabilities` must have one shape [J], but they "
                f"have the shapes {', '.join(map(str, shapes))}. Give a value for each component."
            )
        require_not_negative("deviations", self.deviations)
        require_not_negative("probabilities", self.probabilities)
        if is_known(self.probabilities):
            total = float(np.sum(np.asarray(self.probabilities, float)))
            if abs(total - 1) > 1e3 * float(jnp.finfo(self.probabilities.dtype).eps):
                raise ValueError(
                    f"Argument `probabilities` must sum to 1, but the sum is {total}. Divide by it."
                )

    @classmethod
    def sparse(cls, density: float | Float[Array, ""]) -> "Signal":
        """Spike and slab with E theta*^2 = 1: N(0, 1/density) with probability `density`, else 0.

        Args:
            density: the expected share of coordinates that are not zero, in (0, 1].
        """
        density = jnp.asarray(density)
        zero = jnp.zeros_like(density)
        return cls(
            jnp.stack([zero, zero]),
            jnp.stack([zero, 1 / jnp.sqrt(density)]),
            jnp.stack([1 - density, density]),
        )

    @property
    def energy(self) -> Scalar:
        """E theta*^2."""
        return jnp.sum(self.probabilities * (self.means**2 + self.deviations**2))

    def draw(self, key: PRNGKeyArray, dim: int) -> Float[Array, " d"]:
        """A signal with `dim` independent coordinates."""
        key_component, key_value = jax.random.split(key)
        logits = jnp.log(self.probabilities)
        component = jax.random.categorical(key_component, logits, shape=(dim,))
        normal = jax.random.normal(key_value, (dim,), self.means.dtype)
        return self.means[component] + self.deviations[component] * normal
