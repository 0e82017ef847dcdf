"""Networks whose coordinates share gates, or whose layers are the same."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ddln._types import Array, Float
from ddln._validation import float_array
from ddln.parameterizations._base import AbstractParameterization
from ddln.parameterizations._canonical import CanonicalForm
from ddln.parameterizations._deep_diagonal import DeepDiagonal


class Grouped(AbstractParameterization):
    """theta_i = a_g v_i for the coordinates i of group g, the gate a_g = a^1_g * ... * a^K_g.

    A gradient flow conserves (a^k_g)^2 - (a^l_g)^2, and (a^k_g)^2 - |v_g|^2 where v_g are the entries of v in
    the group. The entries of a group with several members share weights: their gradient fields do not
    commute, the flow is no mirror flow, and it runs in the weights. Where all groups have one member the
    map is the `DeepDiagonal` of the gates and v, in reduced coordinates.

    Example:
        >>> Grouped([2.0, 3.0], [1.0, -1.0, 0.5], groups=[[0, 2], [1]]).effective()
        Array([ 2., -3.,  1.], dtype=float64)

    Args:
        gates: a^1, ..., a^K as rows, shape [K, G], or one layer of gates, shape [G].
        vector: v, shape [d].
        groups: the coordinates of each group, G sequences of integers with each of 0, ..., d - 1 in one of
            them. It is part of the program: compilation caches compare it by value.

    Raises:
        ValueError: if the groups do not cover all coordinates, overlap or are empty, their number is not
            that of the gates, or an array is empty, not real, or has known values that are not finite.
    """

    gates: Float[Array, "K G"]
    vector: Float[Array, " d"]
    groups: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(self, gates, vector, groups: Sequence[Any]):
        gates = float_array("gates", gates, "... G")
        self.gates = float_array("gates", gates[None] if gates.ndim == 1 else gates, "K G")
        self.vector = float_array("vector", vector, "d")
        if self.gates.dtype != self.vector.dtype:
            raise ValueError(
                f"Argument `vector` must have the dtype {self.gates.dtype} of `gates`, but it has "
                f"{self.vector.dtype}. Convert one of them."
            )
        self.groups = _partition(groups, self.vector.shape[0])
        if len(self.groups) != self.gates.shape[1]:
            raise ValueError(
                f"Argument `gates` must have one column for each of the {len(self.groups)} groups, but it "
                f"has shape {self.gates.shape}."
            )

    def _place(self) -> np.ndarray:
        """The group of each coordinate."""
        place = np.empty(self.vector.shape[0], int)
        for number, group in enumerate(self.groups):
            place[list(group)] = number
        return place

    @property
    def separable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return all(len(group) == 1 for group in self.groups)

    @property
    def homogeneity(self) -> int:
        return self.gates.shape[0] + 1

    def effective(self) -> Float[Array, " d"]:
        return jnp.prod(self.gates, axis=0)[self._place()] * self.vector

    def network(self) -> DeepDiagonal:
        """The network of the gates, repeated for each member of their group, and v, with the same theta.

        Its flow is the same only where all groups have one member.
        """
        return DeepDiagonal(jnp.concatenate([self.gates[:, self._place()], self.vector[None]]))

    def reduced(self) -> "GroupedForm | None":
        if not self.separable:
            return None
        form = self.network().canonical()
        order = tuple(group[0] for group in self.groups)
        return GroupedForm(**_fields(form), order=order)


class GroupedForm(CanonicalForm):
    """The canonical form of gates with one member each; the weights are the gates in their order, and v."""

    order: tuple[int, ...] = eqx.field(static=True)

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        layers = self.layers(v)
        return layers[:-1, np.array(self.order)], layers[-1]


class Tied(AbstractParameterization):
    """theta = c (u^1)^m_1 * ... * (u^K)^m_K, elementwise: a network in which layers are the same.

    Layer j, which is used m_j times, has the flow of m_j equal layers u^j / sqrt(m_j): the map is the
    `DeepDiagonal` of all of these with the factor c prod_j m_j^(m_j / 2), from a start with ties, with its
    reduced coordinates, potential and limits. It conserves (u^j)^2 / m_j - (u^k)^2 / m_k. Where a layer that
    is used twice or more is the smallest one, theta keeps its sign.

    Example (u * u * v):
        >>> Tied([[1.0, 2.0], [3.0, -1.0]], multiplicities=[2, 1]).effective()
        Array([ 3., -4.], dtype=float64)

    Args:
        layers: u^1, ..., u^K as rows, shape [K, d].
        multiplicities: m_1, ..., m_K, positive integers, two or more in all.
        factor: the constant c, which is not trained.

    Raises:
        ValueError: if `multiplicities` does not have a positive integer for each layer, or they are
            below two in all; for `layers` and `factor` as for `DeepDiagonal`.
    """

    layers: Float[Array, "K d"]
    multiplicities: tuple[int, ...] = eqx.field(static=True)
    factor: float = eqx.field(static=True)
    separable: ClassVar[bool] = True

    def __init__(self, layers, multiplicities: Sequence[Any] | np.ndarray, factor: float = 1.0):
        self.layers = float_array("layers", layers, "K d")
        counts = np.asarray(multiplicities)
        if (
            counts.shape != self.layers.shape[:1]
            or counts.dtype.kind not in "iu"
            or np.any(counts < 1)
        ):
            raise ValueError(
                "Argument `multiplicities` must have a positive integer for each of the "
                f"{self.layers.shape[0]} layers, but it is {multiplicities}. A real power is `ddln.Power`."
            )
        self.multiplicities = tuple(counts.tolist())
        if sum(self.multiplicities) < 2:
            raise ValueError(
                "Argument `multiplicities` must use the layers at least twice in all, but it is "
                f"{multiplicities}. One layer is `ddln.Identity(theta)`."
            )
        # As the network has it, which checks it.
        self.factor = DeepDiagonal(jnp.ones((2, 1)), factor).factor

    def _scale(self) -> float:
        return float(np.prod([m ** (m / 2) for m in self.multiplicities]))

    @property
    def homogeneity(self) -> int:
        return sum(self.multiplicities)

    def effective(self) -> Float[Array, " d"]:
        powers = [self.layers[j] ** m for j, m in enumerate(self.multiplicities)]
        return self.factor * jnp.prod(jnp.stack(powers), axis=0)

    def network(self) -> DeepDiagonal:
        """The network of equal layers with the same theta, flow of theta, potential and limit."""
        roots = np.sqrt(self.multiplicities).astype(self.layers.dtype)
        layers = jnp.repeat(self.layers / roots[:, None], np.array(self.multiplicities), axis=0)
        return DeepDiagonal(layers, self.factor * self._scale())

    def reduced(self) -> "TiedForm":
        form = self.network().canonical()
        return TiedForm(**_fields(form), multiplicities=self.multiplicities)


class TiedForm(CanonicalForm):
    """The canonical form of equal layers; the weights are one layer of each."""

    multiplicities: tuple[int, ...] = eqx.field(static=True)

    def weights(self, v: Float[Array, " d"]) -> tuple[Array, ...]:
        first = np.cumsum((0, *self.multiplicities[:-1]))
        layers = self.layers(v)
        roots = np.sqrt(self.multiplicities).astype(layers.dtype)
        return (layers[first] * roots[:, None],)


def _fields(form: CanonicalForm) -> dict[str, Any]:
    names = ("start", "gaps", "signs", "permutation", "factor")
    return {name: getattr(form, name) for name in names}


def _partition(groups: Sequence[Any], size: int) -> tuple[tuple[int, ...], ...]:
    """The groups as tuples, checked to have each coordinate once."""
    found = []
    for number, group in enumerate(groups):
        known = np.asarray(group)
        if known.ndim != 1 or known.size == 0 or known.dtype.kind not in "iu":
            raise ValueError(
                f"Argument `groups` must be sequences of coordinates, but group {number} is {group}. "
                "A group has at least one integer."
            )
        found.append(tuple(known.tolist()))
    count = np.zeros(size, int)
    for number, group in enumerate(found):
        outside = [i for i in group if not 0 <= i < size]
        if outside:
            raise ValueError(
                f"Argument `groups` must have coordinates from 0 to {size - 1}, but group {number} has "
                f"{outside}."
            )
        np.add.at(count, list(group), 1)
    if np.any(count > 1):
        raise ValueError(
            "Argument `groups` must not overlap, but the coordinates "
            f"{np.flatnonzero(count > 1).tolist()} are in it more than once. Add a term of a `ddln.Sum` for "
            "each set of groups that overlaps another."
        )
    if np.any(count == 0):
        raise ValueError(
            "Argument `groups` must cover all coordinates, but "
            f"{np.flatnonzero(count == 0).tolist()} are in no group. Give each a group of its own."
        )
    return tuple(found)
