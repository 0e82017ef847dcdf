"""An experiment of the command line: the data, the options, and all that follows from them."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddln.cli._data import Split
from ddln.cli._flows import STATUSES, Examples, Observe, Starts
from ddln.cli._options import SweepOptions
from ddln.limits import effective_sparsity
from ddln.losses import LeastSquares
from ddln.sweeps import (
    Initializations,
    StoredArray,
    SweepResult,
    SweepStore,
    compile_sweep,
    sweep,
)

# Times of a curve in a figure: enough that it looks smooth.
CURVE_TIMES = 500

# Lanes whose theta is in memory at once.
LANES_READ = 1024

# A flow has not converged if at its end it leaves more than this unexplained that can be explained.
UNCONVERGED = 1e-3

# The options that determine the numbers, besides the data.
IDENTITY = (
    "target", "train", "drop", "encode", "missing", "depths", "scales", "scale_count",
    "initializations", "t1", "saves", "rtol", "atol", "max_steps", "observe", "seed", "precision",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The flows of one depth: lanes in the order (initialization, scale).

    Attributes:
        depth: the number of layers.
        result: the flows.
        minimum: the least loss of any theta.
    """

    depth: int
    result: SweepResult
    minimum: float

    @property
    def theta(self) -> StoredArray | None:
        """Theta at all saved times, if it was kept."""
        return self.result.values.get("theta")

    @property
    def statuses(self) -> dict[str, StoredArray]:
        return self.result.values.get("check", {})

    def ends(self, lanes: slice) -> np.ndarray | None:
        """Theta at the end of these lanes, if it was kept."""
        if self.theta is not None:
            return self.theta[lanes, -1]
        end = self.result.values.get("end")
        return None if end is None else end[lanes]

    def limits(self, lanes: slice) -> np.ndarray | None:
        """Theta of these lanes at t = infinity, if it was kept."""
        found = self.result.values.get("limit")
        return None if found is None else found[lanes]

    @cached_property
    def sparsity(self) -> np.ndarray:
        """|theta|_1^2 / |theta|_2^2 at the end, by lane; NaN where a flow failed, or it was not kept."""
        okay = np.asarray(self.result.okay)
        if "norms" in self.result.values:
            norms = {key: array[:, -1] for key, array in self.result.values["norms"].items()}
            sparsity = (norms["l1"] / np.where(norms["l2"] > 0, norms["l2"], 1)) ** 2
        elif self.ends(slice(0, 1)) is not None:
            sparsity = self._of_each(
                lambda part: np.asarray(effective_sparsity(np.nan_to_num(self.ends(part))))  # pyright: ignore
            )
        else:
            sparsity = np.full(len(okay), np.nan)
        return np.where(okay, sparsity, np.nan)

    def best_errors(self, split: Split) -> np.ndarray | None:
        """The smallest held-out error along each flow, NaN where it failed; None if it is not known."""
        known = self.result.values.get("held_out")
        theta = self.theta
        if not len(split.held_out_targets) or (theta is None and known is None):
            return None

        def best(part: slice) -> np.ndarray:
            errors = split.error(theta[part]) if theta is not None else known[part]  # pyright: ignore
            return np.where(np.isfinite(errors), errors, np.inf).min(axis=1)

        return np.where(self.result.okay, self._of_each(best), np.nan)

    @cached_property
    def unexplained(self) -> np.ndarray:
        """Training error at the end over that of theta = 0, by lane.

        y has norm 1, so that theta = 0 has the loss 1/2.
        """
        return 2 * np.asarray(self.result.loss[:, -1])

    @property
    def unconverged(self) -> np.ndarray:
        """Lanes that did not fail, but are still on their way at the end."""
        return np.asarray(self.result.okay) & (self.unexplained - 2 * self.minimum > UNCONVERGED)

    def _of_each(self, function: Callable[[slice], np.ndarray]) -> np.ndarray:
        """A function of lanes for all of them, some at a time: they stay in the store."""
        starts = range(0, len(self.unexplained), LANES_READ)
        return np.concatenate([function(slice(start, start + LANES_READ)) for start in starts])


@dataclass(frozen=True)
class Experiment:
    """The flows from every initialization at every scale, for every depth, on one data set."""

    split: Split
    options: SweepOptions

    @cached_property
    def scales(self) -> np.ndarray:
        """The scales of the initialization."""
        return np.geomspace(*self.options.scales, self.options.scale_count)

    @cached_property
    def ts(self) -> np.ndarray:
        """The saved times, in the precision of the run."""
        return self._times(self.options.saves)

    @property
    def t1(self) -> float:
        """The end of the training time, as the precision of the run rounds it."""
        return float(self.ts[-1])

    @property
    def lanes(self) -> int:
        """Number of flows of one depth."""
        return self.options.initializations * self.options.scale_count

    @cached_property
    def loss(self) -> LeastSquares:
        """The training loss |X theta - y|^2 / 2."""
        X, y = (jnp.asarray(a, self.options.precision) for a in (self.split.X, self.split.y))
        return LeastSquares(X, y)

    @cached_property
    def examples(self) -> Examples:
        """Three flows of the middle depth, at the smallest, the middle and the largest scale.

        From a random start where there is one: there layers cross zero.
        """
        options = self.options
        first = options.scale_count * min(1, options.initializations - 1)
        lanes = first + np.array([0, options.scale_count // 2, options.scale_count - 1])
        return Examples(
            self.starts(options.depths[len(options.depths) // 2]),
            jnp.asarray(lanes),
            self.loss,
            jnp.asarray(self._times(CURVE_TIMES)),
            self.t1,
            (options.rtol, options.atol),
            options.max_steps,
        )

    def starts(self, depth: int) -> Starts:
        """The initializations of one depth."""
        scales = jnp.asarray(self.scales, self.options.precision)
        return Starts(jax.random.key(self.options.seed), scales, depth, self.split.X.shape[1])

    def store(self, url: str) -> SweepStore:
        """The store of the results: depth, initialization, scale, time saved, coordinate."""
        labels = {
            "depth": self.options.depths,
            "initialization": np.arange(self.options.initializations),
            "scale": self.scales,
        }
        attrs = {
            "data": self.split.name,
            "features": list(self.split.feature_names),
            "seed": self.options.seed,
            "codes of checks": ", ".join(f"{i}: {name}" for i, name in enumerate(STATUSES)),
            "options": self.identity,
            "standardization": self.split.standardization,
        }
        return SweepStore(url, ("depth", "initialization", "scale"), labels, attrs)

    @property
    def identity(self) -> dict[str, Any]:
        """The options that determine the numbers, as plain data."""
        values = dataclasses.asdict(self.options)
        plain = {name: values[name] for name in IDENTITY}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    def integrate(
        self,
        depth: int,
        store: SweepStore,
        executor: Executor | None,
        report: Callable[[int, int, int], None],
    ) -> Outcome:
        """Integrate the flows of one depth that the store lacks."""
        result = sweep(
            *self._arguments(depth),
            **self._settings,
            store=store.at(depth=depth),
            executor=executor,
            progress=report,
        )
        return Outcome(depth, result, self.split.minimum)

    def compile(self, depth: int, store: SweepStore) -> None:
        """Compile the program of `integrate`."""
        compile_sweep(*self._arguments(depth), **self._settings, store=store.at(depth=depth))

    def _arguments(self, depth: int) -> tuple[Initializations, LeastSquares, float]:
        return Initializations(self.starts(depth), self.lanes), self.loss, self.t1

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "ts": self.ts,
            "rtol": self.options.rtol,
            "atol": self.options.atol,
            "max_steps": self.options.max_steps,
            "observe": Observe(self.loss, self._held_out, self.options.observe),
            "chunk_size": self.options.chunk_size,
        }

    @property
    def _held_out(self) -> tuple[Any, Any] | None:
        if "errors" not in self.options.observe:
            return None
        data = self.split.held_out_inputs, self.split.held_out_targets
        return tuple(jnp.asarray(array, self.options.precision) for array in data)  # pyright: ignore

    def _times(self, count: int) -> np.ndarray:
        # Gradients are of order one: nothing happens before a thousandth of a time unit at scale one.
        t1 = float(self.options.t1)
        ts = np.concatenate([[0.0], np.geomspace(min(1e-3, t1 / 1e3), t1, count - 1)])
        ts[-1] = t1
        return ts.astype(self.options.precision)
