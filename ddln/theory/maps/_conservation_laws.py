"""The number of independent functions of the weights that gradient flow conserves for every loss."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import PRNGKeyArray
from ddln._validation import is_known
from ddln.engine import AbstractDynamics, PerLane
from ddln.flows import (
    ConstantDamping,
    GradientDynamics,
    MomentumDynamics,
    SteepestDynamics,
    VanishingDamping,
)
from ddln.parameterizations import AbstractParameterization
from ddln.theory.maps._conserved_quadratics import ConservedQuadratics, conserved_quadratics
from ddln.theory.maps._laws_of_dynamics import (
    ConservedMomenta,
    ConservedPowers,
    MetricFields,
    MomentumFields,
    SteepestFields,
    conserved_momenta,
    conserved_powers,
)
from ddln.theory.maps._orbit import orbit
from ddln.theory.maps._points import FlatMap, generator
from ddln.theory.maps._require_map import require_map

# Below this gap the dimension of the orbit is not clear.
SMALLEST_GAP = 1e3


class ConservationLaws(eqx.Module):
    """The conservation laws of a parameterization at generic weights.

    Attributes:
        weights: P; with momentum 2 P + 1, the number of weights, velocities and the time.
        orbit_dimension: the dimension of the set that the dynamics can reach from generic weights
            with all losses, equal to the dimension of the Lie algebra of its fields; a lower bound.
        gap: the ratio of the smallest singular value counted in that dimension to the largest one
            not counted.
        quadratics: a basis of the conserved functions of degree two at most; of steepest descent of those of
            powers of the weights (`ConservedPowers`), of momentum of those that are linear in the
            velocity (`ConservedMomenta`).
        independent: the number of them that are independent at generic weights; a lower bound of
            the count.
    """

    weights: int = eqx.field(static=True)
    orbit_dimension: int = eqx.field(static=True)
    gap: float = eqx.field(static=True)
    quadratics: Any
    independent: int = eqx.field(static=True)

    @property
    def count(self) -> int:
        """The number of independent conservation laws, P minus the dimension of the orbit."""
        return self.weights - self.orbit_dimension

    @property
    def certified(self) -> bool:
        """True if the quadratics are as many as the count, so that neither can be wrong."""
        return self.independent == self.count

    @property
    def clear(self) -> bool:
        """True if the count is certified, or at least rests on a gap above 1000."""
        return self.certified or self.gap > SMALLEST_GAP

    def __str__(self) -> str:
        if self.certified:
            kind = _KINDS[type(self.quadratics)]
            return f"{self.count}, certified: as many {kind} are conserved"
        known = f"{self.independent} of them quadratic" if self.independent else "none quadratic"
        if not isinstance(self.quadratics, ConservedQuadratics):
            known = f"{self.independent} of them known"
        if self.clear:
            return f"{self.count}, {known} (not certified; singular value gap {self.gap:.0e})"
        return f"between {self.independent} and {self.count} (singular value gap {self.gap:.0e})"


_KINDS = {
    ConservedQuadratics: "quadratic functions",
    ConservedPowers: "functions of powers",
    ConservedMomenta: "functions linear in the velocity",
}


def count_conservation_laws(
    parameterization: AbstractParameterization,
    *,
    dynamics: AbstractDynamics | None = None,
    metric: Callable[[AbstractParameterization], AbstractParameterization] | None = None,
    key: PRNGKeyArray | None = None,
) -> ConservationLaws:
    """The number of functions of w, independent at generic weights, that every flow conserves.

    For all losses, and so P - dim Lie(grad h_1, ..., grad h_D)(w). Two computations, each of which can
    err to one side only, together decide:

    - a basis of the conserved functions of degree two at most, by linear conditions at random points:
      the number of independent ones is a lower bound;
    - the dimension of the orbit through a random point near the weights: the span of the gradient
      fields and their brackets, carried along random flows until no new direction appears. P minus
      that dimension is an upper bound.

    A count on which both agree is certified; so it is for deep diagonal networks, products of
    matrices, ReLU networks (`path_products`) and weight normalization. Symmetric factorizations with
    more columns than rows, and differences of powers beyond two, have laws of other kinds.

    With `dynamics` the flow is another one than gradient flow. Steepest descent has the fields
    phi(J^T a) in place of J^T a, and its smoothing is left out. Momentum lives on weights, velocities and
    the time: its laws may depend on all of them, as exp(t / lambda) <w', S w> does for every rotation S
    of the weights that leaves h as it is, and t^alpha <w', S w> with vanishing damping.

    With `metric` the weights move by M(w) grad_w L in place of grad_w L, M diagonal: w' = -M grad_w L,
    the mirror flow of the weights whose potential has the Hessian M^-1. With momentum M is taken at
    w + k w', k the memory of the damping: the accelerated mirror flow, d/dt (w + k w') =
    -(k / lambda) M grad_w L.

    Example:
        >>> laws = count_conservation_laws(ddln.MatrixFactorization(jnp.eye(3), jnp.eye(3)))
        >>> laws.count, laws.certified
        (6, True)
        >>> values = jax.vmap(laws.quadratics)(flow.parameterization)  # constant in time

    Args:
        parameterization: the map; random points are taken around its weights, which must be known.
        dynamics: `ddln.SteepestDynamics(exponent)`, or `ddln.MomentumDynamics(inertia)` with constant or
            vanishing damping; None, or `ddln.GradientDynamics()`, is gradient flow. Without weight decay.
        metric: from a parameterization to one whose weights are the entries of M, as
            `lambda factors: factors` for the entropy of positive weights; None is M = 1.
        key: for the random points; None takes `jax.random.key(0)`.

    Returns:
        the count, its evidence, and the conserved functions.

    Raises:
        ValueError: if the weights are traced, or the map cannot be analysed: it is not finite or not
            differentiable around its weights, its shape changes, it has integer leaves, or a leaf has
            no influence; or if the dynamics is another one, or the metric does not fit the weights.

    Source: Marcotte, Gribonval and Peyré 2023 and, with momentum, 2024 (the count; their algorithm takes
    nested brackets); Sussmann 1973 (the orbit); Krichene, Bayen and Bartlett 2015 (momentum in a metric).
    """
    require_map(parameterization)
    flat_map = FlatMap(parameterization)
    rng = generator(key)
    w = flat_map.random(rng, 1)[0]
    fields: Any = flat_map if metric is None else _metric_fields(flat_map, metric)
    dampings = ConstantDamping | VanishingDamping
    if isinstance(dynamics, SteepestDynamics) and dynamics.weight_decay is None and metric is None:
        fields = SteepestFields.of(flat_map, _number("exponent", dynamics.exponent), rng)
        known = conserved_powers(fields, rng)
    elif isinstance(dynamics, MomentumDynamics) and isinstance(dynamics.damping, dampings):
        inertia, damping = _number("inertia", dynamics.inertia), _known_damping(dynamics.damping)
        known = conserved_momenta(fields, inertia, damping, rng)
        velocity = rng.normal(size=w.size) * np.abs(w).max() / inertia
        w = np.concatenate([w, velocity, [inertia]]).astype(w.dtype)
        fields = MomentumFields(fields, inertia, damping, jnp.asarray(w))
    elif dynamics is None or (
        isinstance(dynamics, GradientDynamics) and dynamics.weight_decay is None
    ):
        known = conserved_quadratics(fields, rng)
    else:
        raise ValueError(
            "Argument `dynamics` must be gradient flow or momentum, or steepest descent without a `metric`, "
            "with constant or vanishing damping and without weight decay, but it is "
            f"{dynamics!r}."
        )
    independent = _independent(known, w)
    found = orbit(fields, w, rng, w.size - independent)
    return ConservationLaws(w.size, found.dimension, found.gap, known, independent)


def _metric_fields(flat_map: FlatMap, metric: Callable) -> MetricFields:
    fields = MetricFields(flat_map, metric)
    diagonal = np.asarray(fields.diagonal(flat_map.flat))
    if diagonal.shape != flat_map.flat.shape or not (np.isfinite(diagonal) & (diagonal != 0)).all():
        raise ValueError(
            "Argument `metric` must give one finite number other than zero for each of the "
            f"{flat_map.flat.size} weights, but it gives {diagonal}."
        )
    return fields


def _known_damping(damping: Any) -> Any:
    return jax.tree.map(lambda leaf: _number("damping", leaf), damping)


def _number(name: str, value: Any) -> float:
    if isinstance(value, PerLane) or not is_known(value):
        raise ValueError(f"The `{name}` of `dynamics` must be a known number, but it is {value!r}.")
    return float(value)


def _independent(quadratics: Any, w: np.ndarray) -> int:
    """The rank of the gradients of the conserved functions at w."""
    if len(quadratics) == 0:
        return 0
    gradients = quadratics.gradients(w)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    singular = np.linalg.svd(gradients / np.where(norms > 0, norms, 1), compute_uv=False)
    return int(np.sum(singular > np.finfo(gradients.dtype).eps ** 0.5 * singular[0]))
