"""The result of evaluating a statement: both sides, their numerical error and a verdict."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._card import card, readable
from ddln._types import Array, Bool, Float
from ddln._validation import is_known, require_option

# Sides that differ by this many units in the last place count as equal.
ROUNDING = 64

RELATIONS = ("<=", "<", "==")


class Check(eqx.Module):
    """Both sides of a statement, evaluated on a trajectory or a parameterization.

    The claim is `lhs <relation> rhs` at every compared entry, under the hypotheses. A check is a
    pytree, and can be made inside `jax.jit` and `jax.vmap`: then every array and every verdict has
    leading axes of lanes, and `jax.tree.map(lambda leaf: leaf[i], check)` is lane i.

    The verdict of one entry, with `margin = rhs - lhs` (for "==" `-|rhs - lhs|`):
    violated if the margin is below `-tolerance`; satisfied if the margin is not negative, sides
    equal to rounding counting as equal, and for "==" if it is within the tolerance; undecided in
    between. Hence `status`, the first that applies:

    - "hypothesis not met": some hypothesis is False, so the statement says nothing;
    - "violated": some entry is violated;
    - "inconclusive": some entry is undecided, or there is no entry to compare;
    - "holds".

    Attributes:
        name: the name of the check.
        source: the reference of the statement.
        statement: the claim in words and formulas.
        relation: "<=", "<" or "==".
        axes: the names of the axes of the entries.
        lhs: the left side, shape [*entries].
        rhs: the right side, shape [*entries].
        tolerance: the numerical error of `rhs - lhs`, not negative, shape [*entries].
        compared: the entries that are compared, shape [*entries]; False at times that the flow did
            not reach or at which the differences are too small for the accuracy of the solve.
        hypotheses: the assumptions of the statement, each evaluated.
        remarks: further observations, printed where they are True.

    Raises:
        ValueError: if `relation` is unknown, or `axes` does not name the axes of the entries.
    """

    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    statement: str = eqx.field(static=True)
    relation: str = eqx.field(static=True)
    axes: tuple[str, ...] = eqx.field(static=True)
    lhs: Float[Array, "*entries"]
    rhs: Float[Array, "*entries"]
    tolerance: Float[Array, "*entries"]
    compared: Bool[Array, "*entries"]
    hypotheses: dict[str, Bool[Array, ""]]
    remarks: dict[str, Bool[Array, ""]]

    def __init__(
        self,
        name: str,
        source: str,
        statement: str,
        relation: str,
        axes: tuple[str, ...],
        lhs: Float[Array, "..."],
        rhs: Float[Array, "..."],
        tolerance: Float[Array, "..."] | float,
        compared: Bool[Array, "..."],
        hypotheses: Mapping[str, Bool[Array, ""]] | None = None,
        remarks: Mapping[str, Bool[Array, ""]] | None = None,
    ):
        require_option("relation", relation, RELATIONS)
        self.name, self.source, self.statement = name, source, statement
        self.relation, self.axes = relation, axes
        shape = jnp.broadcast_shapes(lhs.shape, rhs.shape)
        if len(shape) != len(axes):
            raise ValueError(
                f"Argument `axes` must name the {len(shape)} axes of the entries, but it is {axes}."
            )
        self.lhs = jnp.broadcast_to(lhs, shape)
        self.rhs = jnp.broadcast_to(rhs, shape)
        # The derivative of an error estimate means nothing.
        tolerance = jax.lax.stop_gradient(jnp.asarray(tolerance, self.lhs.dtype))
        self.tolerance = jnp.broadcast_to(tolerance, shape) + self._rounding
        self.compared = jnp.broadcast_to(compared, shape)
        self.hypotheses = dict(hypotheses or {})
        self.remarks = dict(remarks or {})

    @property
    def margin(self) -> Float[Array, "..."]:
        """rhs - lhs, or -|rhs - lhs| for an equality; negative at entries that fail."""
        difference = self.rhs - self.lhs
        return -jnp.abs(difference) if self.relation == "==" else difference

    @property
    def where(self) -> Bool[Array, "..."]:
        """The entries that violate the claim by more than the numerical error."""
        strict = self.relation == "<"
        beyond = self.margin <= -self.tolerance if strict else self.margin < -self.tolerance
        return self.compared & beyond

    @property
    def undecided(self) -> Bool[Array, "..."]:
        """The entries at which the claim fails by less than the numerical error, or is NaN."""
        if self.relation == "==":
            satisfied = self.margin >= -self.tolerance
        elif self.relation == "<":
            satisfied = self.margin > 0
        else:
            satisfied = self.margin >= -self._rounding
        return self.compared & ~satisfied & ~self.where

    @property
    def applies(self) -> Bool[Array, "..."]:
        """True if all hypotheses are met; one value per lane."""
        lanes = self.lhs.shape[: self.lhs.ndim - len(self.axes)]
        met = jnp.ones(lanes, bool)
        for value in self.hypotheses.values():
            met &= value
        return met

    @property
    def violated(self) -> Bool[Array, "..."]:
        """True if the status is "violated"; one value per lane."""
        return self.applies & self._any(self.where)

    @property
    def holds(self) -> Bool[Array, "..."]:
        """True if the status is "holds"; one value per lane."""
        clear = ~self._any(self.where | self.undecided)
        return self.applies & clear & self._any(self.compared)

    def __bool__(self) -> bool:
        """`holds`, so that `assert check` is what it says; a batch has no truth value."""
        if self.lhs.ndim > len(self.axes):
            raise ValueError(
                f"A check of {self.applies.shape} lanes has no truth value. "
                "Use `check.holds.all()` or `check.holds.any()`."
            )
        return bool(self.holds)

    @property
    def status(self) -> str | np.ndarray:
        """The verdict in words, from known values: a string, or an array of strings for a batch."""
        names = np.where(
            ~np.asarray(self.applies),
            "hypothesis not met",
            np.where(self.violated, "violated", np.where(self.holds, "holds", "inconclusive")),
        )
        return str(names) if names.ndim == 0 else names

    @property
    def _rounding(self) -> Float[Array, "..."]:
        size = jnp.maximum(jnp.abs(self.lhs), jnp.abs(self.rhs))
        return ROUNDING * jnp.finfo(size.dtype).eps * jax.lax.stop_gradient(size)

    def _any(self, entries: Bool[Array, "..."]) -> Bool[Array, "..."]:
        return jnp.any(entries, axis=tuple(range(-len(self.axes), 0)))

    def __str__(self) -> str:
        head = f"{self.name} ({self.source}): {self.statement}"
        if not all(is_known(leaf) for leaf in jax.tree.leaves(self)):
            return f"{head} [traced]"
        if self.lhs.ndim > len(self.axes):
            return f"{_batch_verdict(self)} {head}"
        return f"{_verdict(self)} {head}"

    def __repr__(self) -> str:
        return f"<Check {self}>"

    def _repr_html_(self) -> str | None:
        if not readable(self):
            return None
        one = self.lhs.ndim == len(self.axes)
        verdict = _verdict(self) if one else _batch_verdict(self)
        rows = {"verdict": verdict, "statement": self.statement, "source": self.source}
        curve = np.where(self.compared, self.margin, np.nan) if self.lhs.ndim == 1 else ()
        return card(self.name.replace("_", " "), rows, curve)


def _verdict(check: Check) -> str:
    """The verdict on one lane, with the entry that decides it."""
    parts = [f"{str(check.status).capitalize()}."]
    unmet = [name for name, value in check.hypotheses.items() if not value]
    compared = np.asarray(check.compared)
    if unmet:
        parts.append(f"Not met: {'; '.join(unmet)}.")
    if compared.any():
        slack = np.asarray(check.margin + check.tolerance)
        worst = np.unravel_index(np.argmin(np.where(compared, slack, np.inf)), compared.shape)
        place = ", ".join(f"{axis} {index}" for axis, index in zip(check.axes, worst, strict=True))
        parts.append(
            f"Compared {compared.sum()} of {compared.size} entries, "
            f"{int(check.where.sum())} violated; the closest is {place}: "
            f"{float(check.lhs[worst]):.6g} {check.relation} "
            f"{float(check.rhs[worst]):.6g}, numerical error {float(check.tolerance[worst]):.1g}."
        )
    else:
        parts.append("Nothing to compare.")
    parts.extend(f"{text}." for text, value in check.remarks.items() if value)
    return " ".join(parts)


def _batch_verdict(check: Check) -> str:
    """The number of lanes with each status."""
    names, counts = np.unique(check.status, return_counts=True)
    listed = ", ".join(f"{name} in {count}" for name, count in zip(names, counts, strict=True))
    return f"Of {counts.sum()} lanes: {listed}."
