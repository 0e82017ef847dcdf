"""Settings of an integration, validated once."""

from collections.abc import Callable
from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln._validation import is_known, require_finite, require_positive, require_real
from ddln.engine._adjoint import check_adjoint
from ddln.engine._per_lane import PerLane

T = TypeVar("T")

# Times may exceed t1 by this many units of rounding.
ROUNDING = 8


def _as_times(ts: Any) -> Any:
    """Sequences of times as arrays."""
    if ts is None or isinstance(ts, PerLane) or hasattr(ts, "dtype") or not hasattr(ts, "__len__"):
        return ts
    times = list(ts)
    known = all(map(is_known, times))
    return np.asarray(times) if known else jnp.stack([jnp.asarray(t) for t in times])


class Solve(eqx.Module):
    """Settings of one integration from time 0 to t1.

    In a sweep, numbers and arrays may be `PerLane` values.

    Attributes:
        t1: the end of the integration.
        ts: the times to save at, shape [T]; None saves the end only.
        rtol: the relative tolerance.
        atol: the absolute tolerance, before it is scaled with the start.
        solver: a diffrax solver; None leaves the choice to the dynamics.
        adjoint: None for reverse mode through the recorded steps where the solver allows it and else
            with checkpoints; or a diffrax adjoint.
        event: `event(t, parameterization, loss)`, at whose zero, or truth, the integration stops.
        max_steps: the most steps, accepted or not.
        dense: whether dense output is kept.
    """

    t1: Any
    ts: Any = eqx.field(default=None, converter=_as_times)
    rtol: Any = 1e-6
    atol: Any = 1e-9
    solver: diffrax.AbstractSolver | None = None
    adjoint: diffrax.AbstractAdjoint | None = None
    event: Callable | None = None
    max_steps: int = eqx.field(static=True, default=16384)
    dense: bool = eqx.field(static=True, default=False)

    def in_dtype(self, dtype: Any) -> "Solve":
        """The same settings, with all numbers but those of the solver as arrays of a dtype."""
        numbers = in_dtype((self.t1, self.ts, self.rtol, self.atol, self.event), dtype)
        return Solve(
            *numbers[:4], self.solver, self.adjoint, numbers[4], self.max_steps, self.dense
        )

    def checked(self) -> "Solve":
        """The same settings; times that rounding put beyond t1 are t1.

        Raises:
            ValueError: if one is out of its range, or of another type.
        """
        if self.solver is not None and not isinstance(self.solver, diffrax.AbstractSolver):
            raise ValueError(
                "Argument `solver` must be None or a solver such as `diffrax.Kvaerno5()`, but it is "
                f"{self.solver!r}."
            )
        if self.event is not None and (isinstance(self.event, type) or not callable(self.event)):
            raise ValueError(
                "Argument `event` must be None or a function such as `ddln.LossBelow(1e-3)`, but it is "
                f"{self.event!r}."
            )
        for name, value in (("t1", self.t1), ("ts", self.ts)):
            if value is None and name == "t1":
                raise ValueError("Argument `t1` must be a real number, but it is None.")
            if known(value) is not None:
                require_real(name, known(value))
        if not isinstance(self.t1, PerLane) and np.ndim(self.t1):
            raise ValueError(
                f"Argument `t1` must be one number, but it has shape {np.shape(self.t1)}. For several ends "
                "use `jax.vmap`, or `ddln.PerLane` in a sweep; to save at several times use `ts`."
            )
        ts = _clipped(self.ts, self.t1)
        _check_times(self.t1, ts)
        for name in ("rtol", "atol"):
            if (value := known(getattr(self, name))) is not None:
                require_positive(name, value)
        if self.max_steps < 1:
            raise ValueError(
                f"Argument `max_steps` must be at least 1, but it is {self.max_steps}."
            )
        check_adjoint(self.adjoint)
        return eqx.tree_at(lambda solve: solve.ts, self, ts, is_leaf=lambda leaf: leaf is None)


def in_dtype(tree: T, dtype: Any) -> T:
    """The tree with Python numbers and real arrays as arrays of a dtype: no number is a part of a program."""

    def convert(leaf: Any) -> Any:
        number = isinstance(leaf, int | float | np.number) and not isinstance(leaf, bool)
        real = eqx.is_inexact_array(leaf) or isinstance(leaf, np.ndarray)
        return jnp.asarray(leaf, dtype) if number or real else leaf

    return jax.tree.map(convert, tree)


def known(value: Any) -> Any:
    """The numbers of an argument that can be checked before work starts, or None."""
    if isinstance(value, PerLane):
        value = None if value.is_rule else value.values
    return value if value is not None and is_known(value) else None


def _clipped(ts: Any, t1: Any) -> Any:
    """The times, with those that exceed t1 by a few units of rounding set to t1.

    A grid made of t1, such as `jnp.geomspace(1e-3, t1, 50)`, ends there only up to rounding. The unit
    is that of the coarser dtype.
    """
    if isinstance(ts, PerLane) and known(ts) is not None and np.ndim(ts.values) == 2:
        ends = known(t1)
        rows = None if ends is None else _clipped_array(ts.values, np.asarray(ends)[..., None])
        return ts if rows is None else PerLane(rows)
    if ts is None or isinstance(ts, PerLane) or np.ndim(ts) != 1:
        return ts
    # Times that all lanes share end with the first lane.
    end = t1 if not isinstance(t1, PerLane) else None if known(t1) is None else known(t1).min()
    return ts if end is None or np.ndim(end) else _clipped_array(ts, end)


def _clipped_array(ts: Any, end: Any) -> Any:
    dtypes = [jnp.result_type(value) for value in (ts, end)]
    units = [float(jnp.finfo(d).eps) for d in dtypes if jnp.issubdtype(d, jnp.floating)]
    if not units or not all(jnp.issubdtype(d, jnp.number) for d in dtypes):
        return ts
    numpy = np if is_known(ts) and is_known(end) else jnp
    # By NumPy: JAX may be set to promote nothing.
    dtype = jax.dtypes.canonicalize_dtype(np.promote_types(*dtypes))
    times, last = (numpy.asarray(value, dtype) for value in (ts, end))
    beyond = (times > last) & (times <= last * (1 + ROUNDING * max(units)))
    if numpy is np and not beyond.any():
        return ts
    return numpy.where(beyond, last, times)


def _check_times(t1: Any, ts: Any) -> None:
    """The end of the integration, and the times to save at if there are any."""
    ends, times = known(t1), known(ts)
    if ends is not None:
        require_positive("t1", ends)
    if ts is None:
        return
    axes = 2 if isinstance(ts, PerLane) else 1
    shape = np.shape(ts.values if isinstance(ts, PerLane) else ts)
    if not (isinstance(ts, PerLane) and ts.is_rule) and (len(shape) != axes or 0 in shape):
        raise ValueError(
            f"Argument `ts` must be a list of times, not empty, but it has shape {shape}."
        )
    if times is None:
        return
    times = np.asarray(times)
    require_finite("ts", times)
    if np.any(np.diff(times) < 0):
        raise ValueError("Argument `ts` must be increasing, but it is not. Sort it first.")
    if ends is not None and (times.min() < 0 or np.any(times[..., -1] > np.asarray(ends))):
        raise ValueError(
            f"Argument `ts` must lie in [0, t1] = [0, {np.min(ends)}], "
            f"but it spans [{times.min()}, {times.max()}]."
        )
