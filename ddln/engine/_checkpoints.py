"""Checkpoints of an integration: the ends of its accepted steps, and the states that some of them start from.

The number of steps is not known beforehand, and memory is bounded. So every state is kept while there are
slots for it; then every second one, the others making room; then every fourth, and so on. Reverse mode
replays the steps between two kept states.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import Array, Bool, Float, Int, PyTree

# Kept states of one integration, a power of two, if they take no more memory than SLOT_BYTES.
SLOTS = 512
SLOT_BYTES = 2**28
# For a single integration the factorized capacitance matrices of its linear systems are kept too, if each is
# at most FACTOR_STATES states large and all fit in SLOT_BYTES: recomputing them is a third of the backward
# pass. For many integrations they would take most of the memory.
FACTOR_STATES = 8


class Slots(NamedTuple):
    """Arithmetic of the slots: which states are kept, and where.

    Attributes:
        count: the number of slots, a power of two.
        max_steps: the most steps.
    """

    count: int
    max_steps: int

    @classmethod
    def of(cls, state: PyTree, max_steps: int) -> "Slots":
        """The slots of an integration with such states."""
        most = max(SLOT_BYTES // max(bytes_of(state), 1), 1)
        return cls(min(SLOTS, 1 << most.bit_length() - 1), max_steps)

    @property
    def largest_stride(self) -> int:
        """The stride after all steps."""
        return 1 << ((self.max_steps - 1) // self.count).bit_length()

    def stride(self, k: Int[Array, "..."]) -> Int[Array, "..."]:
        """Distance of the states that are kept when step k starts: a power of two."""
        return 1 << self._stride_bits(k)

    def keeps(self, k: Int[Array, "..."]) -> Bool[Array, "..."]:
        """Test whether the initial state of step k is kept when the step is made."""
        return k & (self.stride(k) - 1) == 0

    def slot(self, k: Int[Array, "..."]) -> Int[Array, "..."]:
        """The slot of state k, a multiple of its stride.

        The first `count` states have slots of their own. Each later one takes the slot of a state that is no
        multiple of the new stride 2^m: the q-th of them that of 2^m q + 2^(m-1).
        """
        for _ in range((self.max_steps // self.count).bit_length()):
            bits = self._stride_bits(k)
            half = 1 << jnp.maximum(bits - 1, 0)
            k = jnp.where(k < self.count, k, ((k - self.count * half >> bits) << bits) + half)
        return k

    def _stride_bits(self, k: Int[Array, "..."]) -> Int[Array, "..."]:
        # Shifts, for a division of integers takes several kernels.
        left = k >> self.count.bit_length() - 1
        return 8 * k.dtype.itemsize - jax.lax.clz(left)


class Checkpoints(NamedTuple):
    """Checkpoints of B integrations.

    Attributes:
        times: the ends of the accepted steps.
        states: the kept states.
        factors: the factorized capacitance matrices of the steps from them; None if they are recomputed.
    """

    times: Float[Array, "B steps"]
    states: PyTree[Float[Array, "B slots ..."]]
    factors: Float[Array, "B slots m m"] | None

    @classmethod
    def empty(
        cls, size: int, slots: Slots, dtype: Any, state: PyTree, factor: Any
    ) -> "Checkpoints":
        """Checkpoints before the first step of `size` integrations."""
        rows = jax.tree.map(
            lambda leaf: jnp.zeros((size, slots.count, *leaf.shape), leaf.dtype), (state, factor)
        )
        return cls(jnp.zeros((size, slots.max_steps), dtype), *rows)

    def record(
        self,
        slots: Slots,
        lanes: Int[Array, " lanes"],
        k: Int[Array, " lanes"],
        accepted: Bool[Array, " lanes"],
        end: Float[Array, " lanes"],
        state: PyTree[Array],
        factor: Array | None,
    ) -> "Checkpoints":
        """The checkpoints after step k of the integrations in the lanes, made from `state` up to `end`."""
        # An index beyond the end writes nothing.
        step = jnp.where(accepted, k, slots.max_steps)
        slot = jnp.where(accepted & slots.keeps(k), slots.slot(k), slots.count)
        rows = jax.tree.map(
            lambda rows, leaf: rows.at[lanes, slot].set(leaf, mode="drop"),
            (self.states, self.factors),
            (state, factor),
        )
        return Checkpoints(self.times.at[lanes, step].set(end, mode="drop"), *rows)


def record_bytes(state: PyTree, max_steps: int) -> int:
    """The memory that the checkpoints of one integration take."""
    dtype = jax.tree.leaves(state)[0].dtype
    return max_steps * dtype.itemsize + Slots.of(state, max_steps).count * bytes_of(state)


def kept_factor(factor: Any, state: PyTree, slots: Slots) -> Array | None:
    """Zeros like the factor of one step if factors are kept, or None."""
    if factor is None:
        return None
    room = min(FACTOR_STATES * bytes_of(state), SLOT_BYTES // slots.count)
    return jnp.zeros(factor.shape, factor.dtype) if bytes_of(factor) <= room else None


def bytes_of(tree: PyTree) -> int:
    """The memory that the arrays of a tree take."""
    leaves = (leaf for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf) or hasattr(leaf, "size"))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
