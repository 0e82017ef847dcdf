"""Conserved functions of degree two at most, by linear algebra at random points."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln.parameterizations import AbstractParameterization
from ddln.theory.maps._points import FlatMap

# Number of points in excess of the unknowns.
SPARE = 20
# Largest number of unknowns of a group that is searched; more would take many seconds.
LARGEST_GROUP = 1000
# Singular values relative to the largest one, as powers of eps: zero below the first, not clearly
# different from zero below the second.
NULL, UNCLEAR = 0.7, 0.5
# Coefficients below this are zero.
NEGLIGIBLE = 1e-6
# Weights of a scaling that differ by less are equal. Taking different ones for equal costs time only.
SAME = 1e-5


class ConservedQuadratics(eqx.Module):
    """A basis of the functions of degree two at most that gradient flow conserves for every loss.

    f(w) = sum_m c_m w_p(m) w_q(m), in which w_P, one beyond the last weight, stands for 1. A call
    gives the values of all functions: `jax.vmap(quadratics)(flow.parameterization)` along a flow.

    Attributes:
        first: p(m), shape [M].
        second: q(m), shape [M].
        coefficients: c, one row for each function, in reduced row echelon form, shape [K, M].
        complete: False if some candidates were left out: groups of more than 1000 that no scaling
            of the weights separates, and functions that seem to be conserved, but not clearly.
        leaves: the names and shapes of the leaves of weights.
    """

    first: np.ndarray
    second: np.ndarray
    coefficients: Float[Array, "K M"]
    complete: bool = eqx.field(static=True)
    leaves: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __len__(self) -> int:
        return self.coefficients.shape[0]

    def __call__(self, parameterization: AbstractParameterization) -> Float[Array, " K"]:
        """The values of the functions at the weights of a parameterization."""
        return self.at(FlatMap(parameterization).flat)

    def at(self, w: Float[Array, " P"]) -> Float[Array, " K"]:
        """The values of the functions at weights in one vector."""
        extended = jnp.concatenate([w, jnp.ones_like(w[:1])])
        return self.coefficients.astype(w.dtype) @ (extended[self.first] * extended[self.second])

    def gradients(self, w: np.ndarray) -> np.ndarray:
        """The gradients of the functions at known weights, shape [K, P]."""
        extended = np.append(w, 1).astype(w.dtype)
        coefficients = np.asarray(self.coefficients, w.dtype)
        rows = np.zeros((w.size + 1, len(self)), w.dtype)
        np.add.at(rows, self.first, (coefficients * extended[self.second]).T)
        np.add.at(rows, self.second, (coefficients * extended[self.first]).T)
        return rows[:-1].T

    def formulas(self) -> list[str]:
        """The functions as text, weights named by their leaf and index."""
        names = [
            f"{name.lstrip('.')}{list(map(int, index)) if shape else ''}"
            for name, shape in self.leaves
            for index in np.ndindex(shape)
        ]

        def product(p: int, q: int) -> str:
            if q == len(names):
                return names[p]
            return f"{names[p]}^2" if p == q else f"{names[p]} {names[q]}"

        texts = []
        for row in np.asarray(self.coefficients):
            text = ""
            for m in np.flatnonzero(row):
                factor = "" if abs(abs(row[m]) - 1) < NEGLIGIBLE else f"{abs(row[m]):.6g} "
                sign = " - " if row[m] < 0 else " + "
                text += sign + factor + product(int(self.first[m]), int(self.second[m]))
            texts.append(text.removeprefix(" + ").replace(" - ", "-", text.startswith(" - ")))
        return texts


def conserved_quadratics(flat_map: Any, rng: np.random.Generator) -> ConservedQuadratics:
    """All f(w) = w^T A w / 2 + b^T w whose gradient is orthogonal to every gradient of h, everywhere.

    `flat_map` may be other fields than those gradients, which no scaling separates.

    The conditions <A w + b, grad h_a(w)> = 0 for all a and w are linear in A and b, one for each
    random point and direction. A and b have P (P + 3) / 2 entries, too many to solve for at once, but
    most maps have scalings w_p -> e^(t s_p) w_p that only scale each entry of theta. Under such a
    scaling the condition of A_pq moves with the factor e^(+-t (s_q - s_p)), so conditions with
    different |s_p - s_q| are separate systems; b_p counts as A_pP with s_P = 0.
    """
    count = flat_map.flat.size
    of_map = isinstance(flat_map, FlatMap)
    scaling = _scalings(flat_map, rng) if of_map else np.zeros(count + 1)
    first, second = np.triu_indices(count + 1)
    first, second = first[:-1], second[:-1]  # without the constant
    groups = _groups(np.abs(scaling[first] - scaling[second]))
    searched = [group for group in groups if len(group) <= LARGEST_GROUP]
    largest = max((len(group) for group in searched), default=0)
    points, gradients = _samples(flat_map, rng, largest + SPARE)
    points = np.pad(np.asarray(points, np.float64), ((0, 0), (0, 1)), constant_values=1.0)
    gradients = np.pad(np.asarray(gradients, np.float64), ((0, 0), (0, 1)))
    found, decided = [], len(searched) == len(groups)
    for size in sorted({len(group) for group in searched}):
        same = np.stack([group for group in searched if len(group) == size])
        # Chunks of systems that together take the memory of the largest one.
        for chunk in np.array_split(same, math.ceil(len(same) * size**2 / LARGEST_GROUP**2)):
            p, q, rows = first[chunk], second[chunk], slice(0, size + SPARE)
            one = gradients[rows][:, p] * points[rows][:, q]
            other = gradients[rows][:, q] * points[rows][:, p]
            sizes = np.linalg.norm(np.abs(one) + np.abs(other), axis=0)
            spaces, clear = _null_spaces((one + other).transpose(1, 0, 2), sizes)
            decided &= clear
            found += [(chunk[i], row) for i, space in enumerate(spaces) for row in space]
    used = np.unique(np.concatenate([group for group, _ in found])) if found else np.zeros(0, int)
    coefficients = np.zeros((len(found), len(used)))
    for k, (group, row) in enumerate(found):
        coefficients[k, np.searchsorted(used, group)] = row
    return ConservedQuadratics(
        first[used],
        second[used],
        jnp.asarray(coefficients, flat_map.flat.dtype),
        decided,
        flat_map.leaves,
    )


def _scalings(flat_map: FlatMap, rng: np.random.Generator) -> np.ndarray:
    """A random combination of all scalings s of the weights that only scale each entry of theta.

    A zero for the constant is appended.

    With S = diag(s): J_i(w) S w = lambda_i h_i(w). Two points w and x eliminate lambda:
    h_i(x) J_i(w) S w = h_i(w) J_i(x) S x.
    """
    count = flat_map.flat.size
    samples = count + SPARE
    here, there = _scaling_conditions(
        flat_map,
        jnp.asarray(flat_map.random(rng, samples)),
        jnp.asarray(flat_map.random(rng, samples)),
        jnp.asarray(flat_map.random_directions(rng, samples)),
    )
    here, there = np.asarray(here, np.float64), np.asarray(there, np.float64)
    sizes = np.linalg.norm(np.abs(here) + np.abs(there), axis=0)
    (null,), _ = _null_spaces((here - there)[None], sizes[None])
    weights = rng.normal(size=len(null))
    scaling = np.append(weights @ null if len(null) else np.zeros(count), 0.0)
    largest = np.abs(scaling).max()
    return scaling / largest if largest > 0 else scaling


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """The indices of equal values."""
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order]) > SAME) + 1)


def _null_spaces(systems: np.ndarray, sizes: np.ndarray) -> tuple[list[np.ndarray], bool]:
    """A basis of the null space of each system, in reduced row echelon form.

    The second value is True if all singular values are clearly zero or clearly not. `sizes` are the
    norms of the columns before any cancellation: rounding is relative to them.
    """
    eps = np.finfo(systems.dtype).eps
    sizes = np.where(sizes > eps * sizes.max(initial=0), sizes, 1)
    systems = systems / sizes[:, None, :]
    if systems.shape[2] == 1:
        singular, right = np.linalg.norm(systems, axis=1), np.ones((len(systems), 1, 1))
    else:
        _, singular, right = np.linalg.svd(systems, full_matrices=False)
    relative = singular / np.maximum(singular[:, :1], 1)
    null = relative <= eps**NULL
    clear = not np.any(~null & (relative <= eps**UNCLEAR))
    bases = [_reduced(one[zero] / size) for one, zero, size in zip(right, null, sizes, strict=True)]
    return bases, clear


def null_space(system: np.ndarray) -> tuple[np.ndarray, bool]:
    """A basis of the null space of one system, and whether all singular values are clear."""
    (rows,), clear = _null_spaces(system[None], np.linalg.norm(system, axis=0)[None])
    return rows, clear


def _reduced(rows: np.ndarray) -> np.ndarray:
    """The reduced row echelon form of independent rows, by Gauss-Jordan elimination."""
    rows = rows / np.abs(rows).max(axis=1, keepdims=True, initial=0)
    for k in range(len(rows)):
        # The pivot is in the first column in which the remaining rows do not vanish.
        sizes = np.abs(rows[k:]).max(axis=0)
        column = int(np.flatnonzero(sizes > NEGLIGIBLE)[0])
        pivot = k + int(np.argmax(np.abs(rows[k:, column])))
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] /= rows[k, column]
        others = np.arange(len(rows)) != k
        rows[others] -= rows[others, column : column + 1] * rows[k]
    rows[np.abs(rows) < NEGLIGIBLE] = 0
    return rows


def _samples(flat_map: Any, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random points, and at each the gradient of a random combination of h, of norm one."""
    points = flat_map.random(rng, count)
    directions = flat_map.random_directions(rng, count)
    sizes = np.linalg.norm(_jacobian(flat_map, jnp.asarray(points[0])), axis=1)
    directions /= np.where(sizes > 0, sizes, 1).reshape(directions.shape[1:])
    gradients = np.asarray(_gradients(flat_map, jnp.asarray(points), jnp.asarray(directions)))
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return points, gradients / np.where(norms > 0, norms, 1)


_jacobian = eqx.filter_jit(lambda flat_map, w: flat_map.jacobian(w))


@eqx.filter_jit
def _gradients(
    flat_map: Any, points: Float[Array, "count P"], directions: Float[Array, "count *theta"]
) -> Float[Array, "count P"]:
    return jax.vmap(flat_map.gradient)(points, directions)


@eqx.filter_jit
def _scaling_conditions(
    flat_map: FlatMap,
    points: Float[Array, "count P"],
    others: Float[Array, "count P"],
    directions: Float[Array, "count *theta"],
) -> tuple[Float[Array, "count P"], ...]:
    """Both sides of the condition on a scaling, for pairs of points and directions."""

    def condition(w: Array, x: Array, a: Array) -> tuple[Float[Array, " P"], ...]:
        here, there = flat_map.effective(w), flat_map.effective(x)
        # Entries of theta may differ by orders of magnitude.
        sizes = jnp.abs(here * there)
        a = a / jnp.maximum(sizes, jnp.finfo(w.dtype).eps * jnp.max(sizes))
        a = jnp.where(jnp.isfinite(a), a, 0)
        terms = w * flat_map.gradient(w, a * there), x * flat_map.gradient(x, a * here)
        size = jnp.linalg.norm(terms[0]) + jnp.linalg.norm(terms[1])
        return tuple(term / jnp.where(size > 0, size, 1) for term in terms)

    return jax.vmap(condition)(points, others, directions)
