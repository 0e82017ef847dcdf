"""The joint law of the weights at the end of training and of the signal."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Float
from ddln.asymptotics._arguments import signal_of, weights_of, with_coordinates
from ddln.asymptotics._moments import Joint, Sample
from ddln.asymptotics._signal import Signal
from ddln.asymptotics._state_evolution import StateEvolution, state_evolution
from ddln.asymptotics._sum_chart import chart_of
from ddln.parameterizations import AbstractParameterization
from ddln.potentials import mirror_geometry

# Gauss-Legendre nodes of a panel.
NODES = 4


class EndLaw(eqx.Module):
    """The law of a coordinate at the end of training, by points with probabilities.

    Attributes:
        start: the weights at the end, a coordinate for each point.
        signal: the law of theta* for each point, shape [1, size].
        weights: the probabilities of the points.
        evolution: the state evolution of which this is the end.
        lost: the probability of the points that were left out.
    """

    start: AbstractParameterization
    signal: Signal
    weights: Float[Array, " size"]
    evolution: StateEvolution
    lost: Float[Array, ""]


def end_law(
    start: AbstractParameterization,
    signal: Signal,
    ratio: float | Float[Array, ""],
    noise: float | Float[Array, ""] = 0.0,
    *,
    weights: Float[Array, " K"] | None = None,
    size: int = 256,
    throw: bool = True,
) -> EndLaw:
    r"""The law of the weights and of the signal at the end of training, as the start of another task.

    The end is the start of a second training with new Gaussian data: of the same signal, of one that
    depends on it, or of another. As the new data do not depend on the weights and on the signal, the state
    evolution of the second training is that of the start and the signal with their joint law: at
    theta + gamma grad Q(theta) = z the weights are those of the curve, and theta* is normal given z. The law
    is given by the nodes of a quadrature in z, those of largest probability.

    Example (more data of the same signal, in a second training):
        >>> first = end_law(start, signal, ratio=0.2)
        >>> second = ddln.state_evolution(first.start, first.signal, 0.2, weights=first.weights)

    Args:
        start: as in `ddln.state_evolution`.
        signal: as in `ddln.state_evolution`.
        ratio: as in `ddln.state_evolution`.
        noise: as in `ddln.state_evolution`.
        weights: as in `ddln.state_evolution`.
        size: the number of points.
        throw: as in `ddln.state_evolution`.

    Returns:
        The law; its numbers are nan where `evolution.result` is not `successful`.

    Raises:
        ValueError: for arguments that do not fit.
        RuntimeError: if `throw=True` and the equations are not solved.
    """
    if size < 1:
        raise ValueError(f"Argument `size` must be at least 1, but it is {size}.")
    end = state_evolution(start, signal, ratio, noise, weights=weights, throw=throw)
    return _law(start, signal_of(signal, start), weights_of(weights, start), end, size)


@eqx.filter_jit
def _law(
    start: AbstractParameterization,
    signal: Signal,
    weights: Float[Array, " K"],
    end: StateEvolution,
    size: int,
) -> EndLaw:
    geometry = mirror_geometry(start)
    assert geometry is not None  # as `state_evolution` checks
    assert geometry.curve is not None
    curve = geometry.curve()
    noise, penalty = jnp.sqrt(end.effective_noise), end.effective_penalty
    spread = jnp.sqrt(jnp.square(signal.deviations) + end.effective_noise)
    chart = chart_of(curve)
    nodes = chart.nodes(chart.panels(signal.means, spread, penalty), NODES)
    joint = Joint.of(Sample.at(nodes, curve), signal, weights, noise, penalty)

    mass = joint.mass.reshape(-1)
    kept, chosen = jax.lax.top_k(mass, min(size, mass.size))
    total = jnp.sum(kept)
    components, panels, starts = joint.mass.shape[1:]
    index = chosen % starts
    component = (chosen // (panels * starts)) % components
    deviation = jnp.sqrt(joint.variance[component, index])
    one = jnp.ones_like(deviation)[None]
    points = jax.tree.map(lambda leaf: leaf.reshape(-1)[chosen], nodes.v)
    return EndLaw(
        start=_at_points(with_coordinates(start, index), points),
        signal=Signal(joint.posterior.reshape(-1)[chosen][None], deviation[None], one),
        weights=kept / total,
        evolution=end,
        lost=1 - total,
    )


def _at_points(start: AbstractParameterization, v: Any) -> AbstractParameterization:
    """The parameterization with the weights at the point v of the curve of each coordinate."""
    geometry = mirror_geometry(start)
    assert geometry is not None  # as `state_evolution` checks
    assert geometry.weights is not None
    leaves, rest = eqx.partition(start, eqx.is_inexact_array)
    old, structure = jax.tree.flatten(leaves)
    new = [a.reshape(b.shape) for a, b in zip(geometry.weights(v), old, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, new), rest)
