"""The Hessian of L(h(w)) in the weights, as operations that need no P by P matrix."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ddln._numerics import as_function, product
from ddln._types import Array, Float, Int, Loss, PyTree
from ddln.parameterizations import AbstractParameterization
from ddln.theory._krylov import krylov


class AbstractHessian(eqx.Module):
    """A Hessian, by the counts of its eigenvalues and its extreme eigenvectors."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """P, the number of weights."""

    @property
    @abc.abstractmethod
    def bound(self) -> Float[Array, ""]:
        """The size of H, to which tolerances are relative."""

    @abc.abstractmethod
    def counts(self, shift: Float[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """The least and the largest number of eigenvalues below a shift."""

    @abc.abstractmethod
    def extremes(self, k: int) -> tuple[Float[Array, " K"], Float[Array, "K P"]]:
        """The k lowest and the k highest eigenvalues, and vectors that span theirs."""


class RitzHessian(AbstractHessian):
    """A Hessian by its Ritz pairs: all eigenpairs, or those in a Krylov space.

    Attributes:
        values: the Ritz values, ascending, shape [m].
        vectors: the Ritz vectors as rows, shape [m, P].
        alive: mask of the pairs that are in the space, shape [m].
    """

    values: Float[Array, " m"]
    vectors: Float[Array, "m P"]
    alive: Array

    @classmethod
    def of(
        cls, parameterization: AbstractParameterization, loss: Loss, iterations: int
    ) -> "RitzHessian":
        """All eigenpairs up to P = `iterations`; for more weights those in a Krylov space."""
        flat, _, multiply = hessian_product(parameterization, loss)
        if flat.size <= iterations:
            dense = jax.vmap(multiply)(jnp.eye(flat.size, dtype=flat.dtype))
            values, vectors = jnp.linalg.eigh((dense + dense.T) / 2)
            return cls(values, vectors.T, jnp.ones(flat.size, bool))
        start = jax.random.normal(jax.random.key(0), flat.shape, flat.dtype)
        space = krylov(multiply, start, iterations)
        return cls(space.values, product(space.vectors.T, space.basis), space.alive)

    @property
    def size(self):
        return self.vectors.shape[1]

    @property
    def bound(self):
        size = jnp.max(jnp.where(self.alive, jnp.abs(self.values), 0))
        return float(jnp.finfo(size.dtype).tiny) + size

    def counts(self, shift):
        # As many eigenvalues as Ritz values lie on each side (Cauchy).
        above = jnp.sum(self.alive & (self.values >= shift))
        return jnp.sum(self.alive & (self.values < shift)), self.size - above

    def extremes(self, k):
        lowest = jnp.argsort(jnp.where(self.alive, self.values, jnp.inf))[:k]
        highest = jnp.argsort(jnp.where(self.alive, self.values, -jnp.inf))[-k:]
        found = jnp.concatenate([lowest, highest])
        return self.values[found], self.vectors[found]


def hessian_product(
    parameterization: AbstractParameterization, loss: Loss
) -> tuple[
    Float[Array, " P"],
    Callable[[Array], PyTree],
    Callable[[Float[Array, " P"]], Float[Array, " P"]],
]:
    """The flat weights, the map from flat weights to a tree, and the map v -> H v."""
    effective, weights = as_function(parameterization)
    flat, unravel = ravel_pytree(weights)

    def value(w):
        return loss(effective(unravel(w)))

    def multiply(vector):
        return jax.jvp(jax.grad(value), (flat,), (vector,))[1]

    return flat, unravel, multiply
