"""A map as a function of one vector of weights, and points in the space of weights."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ddln._types import Array, Float, PRNGKeyArray, Scalar, Theta
from ddln.parameterizations import AbstractParameterization

# Radius of a random weight: SPREAD times the sum of its own size and SHARE times that of its leaf.
SPREAD = 0.5
SHARE = 0.2


class FlatMap(eqx.Module):
    """A parameterization as a function of its weights, leaf after leaf in one vector.

    Attributes:
        flat: the weights, shape [P].
        leaves: the names of the leaves with their shapes, in order.
    """

    flat: Float[Array, " P"]
    static: AbstractParameterization
    unravel: Callable = eqx.field(static=True)
    leaves: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(self, parameterization: AbstractParameterization):
        weights, self.static = eqx.partition(parameterization, eqx.is_inexact_array)
        self.flat, self.unravel = ravel_pytree(weights)
        paths, _ = jax.tree.flatten_with_path(weights)
        self.leaves = tuple((jax.tree_util.keystr(path), leaf.shape) for path, leaf in paths)

    def at(self, w: Float[Array, " P"]) -> AbstractParameterization:
        """The parameterization with these weights."""
        return eqx.combine(self.unravel(w), self.static)

    def effective(self, w: Float[Array, " P"]) -> Theta:
        """h(w)."""
        return self.at(w).effective()

    def gradient(self, w: Float[Array, " P"], direction: Theta) -> Float[Array, " P"]:
        """The gradient of <direction, h> at w."""
        return jax.vjp(self.effective, w)[1](direction)[0]

    def jacobian(self, w: Float[Array, " P"]) -> Float[Array, "D P"]:
        """J at w, by the smaller number of derivative passes."""
        size = jax.eval_shape(self.effective, w).size
        derivative = jax.jacfwd if w.size < size else jax.jacrev
        return derivative(lambda x: self.effective(x).reshape(-1))(w)

    def scaled_jacobian(self, w: Float[Array, " P"]) -> Float[Array, "D P"]:
        """The rows of J at w, nonzero ones scaled to norm one."""
        return scaled_rows(self, w)

    def radii(self) -> Float[Array, " P"]:
        """The radii of random points around the weights: of their size, and mostly of their signs."""
        whole = _rms(self.flat)

        def radius(leaf: Array) -> Array:
            size = jnp.where(_rms(leaf) > 0, _rms(leaf), jnp.where(whole > 0, whole, 1))
            return SPREAD * (jnp.abs(leaf) + SHARE * size)

        return ravel_pytree(jax.tree.map(radius, self.unravel(self.flat)))[0]

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random points around known weights, shape [count, P]."""
        flat, radii = np.asarray(self.flat), np.asarray(self.radii())
        return (flat + radii * rng.uniform(-1, 1, (count, flat.size))).astype(flat.dtype)

    def random_directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random directions of theta, shape [count, *theta]."""
        theta = jax.eval_shape(self.effective, self.flat)
        return rng.normal(size=(count, *theta.shape)).astype(theta.dtype)

    def given(self, points: AbstractParameterization) -> Float[Array, "count P"]:
        """The weights of a parameterization whose leaves have a leading axis."""
        return jax.vmap(lambda weights: ravel_pytree(weights)[0])(
            eqx.filter(points, eqx.is_inexact_array)
        )


def scaled_rows(fields: Any, w: Float[Array, " P"]) -> Float[Array, "K P"]:
    """The rows of `fields.jacobian` at w, nonzero ones scaled to norm one."""
    rows = fields.jacobian(w)
    norms = jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows / jnp.where(norms > 0, norms, 1)


def _rms(array: Array) -> Scalar:
    """The root mean square."""
    return jnp.sqrt(jnp.mean(jnp.square(array)))


def points_of(
    parameterization: AbstractParameterization,
    points: int | AbstractParameterization,
    key: PRNGKeyArray | None,
) -> tuple[FlatMap, Float[Array, "count P"], PRNGKeyArray]:
    """The map, the points and the key that the arguments of a check stand for.

    A number of points stands for the weights themselves and that many random points around them.
    """
    known_key = jax.random.key(0) if key is None else key
    flat_map = FlatMap(parameterization)
    if not isinstance(points, int):
        return flat_map, flat_map.given(points), known_key
    pair_key, random_key = jax.random.split(known_key)
    shape = (points, flat_map.flat.size)
    moves = jax.random.uniform(random_key, shape, jnp.float32, minval=-1, maxval=1)
    random = flat_map.flat[None] + flat_map.radii()[None] * moves.astype(flat_map.flat.dtype)
    return flat_map, jnp.concatenate([flat_map.flat[None], random]), pair_key


def generator(key: PRNGKeyArray | None) -> np.random.Generator:
    """NumPy's generator, seeded by a key; for work on known values, so that no draw is compiled."""
    key = jax.random.key(0) if key is None else key
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).reshape(-1))
