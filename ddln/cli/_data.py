"""The data of a run: split, and standardized by what the training part shows."""

from dataclasses import dataclass

import numpy as np

from ddln.cli._options import EMBEDDED_TRAIN, SweepOptions
from ddln.problems import diabetes, load


@dataclass(frozen=True)
class Split:
    """Training and held-out data; training columns have mean 0 and norm 1, and so has y."""

    name: str
    feature_names: tuple[str, ...]
    X: np.ndarray
    y: np.ndarray
    held_out_inputs: np.ndarray
    held_out_targets: np.ndarray

    def error(self, theta: np.ndarray) -> np.ndarray:
        """Mean squared error on the held-out data over that of predicting the training mean."""
        residual = theta @ self.held_out_inputs.T - self.held_out_targets
        return np.mean(residual**2, axis=-1) / np.mean(self.held_out_targets**2)


def _column(options: SweepOptions) -> str | int | None:
    """The target column: an integer is an index."""
    target = options.target
    return int(target) if target is not None and target.lstrip("-").isdigit() else target


def read(options: SweepOptions) -> Split:
    """Reads the data, splits and standardizes it.

    Raises:
        ValueError: if the training part is too small, a column is constant there, or y is.
    """
    file = options.data
    problem = load(file, target=_column(options)) if file else diabetes(quadratic=True)
    X, y = np.asarray(problem.X), np.asarray(problem.y)
    samples = len(y)
    train = options.train
    if train is None:
        train = EMBEDDED_TRAIN if file is None else samples
    if not 2 <= train <= samples:
        raise ValueError(f"Option --train must be between 2 and {samples}, but it is {train}.")
    order = np.random.default_rng(options.seed).permutation(samples)
    chosen, rest = order[:train], order[train:]
    mean, norm = X[chosen].mean(axis=0), np.linalg.norm(X[chosen] - X[chosen].mean(axis=0), axis=0)
    constant = np.flatnonzero(norm <= 1e-12 * np.abs(X[chosen]).max(axis=0))
    if constant.size:
        raise ValueError(
            f"Column {problem.feature_names[constant[0]]!r} is constant in the {train} training "
            "samples. Remove it from the data, or train on more samples."
        )
    center = y[chosen].mean()
    size = np.linalg.norm(y[chosen] - center)
    if size == 0:
        raise ValueError(f"The target {problem.target_name!r} is constant in the training samples.")
    return Split(
        problem.name,
        problem.feature_names,
        (X[chosen] - mean) / norm,
        (y[chosen] - center) / size,
        (X[rest] - mean) / norm,
        (y[rest] - center) / size,
    )
