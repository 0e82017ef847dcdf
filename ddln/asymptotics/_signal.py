"""Laws of the signal: mixtures of atoms and Gaussians."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Int, PRNGKeyArray
from ddln._validation import float_array, is_known, require_not_negative


class Signal(eqx.Module):
    """The law of a coordinate of the signal theta*: a mixture of normal laws and atoms.

    theta* is drawn from N(means_j, deviations_j^2) with probability probabilities_j; a deviation of zero
    is an atom. Arrays of the shape [J, K] are laws that depend on the start: column k is the law where the
    start is that of coordinate k.

    Example (a spike and a slab, one coordinate in ten, E theta*^2 = 1):
        >>> ddln.Signal(means=[0.0, 0.0], deviations=[0.0, 10**0.5], probabilities=[0.9, 0.1])

    Args:
        means: shape [J] or [J, K].
        deviations: not negative, of the same shape.
        probabilities: not negative, with the sum 1 over j, of the same shape.

    Raises:
        ValueError: if the shapes differ, or known values are negative or do not sum to 1.
    """

    means: Float[Array, "J *K"]
    deviations: Float[Array, "J *K"]
    probabilities: Float[Array, "J *K"]

    def __init__(self, means, deviations, probabilities):
        self.means = float_array("means", means, "... J")
        self.deviations = float_array("deviations", deviations, "... J")
        self.probabilities = float_array("probabilities", probabilities, "... J")
        shapes = self.means.shape, self.deviations.shape, self.probabilities.shape
        if len(set(shapes)) > 1 or self.means.ndim > 2:
            raise ValueError(
                "Arguments `means`, `deviations` and `probabilities` must have one shape [J], or [J, K] for "
                f"K starts, but they have the shapes {', '.join(map(str, shapes))}. Give a value for each "
                "component."
            )
        require_not_negative("deviations", self.deviations)
        require_not_negative("probabilities", self.probabilities)
        require_total("probabilities", self.probabilities)

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
    def energy(self) -> Float[Array, "*K"]:
        """E theta*^2."""
        squares = self.probabilities * (self.means**2 + self.deviations**2)
        return jnp.sum(squares, axis=0)

    def draw(
        self, key: PRNGKeyArray, dim: int, starts: Int[Array, " d"] | None = None
    ) -> Float[Array, " d"]:
        """A signal with `dim` independent coordinates.

        Args:
            key: a JAX random key.
            dim: d.
            starts: for a law that depends on the start, the start k of each coordinate.

        Raises:
            ValueError: if the law depends on the start and `starts` is None.
        """
        key_component, key_value = jax.random.split(key)
        logits = jnp.log(self.probabilities)
        normal = jax.random.normal(key_value, (dim,), self.means.dtype)
        if self.means.ndim == 1:
            component = jax.random.categorical(key_component, logits, shape=(dim,))
            return self.means[component] + self.deviations[component] * normal
        if starts is None:
            raise ValueError(
                "Argument `starts` must be given for a law that depends on the start, but it is None. "
                "Give the start of each coordinate."
            )
        component = jax.random.categorical(key_component, logits[:, starts], axis=0)
        means, deviations = self.means[component, starts], self.deviations[component, starts]
        return means + deviations * normal


def require_total(name: str, probabilities: Float[Array, "J *K"]) -> None:
    """Raises if known probabilities do not sum to 1 over their first axis."""
    if not is_known(probabilities):
        return
    totals = np.sum(np.asarray(probabilities, float), axis=0)
    wrong = np.abs(totals - 1) > 1e3 * float(jnp.finfo(probabilities.dtype).eps)
    if np.any(wrong):
        total = totals[wrong][0] if totals.ndim else totals
        raise ValueError(f"Argument `{name}` must sum to 1, but the sum is {total}. Divide by it.")
