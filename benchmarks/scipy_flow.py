"""The reduced flow by SciPy, a lane a process: what an expert writes without the library.

NumPy and SciPy only, so that the processes of the pool start fast.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp


class Lane(NamedTuple):
    """u' = -grad_u |X prod(u) - y|^2 / 2 from these layers, and how to integrate it."""

    X: np.ndarray
    y: np.ndarray
    layers: np.ndarray
    t1: float
    method: str
    rtol: float
    atol: float


def final(lane: Lane) -> tuple[np.ndarray, int]:
    """theta at t1, of v' = -p(v) X^T (X theta - y) with its Jacobian, and the number of steps."""
    X, y = lane.X, lane.y
    squares = np.square(lane.layers)
    smallest = np.argmin(squares, axis=0)
    start = lane.layers[smallest, np.arange(X.shape[1])]
    others = np.arange(len(squares))[:, None] != smallest[None, :]
    gaps = np.sort(np.where(others, squares - np.square(start), np.inf), axis=0)[:-1]
    sign = np.prod(np.where(others, np.sign(lane.layers), 1), axis=0)
    gram = X.T @ X

    def speed(v):
        return sign * np.prod(np.sqrt(np.square(v) + gaps), axis=0)

    def velocity(t, v):
        p = speed(v)
        return -p * (X.T @ (X @ (v * p) - y))

    def jacobian(t, v):
        p = speed(v)
        slope = p * v * np.sum(1 / (np.square(v) + gaps), axis=0)
        g = X.T @ (X @ (v * p) - y)
        return -np.diag(slope * g) - p[:, None] * gram * (p + v * slope)[None, :]

    solution = solve_ivp(
        velocity,
        (0, lane.t1),
        start,
        method=lane.method,
        jac=jacobian,
        rtol=lane.rtol,
        atol=lane.atol,
    )
    v = solution.y[:, -1]
    return v * speed(v), len(solution.t) - 1


@contextlib.contextmanager
def in_processes() -> Iterator[Callable[[list[Lane]], tuple[np.ndarray, np.ndarray]]]:
    """A function from lanes to theta [B, d] and the numbers of steps [B], one process per core."""
    # The matrices are small: threads of BLAS would only wait for each other.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:

        def run(lanes):
            thetas, steps = zip(*pool.map(final, lanes), strict=True)
            return np.stack(thetas), np.asarray(steps)

        yield run
