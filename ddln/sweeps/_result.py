"""Result of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ddln._card import flow_card
from ddln._plot import figures
from ddln._results import RESULTS, is_okay
from ddln._types import Array
from ddln.sweeps._lanes import Lane
from ddln.sweeps.store import (
    MISSING,
    StoredArray,
    as_results,
    attributes,
    codes,
    encoded,
    inner_dims,
    variables,
)


class SweepResult(eqx.Module):
    """Flows of a sweep, in the order of the initializations.

    The arrays are NumPy arrays on the host. A sweep with a store has `StoredArray`s, which hold no entries:
    an index reads the rows it names from the store, and `numpy.asarray` reads all. A sweep inside of
    `jax.jit`, `jax.grad` or the like has JAX arrays.

    Attributes:
        ts: the saved times, shape [B, T]; inf where a lane did not get there.
        theta: the effective parameter, shape [B, T, *theta]; None with `observe`.
        loss: L(theta), shape [B, T].
        codes: the numbers behind `result`, shape [B].
        stats: numbers of steps per lane, each of shape [B].
        values: the values of `observe`, leaves with a leading axis B; None without `observe`.
        method: the coordinates and the solver that were used.
    """

    ts: np.ndarray | Array | StoredArray
    theta: np.ndarray | Array | StoredArray | None
    loss: np.ndarray | Array | StoredArray
    codes: np.ndarray | Array | StoredArray
    stats: dict[str, Any]
    values: Any
    method: str = eqx.field(static=True)

    @classmethod
    def of(cls, lanes: Lane) -> "SweepResult":
        """Result of lanes that a sweep has gathered."""
        return cls(
            lanes.ts, lanes.theta, lanes.loss, lanes.codes, lanes.stats, lanes.values, lanes.method
        )

    @property
    def result(self) -> RESULTS:
        """`ddln.RESULTS` code of each lane, shape [B]."""
        return as_results(self._codes)

    @property
    def okay(self) -> np.ndarray | Array:
        """True for each lane that succeeded, shape [B]."""
        okay = is_okay(self.result)
        return okay if isinstance(self._codes, jax.Array) else np.asarray(okay)

    @property
    def _codes(self) -> Any:
        return self.codes if isinstance(self.codes, jax.Array) else np.asarray(self.codes)

    def plot(self, x: Any = None, **options: Any) -> Any:
        """Draw the ends of the lanes, against a number for each: the axes of `ddln.plots.ends`."""
        return figures().ends(self, x, **options)

    def _repr_html_(self) -> str | None:
        return flow_card("SweepResult", self)

    def failures(self) -> dict[str, np.ndarray]:
        """Lanes that failed, by reason: message -> indices."""
        all_codes, messages = np.asarray(self.codes), codes()
        reasons = np.unique(all_codes[~self.okay & (all_codes != MISSING)])
        return {messages[int(code)]: np.flatnonzero(all_codes == code) for code in reasons}

    def to_xarray(
        self,
        dims: Sequence[str] = ("initialization",),
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ):
        """Labelled `xarray.Dataset` of theta, loss, time, code, steps and the values of `observe`.

        The dataset is in memory. For a sweep with a store, `ddln.SweepStore.to_xarray` opens the store.

        Args:
            dims: names for the axis B; several unfold it, in C order, to the sizes of `coords`.
            coords: labels: a value per entry of each name in `dims`, and of `coordinate`.
            attrs: attributes of the dataset.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if the sizes of `dims` do not multiply to B.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError(
                '`SweepResult.to_xarray` needs xarray. Install it with `pip install "ddln[cli]"`.'
            ) from error
        coords = dict(coords or {})
        lanes = self.loss.shape[0]
        sizes = [lanes] if len(dims) == 1 else [len(coords[name]) for name in dims]
        if np.prod(sizes) != lanes:
            raise ValueError(
                f"Argument `dims` must unfold {lanes} lanes, but the labels of {tuple(dims)} have "
                f"sizes {sizes}."
            )
        named = {}
        for name, value in variables(self, tuple(dims)).items():
            array = np.asarray(value)
            inner = inner_dims(name, array.shape[1:])
            shape = (*sizes, *array.shape[1:])
            named[name] = (*dims, *inner), array.reshape(shape), attributes(name)
        return xarray.Dataset(named, coords, {"method": self.method, **encoded(dict(attrs or {}))})
