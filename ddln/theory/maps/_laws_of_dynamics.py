"""Conservation laws of momentum, of steepest descent in other norms, and in other metrics of the weights.

The orbits are those of other fields than the gradients of h, in the space of weights or of weights,
velocities and time: `orbit` follows them in the same way.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float, PyTree, Scalar
from ddln.flows import AbstractDamping, ConstantDamping
from ddln.parameterizations import AbstractParameterization
from ddln.theory.maps._conserved_quadratics import LARGEST_GROUP, SPARE, null_space
from ddln.theory.maps._points import FlatMap


class SteepestFields(eqx.Module):
    """The fields phi(J^T a) of steepest descent on the weights, phi(x) = sign(x) |x|^(q-1).

    Attributes:
        flat_map: the map.
        exponent: q.
        sample: directions a whose fields span those of all, shape [K, *theta].
    """

    flat_map: FlatMap
    exponent: float
    sample: Array

    @classmethod
    def of(cls, flat_map: FlatMap, exponent: float, rng: np.random.Generator) -> "SteepestFields":
        sample = flat_map.random_directions(rng, flat_map.flat.size + SPARE)
        return cls(flat_map, exponent, jnp.asarray(sample))

    @property
    def flat(self) -> Float[Array, " P"]:
        return self.flat_map.flat

    def random_directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return self.flat_map.random_directions(rng, count)

    def gradient(self, w: Float[Array, " P"], direction: Array) -> Float[Array, " P"]:
        """The field of a direction of theta."""
        slope = self.flat_map.gradient(w, direction)
        # No power of zero, whose derivative may be infinite.
        size = jnp.where(slope == 0, 1, jnp.abs(slope))
        return slope * size ** (self.exponent - 2)

    def jacobian(self, w: Float[Array, " P"]) -> Float[Array, "K P"]:
        """The fields of the sample as rows."""
        return jax.vmap(lambda a: self.gradient(w, a))(self.sample)


class MetricFields(eqx.Module):
    """The fields M J^T a of gradient flow in a diagonal metric, w' = -M(w) grad_w L.

    Attributes:
        flat_map: the map.
        metric: from a parameterization to one whose weights are the entries of M.
    """

    flat_map: FlatMap
    metric: Callable = eqx.field(static=True)

    @property
    def flat(self) -> Float[Array, " P"]:
        return self.flat_map.flat

    @property
    def leaves(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return self.flat_map.leaves

    def effective(self, w: Float[Array, " P"]) -> Array:
        return self.flat_map.effective(w)

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return self.flat_map.random(rng, count)

    def random_directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return self.flat_map.random_directions(rng, count)

    def diagonal(self, w: Float[Array, " P"]) -> Float[Array, " entries"]:
        """The entries of M."""
        return FlatMap(self.metric(self.flat_map.at(w))).flat

    def gradient(self, w: Float[Array, " P"], direction: Array) -> Float[Array, " P"]:
        """The field of a direction of theta."""
        return self.diagonal(w) * self.flat_map.gradient(w, direction)

    def jacobian(self, w: Float[Array, " P"]) -> Float[Array, "D P"]:
        """The fields of the entries of theta as rows."""
        return self.diagonal(w)[None] * self.flat_map.jacobian(w)


class MomentumFields(eqx.Module):
    """The fields of momentum on (w, v, t), v = w': nu of a direction (a_0, a) is

        a_0 (v, -d v / lambda, 1) + (0, M J^T a, 0),

    M at w + k(t) v, k the memory of the damping, as in accelerated mirror flow [@krichene2015].

    Attributes:
        forces: the fields M J^T a on the weights.
        inertia: lambda.
        damping: d.
        flat: a point (w, v, t), shape [2 P + 1].
    """

    forces: FlatMap | MetricFields
    inertia: float
    damping: AbstractDamping
    flat: Float[Array, " Z"]

    def random_directions(self, rng: np.random.Generator, count: int) -> np.ndarray:
        directions = self.forces.random_directions(rng, count).reshape(count, -1)
        return np.concatenate([np.ones((count, 1), directions.dtype), directions], axis=1)

    def gradient(self, z: Float[Array, " Z"], direction: Array) -> Float[Array, " Z"]:
        """The field of a direction of time and theta."""
        w, v = jnp.split(z[:-1], 2)
        inertia = jnp.asarray(self.inertia, z.dtype)
        theta = jax.eval_shape(self.forces.effective, w)
        force = _force(
            self.forces,
            w + self.damping.memory(z[-1], inertia) * v,
            w,
            direction[1:].reshape(theta.shape),
        )
        friction = self.damping.accelerate(z[-1], inertia, v, jnp.zeros_like(v))
        drift = direction[0] * jnp.concatenate([v, friction, jnp.ones_like(z[:1])])
        return drift + jnp.concatenate([jnp.zeros_like(w), force, jnp.zeros_like(z[:1])])

    def jacobian(self, z: Float[Array, " Z"]) -> Float[Array, "K Z"]:
        """The fields of time and of each entry of theta as rows."""
        theta = jax.eval_shape(self.forces.effective, z[: z.size // 2])
        one = jnp.eye(theta.size + 1, dtype=z.dtype)
        return jax.vmap(lambda a: self.gradient(z, a))(one)


class ConservedPowers(eqx.Module):
    """A basis of the functions sum_m c_m |w_m|^q + b_m w_m that steepest descent conserves for every loss.

    For q = 1, where |w_m| is +-w_m, without b.

    A call gives the values of all functions, along a flow `jax.vmap(powers)(flow.parameterization)`.

    Attributes:
        exponent: q.
        coefficients: c and b, shape [K, 2 P].
        complete: False if more functions seem to be conserved, but not clearly.
    """

    exponent: float = eqx.field(static=True)
    coefficients: Float[Array, "K M"]
    complete: bool = eqx.field(static=True)

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __call__(self, parameterization: AbstractParameterization) -> Float[Array, " K"]:
        """The values of the functions at the weights of a parameterization."""
        w = FlatMap(parameterization).flat
        values = jnp.concatenate([jnp.abs(w) ** self.exponent, w])
        return self.coefficients.astype(w.dtype) @ values

    def gradients(self, w: np.ndarray) -> np.ndarray:
        """The gradients of the functions at known weights, shape [K, P]."""
        c, b = np.split(np.asarray(self.coefficients, w.dtype), 2, axis=1)
        return c * self.exponent * np.sign(w) * np.abs(w) ** (self.exponent - 1) + b


class ConservedMomenta(eqx.Module):
    """A basis of the functions r(t) <w', S w + b>, S skew, that momentum conserves for every loss.

    r = exp(int d / lambda): exp(t / lambda) for constant damping, t^alpha for a vanishing one. The functions
    come from the rotations and shifts w -> w + s (S w + b) that leave h as it is [@marcotte2024]. A
    call gives their values at (parameterization, velocity, t), such as those of a `ddln.momentum_flow`.

    Attributes:
        inertia: lambda.
        damping: d.
        matrices: S, shape [K, P, P].
        shifts: b, shape [K, P].
        complete: False if there are too many weights to search, or more functions seem to be conserved, but
            not clearly.
    """

    inertia: float = eqx.field(static=True)
    damping: Any
    matrices: Float[Array, "K P P"]
    shifts: Float[Array, "K P"]
    complete: bool = eqx.field(static=True)

    def __len__(self) -> int:
        return self.shifts.shape[0]

    def __call__(
        self, parameterization: AbstractParameterization, velocity: PyTree[Array], t: Scalar
    ) -> Float[Array, " K"]:
        """The values of the functions at weights, velocities w' with their structure, and a time."""
        w, v = (FlatMap(tree).flat for tree in (parameterization, velocity))
        constant = isinstance(self.damping, ConstantDamping)
        growth = jnp.exp(t / self.inertia) if constant else t**self.damping.alpha
        return growth * ((self.matrices @ w + self.shifts) @ v)

    def gradients(self, z: np.ndarray) -> np.ndarray:
        """The gradients of the functions at a known (w, w', t), without the factor, shape [K, 2 P + 1]."""
        w, v = np.split(z[:-1], 2)
        matrices, shifts = np.asarray(self.matrices), np.asarray(self.shifts)
        in_v = matrices @ w + shifts
        in_w = np.einsum("p,kpq->kq", v, matrices)
        rate = float(self.damping.rate(z[-1], self.inertia))
        return np.concatenate([in_w, in_v, rate * in_v @ v[:, None]], axis=1)


def conserved_powers(fields: SteepestFields, rng: np.random.Generator) -> ConservedPowers:
    """All sums of powers of the weights, and of weights, whose gradient is orthogonal to every field."""
    count, q = fields.flat.size, fields.exponent
    points, values = _samples(fields, fields.flat_map, rng, 2 * count + SPARE)
    slopes = q * np.sign(points) * np.abs(points) ** (q - 1)
    rows, complete = null_space(
        np.concatenate([slopes * values, values][: 1 if q == 1 else 2], axis=1)
    )
    rows = np.pad(rows, ((0, 0), (0, 2 * count - rows.shape[1])))
    return ConservedPowers(float(q), jnp.asarray(rows, fields.flat.dtype), complete)


def conserved_momenta(
    forces: FlatMap | MetricFields,
    inertia: float,
    damping: AbstractDamping,
    rng: np.random.Generator,
) -> ConservedMomenta:
    """All rotations and shifts of the weights with <S w + b, M J^T a> = 0 everywhere, for M at any weights.

    With M = 1 they are those that leave h as it is.
    """
    count, dtype = forces.flat.size, forces.flat.dtype
    first, second = np.triu_indices(count, 1)
    unknowns = first.size + count
    if unknowns > LARGEST_GROUP:
        zero = jnp.zeros((0, count), dtype)
        return ConservedMomenta(inertia, damping, zero[:, :, None] * zero[0], zero, False)
    flat_map = forces.flat_map if isinstance(forces, MetricFields) else forces
    points, values = _samples(flat_map, flat_map, rng, unknowns + SPARE)
    if isinstance(forces, MetricFields):
        others = jnp.asarray(flat_map.random(rng, unknowns + SPARE))
        values = values * np.asarray(_diagonals(forces, others))
    turns = values[:, first] * points[:, second] - values[:, second] * points[:, first]
    rows, complete = null_space(np.concatenate([turns, values], axis=1))
    matrices = np.zeros((len(rows), count, count))
    matrices[:, first, second] = rows[:, : first.size]
    matrices -= matrices.transpose(0, 2, 1)
    shifts = jnp.asarray(rows[:, first.size :], dtype)
    return ConservedMomenta(inertia, damping, jnp.asarray(matrices, dtype), shifts, complete)


def _samples(
    fields: Any, flat_map: FlatMap | MetricFields, rng: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random weights, and at each a random field, of norm one."""
    points = flat_map.random(rng, count)
    directions = flat_map.random_directions(rng, count)
    values = np.asarray(_fields_at(fields, jnp.asarray(points), jnp.asarray(directions)))
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return points.astype(np.float64), values / np.where(norms > 0, norms, 1)


def _force(
    forces: FlatMap | MetricFields, at: Float[Array, " P"], w: Float[Array, " P"], direction: Array
) -> Float[Array, " P"]:
    """M J^T a, M at other weights than J."""
    if isinstance(forces, MetricFields):
        return forces.diagonal(at) * forces.flat_map.gradient(w, direction)
    return forces.gradient(w, direction)


@eqx.filter_jit
def _diagonals(forces: MetricFields, points: Float[Array, "count P"]) -> Float[Array, "count P"]:
    return jax.vmap(forces.diagonal)(points)


@eqx.filter_jit
def _fields_at(
    fields: Any, points: Float[Array, "count P"], directions: Float[Array, "count *theta"]
) -> Float[Array, "count P"]:
    return jax.vmap(fields.gradient)(points, directions)
