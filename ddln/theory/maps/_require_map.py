"""The guard of the analysis of a map: theta = h(w), differentiable and finite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, Theta
from ddln.parameterizations import AbstractParameterization
from ddln.theory.maps._points import FlatMap, generator


def require_map(parameterization: AbstractParameterization) -> None:
    """Require theta = h(w) to be a differentiable map with finite values at its known weights.

    Raises:
        ValueError: if there are no weights or some are integers; if h is not finite, is not
            differentiable by JAX, or changes the shape of theta with the values of the weights; if its
            derivative with respect to a leaf is not finite, or is zero in all directions here and
            nearby.
    """
    if not isinstance(parameterization, AbstractParameterization):
        raise ValueError(
            "Argument `parameterization` must be a `ddln.AbstractParameterization`, but it is a "
            f"{type(parameterization).__name__}. Wrap a function in `ddln.FromFunction`."
        )
    paths, _ = jax.tree.flatten_with_path(parameterization)
    for path, leaf in paths:
        name = jax.tree_util.keystr(path)
        if not eqx.is_inexact_array(leaf):
            kind = getattr(leaf, "dtype", type(leaf).__name__)
            raise ValueError(
                f"Leaf `{name}` must be an array of floating-point weights, but it is {kind}. "
                "Convert it, or make it a static field if it is no weight."
            )
        if not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"Leaf `{name}` must be finite, but it has entries that are not.")
    if not paths:
        raise ValueError("Argument `parameterization` must have weights, but it has no array leaf.")
    flat_map = FlatMap(parameterization)
    theta = parameterization.effective()
    if not isinstance(theta, jax.Array) or not jnp.issubdtype(theta.dtype, jnp.floating):
        raise ValueError(
            "The map must give a real array, but it gives "
            f"{getattr(theta, 'dtype', type(theta).__name__)}."
        )
    rng = generator(None)
    points = np.concatenate([np.asarray(flat_map.flat)[None], flat_map.random(rng, 2)])
    try:
        values, gradients = _values_and_gradients(
            flat_map, jnp.asarray(points), jnp.asarray(flat_map.random_directions(rng, 1)[0])
        )
    except (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        raise ValueError(
            "The map must have a shape and a course that do not depend on the values of the "
            f"weights, but it cannot be traced: {_first_line(error)}"
        ) from error
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"The map must be differentiable by JAX, but its derivative fails: {_first_line(error)}"
        ) from error
    if values.shape[1:] != theta.shape:
        raise ValueError(
            f"The map must have one shape of theta, but it is {theta.shape} for known weights and "
            f"{values.shape[1:]} for traced ones."
        )
    if not np.isfinite(np.asarray(values)[0]).all():
        raise ValueError(
            "The map must be finite at its weights, but theta has entries that are not."
        )
    start = 0
    for name, shape in flat_map.leaves:
        stop = start + int(np.prod(shape))
        part = np.asarray(gradients)[:, start:stop]
        if not np.isfinite(part[0]).all():
            raise ValueError(
                f"The map must be differentiable at its weights, but the derivative with respect to "
                f"leaf `{name}` is not finite there. Start elsewhere."
            )
        if not part.any():
            raise ValueError(
                f"The map must be differentiable and depend on every leaf, but its derivative with "
                f"respect to leaf `{name}` is zero here and nearby. Leave the leaf out if it has no "
                "influence; roundings, signs and `stop_gradient` have no derivative to flow along."
            )
        start = stop


@eqx.filter_jit
def _values_and_gradients(flat_map: FlatMap, points: Float[Array, "count P"], direction: Theta):
    """h and the gradient of <direction, h> at each point."""
    return jax.lax.map(lambda w: (flat_map.effective(w), flat_map.gradient(w, direction)), points)


def _first_line(error: Exception) -> str:
    """The first line of the message."""
    return str(error).strip().splitlines()[0]
