"""What a sweep returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ddln._results import RESULTS, is_okay


class SweepResult(eqx.Module):
    """The flows of a sweep, in the order of the initializations, as NumPy arrays on the host.

    Attributes:
        ts: the saved times, shape [B, T]; inf where a lane did not get there.
        theta: the effective parameter, shape [B, T, *theta]; None if `observe` was given.
        loss: L(theta), shape [B, T].
        result: a `ddln.RESULTS` code per lane, shape [B].
        stats: numbers of steps per lane, each of shape [B].
        values: what `observe` returned, leaves with a leading axis B; None without `observe`.
        method: the coordinates and the solver that were used.
    """

    ts: np.ndarray
    theta: np.ndarray | None
    loss: np.ndarray
    result: RESULTS
    stats: dict[str, np.ndarray]
    values: Any
    method: str = eqx.field(static=True)

    @property
    def okay(self) -> np.ndarray:
        """Whether each lane succeeded, shape [B]."""
        return np.asarray(is_okay(self.result))

    def failures(self) -> dict[str, np.ndarray]:
        """The lanes that failed, by reason: message -> indices."""
        lanes = np.flatnonzero(~self.okay)
        reasons: dict[str, list[int]] = {}
        for lane in lanes:
            code = jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf[lane]), self.result)
            reasons.setdefault(RESULTS[code], []).append(int(lane))
        return {reason: np.asarray(indices) for reason, indices in reasons.items()}

    def to_xarray(
        self,
        dims: Sequence[str] = ("initialization",),
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ):
        """A labelled `xarray.Dataset` with theta, loss, time, code and steps.

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

        def unfold(array, *rest):
            array = np.asarray(array)
            return (*dims, *rest), array.reshape(*sizes, *array.shape[1:])

        variables = {
            "loss": unfold(self.loss, "save"),
            "time": unfold(self.ts, "save"),
            "okay": unfold(self.okay),
            "steps": unfold(self.stats["num_steps"]),
        }
        if self.theta is not None:
            inner = ["coordinate"] if self.theta.ndim == 3 else ["row", "column"]
            variables["theta"] = unfold(self.theta, "save", *inner)
        return xarray.Dataset(variables, coords, {"method": self.method, **dict(attrs or {})})
