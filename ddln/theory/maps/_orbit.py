"""The orbit of the gradient fields: every point that gradient flow can reach, for all losses.

The orbit has the dimension of the Lie algebra that the fields generate (for analytic h; Nagano
1966), and conservation laws are the functions that are constant on orbits. By Sussmann 1973 the
fields, carried along by their own flows, span the tangent space of the orbit. So nested brackets,
which cost twice as much to compile and to run for each level, are not needed: carry a basis of the
known part of the tangent space along a flow, by its linearization, add the fields at the new point,
and repeat until no new direction appears. Every such leg is the same small program.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln.theory.maps._points import FlatMap, scaled_rows

# Lengths of a leg relative to the weights, tried in turn until one stays in the domain of h.
LENGTHS = (0.3, 0.1, 0.03)
# Number of legs without a new direction after which the orbit counts as known; the second for fields
# that are not quite in the known tangent space.
QUIET_LEGS = 3
UNCLEAR_LEGS = 6
# Number of random fields whose brackets are added to the fields: not needed, but it saves legs.
BRACKETED_FIELDS = 12
# Powers of eps: the relative error of a leg; the size below which a direction is none; the size above
# which it is one. A new direction is divided by its size, and so is its error.
ACCURACY, SMALL, LARGE = 0.85, 0.5, 0.25


class Orbit(eqx.Module):
    """The dimension of the orbit through a point, with its evidence.

    Attributes:
        dimension: the dimension of the known tangent space.
        gap: the smallest part of a field that counted as a new direction, over the largest part that
            did not in the end, both relative to the field.
    """

    dimension: int = eqx.field(static=True)
    gap: float = eqx.field(static=True)


def orbit(
    flat_map: Any, w: np.ndarray, rng: np.random.Generator, at_most: int | None = None
) -> Orbit:
    """Follow random fields from w, at known values, until no new direction appears.

    Args:
        flat_map: the map, or other fields with the methods of a `FlatMap`.
        w: the first point, shape [P].
        rng: for the random fields.
        at_most: a bound of the dimension, at which to stop; None for P.

    Raises:
        ValueError: if h has no finite derivatives near w.
    """
    eps = float(np.finfo(w.dtype).eps)
    basis = np.zeros((w.size, 0))
    counted, rest = 1.0, []
    at_most = w.size if at_most is None else at_most
    fields = _fields(flat_map, w, rng)
    while True:
        directions, sizes = _new_directions(basis, fields)
        new = sizes > eps**LARGE
        if new.any():
            basis = np.concatenate([basis, directions[:, new]], axis=1)
            counted, rest = min(counted, float(sizes[new].min())), []
        rest.append(float(sizes[~new].max(initial=0.0)))
        # A part that is small here may be large at a later point.
        patience = QUIET_LEGS if max(rest) < eps**SMALL else UNCLEAR_LEGS
        if basis.shape[1] >= at_most or len(rest) > patience:
            gap = counted / max(rest) if max(rest) > 0 else math.inf
            return Orbit(basis.shape[1], gap)
        w, carried = _finite_leg(flat_map, w, basis, rng)
        basis, _ = np.linalg.qr(carried)
        fields = _fields(flat_map, w, rng)


def orbit_points(
    flat_map: FlatMap, rng: np.random.Generator, count: int
) -> Float[np.ndarray, "points P"]:
    """The weights, and `count` other points of the orbit through them."""
    points = [np.asarray(flat_map.flat)]
    for _ in range(count):
        end, _ = _finite_leg(flat_map, points[-1], np.zeros((points[0].size, 0)), rng)
        points.append(end.astype(points[0].dtype))
    return np.stack(points)


def _new_directions(basis: np.ndarray, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The principal directions of the fields outside of the span of an orthonormal basis, with sizes."""
    for _ in range(2):  # Twice is enough for orthogonality to rounding.
        fields = fields - basis @ (basis.T @ fields)
    directions, sizes, _ = np.linalg.svd(fields, full_matrices=False)
    return directions, sizes


def _finite_leg(
    flat_map: Any, w: np.ndarray, frame: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The first leg along which h is finite."""
    direction = flat_map.random_directions(rng, 1)[0]
    for length in LENGTHS:
        end = _leg(flat_map, w, frame, direction, length)
        if end is not None:
            return end
    raise ValueError(
        "Argument `parameterization` must have finite first and second derivatives around its "
        "weights, but a flow of its gradient fields could not be followed. Start elsewhere."
    )


def _leg(
    flat_map: Any, w: np.ndarray, frame: np.ndarray, direction: np.ndarray, length: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The flow of the field of <direction, h> from w, and its derivative applied to a frame."""
    count = w.size
    start, _ = _field(flat_map, w, direction)
    reference = np.sum(start**2)
    speed = length * np.linalg.norm(w)
    if reference == 0:
        return w, frame

    def velocity(t: float, state: np.ndarray) -> np.ndarray:
        gradient, hessian = _field(flat_map, state[:count], direction)
        if not np.isfinite(hessian).all():
            raise _LeftDomainError
        # A function times a field has the same orbits; this one bounds the speed.
        size = np.sqrt(reference + np.sum(gradient**2))
        derivative = (hessian - np.outer(gradient / size, gradient / size @ hessian)) / size
        moved = derivative @ state[count:].reshape(frame.shape)
        return speed * np.concatenate([gradient / size, moved.reshape(-1)])

    # Imported late: SciPy takes a third of the time of importing this package.
    from scipy.integrate import solve_ivp

    accuracy = float(np.finfo(direction.dtype).eps) ** ACCURACY
    state = np.concatenate([w, frame.reshape(-1)])
    try:
        solution = solve_ivp(velocity, (0, 1), state, "DOP853", [1.0], rtol=accuracy, atol=accuracy)
    except _LeftDomainError:
        return None
    return solution.y[:count, -1], solution.y[count:, -1].reshape(frame.shape)


class _LeftDomainError(Exception):
    """A derivative of h is not finite."""


def _fields(flat_map: Any, w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Columns in the tangent space of the orbit at w.

    They are the gradients of h, or P random combinations of them, and brackets of a few, relative
    to the size of their factors.
    """
    columns = np.asarray(_scaled_jacobian(flat_map, jnp.asarray(w, flat_map.flat.dtype))).T
    size = columns.shape[1]
    if size > w.size:
        columns = columns @ rng.normal(size=(size, w.size)) / size**0.5
    directions = flat_map.random_directions(rng, min(BRACKETED_FIELDS, size))
    gradients, hessians = [], []
    for direction in directions:
        gradient, hessian = _field(flat_map, w, direction)
        norm = np.linalg.norm(gradient)
        gradients.append(gradient / (norm if norm > 0 else 1))
        hessians.append(hessian / (norm if norm > 0 else 1))
    along = np.stack(hessians) @ np.stack(gradients).T  # [field, P, along]
    brackets = along - along.transpose(2, 1, 0)
    upper = np.triu_indices(len(gradients), 1)
    return np.concatenate([columns, np.linalg.norm(w) * brackets[upper[0], :, upper[1]].T], axis=1)


def _field(flat_map: Any, w: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of <direction, h> and its derivative."""
    gradient, hessian = _field_and_derivative(
        flat_map, jnp.asarray(w, direction.dtype), jnp.asarray(direction)
    )
    if not isinstance(flat_map, FlatMap):
        hessian = hessian.T  # of a field that is no gradient
    return np.asarray(gradient, np.float64), np.asarray(hessian, np.float64)


@eqx.filter_jit
def _field_and_derivative(
    flat_map: Any, w: Float[Array, " P"], direction: Array
) -> tuple[Float[Array, " P"], Float[Array, "P P"]]:
    """The gradient of <direction, h> and the transposed derivative of it, by one linearization."""
    gradient, push = jax.linearize(lambda x: flat_map.gradient(x, direction), w)
    return gradient, jax.vmap(push)(jnp.eye(w.size, dtype=w.dtype))


_scaled_jacobian = eqx.filter_jit(scaled_rows)
