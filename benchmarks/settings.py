"""The flows that are timed, and the precise ends they are compared with."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import ddln
from benchmarks.scipy_flow import Lane, in_processes


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem, its starts, and the accuracy asked for.

    Attributes:
        problem: from a key and `sizes` to a `ddln.problems.Problem` and the layers of the starts.
        sizes: its keyword arguments.
        scale: the factor of |X theta - y|^2.
        t1: the end of the integration.
        rtol: the relative tolerance; the absolute one is a thousandth of it.
    """

    problem: Callable[..., Any] = ddln.problems.case_h
    sizes: tuple[tuple[str, int], ...] = ()
    scale: float = 0.5
    t1: float = 1000.0
    rtol: float = 1e-6

    @property
    def atol(self) -> float:
        return 1e-3 * self.rtol

    @functools.cached_property
    def _made(self):
        problem, layers = self.problem(jax.random.key(0), **dict(self.sizes))
        return problem.loss(scale=self.scale), layers.reshape(-1, *layers.shape[-2:])

    @property
    def loss(self) -> ddln.LeastSquares:
        return self._made[0]

    @property
    def layers(self) -> jax.Array:
        """The starts, shape [B, L, d]."""
        return self._made[1]

    def lanes(self, method: str, rtol: float, atol: float) -> list[Lane]:
        """The same flows for SciPy."""
        X, y = np.sqrt(2 * self.scale) * np.asarray(self.loss.X), np.asarray(self.loss.y)
        y = np.sqrt(2 * self.scale) * y
        return [Lane(X, y, np.asarray(u), self.t1, method, rtol, atol) for u in self.layers]

    def reference(self, folder: Path) -> np.ndarray:
        """theta at t1 by SciPy with a tolerance of 1e-13, shape [B, d]; kept in `folder`."""
        lanes = self.lanes("LSODA", 1e-13, 1e-16)
        content = b"".join(array.tobytes() for lane in lanes for array in lane[:3])
        content += repr([lane[3:] for lane in lanes]).encode()
        file = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.npy"
        if not file.exists():
            with in_processes() as flows:
                np.save(file, flows(lanes)[0])
        return np.load(file)


def case_h(rtol: float = 1e-6, t1: float = 1000.0, **sizes: int) -> Setting:
    return Setting(sizes=tuple(sizes.items()), t1=t1, rtol=rtol)
