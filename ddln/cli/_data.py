"""The data of a run: split, and standardized by the mean and the norm of the training part."""

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ddln.cli._options import EMBEDDED_TRAIN, SweepOptions
from ddln.problems import diabetes, load


@dataclass(frozen=True)
class Split:
    """Training and held-out data; training columns have mean 0 and norm 1, and so has y.

    `standardization` holds, as plain data, what leads back to the units of the file: mean and norm
    of each feature and of the target, and the rows of the training part, counted from 0.
    """

    name: str
    feature_names: tuple[str, ...]
    X: np.ndarray
    y: np.ndarray
    held_out_inputs: np.ndarray
    held_out_targets: np.ndarray
    standardization: dict[str, Any]

    def error(self, theta: np.ndarray) -> np.ndarray:
        """Mean squared error on the held-out data over that of predicting the training mean."""
        residual = theta @ self.held_out_inputs.T - self.held_out_targets
        return np.mean(residual**2, axis=-1) / np.mean(self.held_out_targets**2)

    @cached_property
    def minimum(self) -> float:
        """The least training loss |X theta - y|^2 / 2 of any theta."""
        theta = np.linalg.lstsq(self.X, self.y)[0]
        return float(np.sum((self.X @ theta - self.y) ** 2) / 2)


def read(options: SweepOptions) -> Split:
    """Read the data, split and standardize it, in float64 whatever the precision of the run.

    Raises:
        ValueError: if the training part is too small, a column is constant there, or y is.
    """
    file = options.data
    problem = (
        diabetes(quadratic=True)
        if file is None
        else load(
            file,
            target=options.target,
            drop=options.drop,
            encode=options.encode,
            missing=options.missing,
        )
    )
    # In the numbers of the file, counted from 0, where it left out rows with missing values.
    rows = problem.standardization.rows if problem.standardization else np.arange(len(problem.y))
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
        _refuse_constant([problem.feature_names[column] for column in constant], train, samples)
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
        {
            "feature_mean": mean.tolist(),
            "feature_norm": norm.tolist(),
            "target": problem.target_name,
            "target_mean": float(center),
            "target_norm": float(size),
            "train_rows": rows[chosen].tolist(),
        },
    )


def _refuse_constant(names: list[str], train: int, samples: int) -> None:
    remedy = f"Leave {'it' if len(names) == 1 else 'them'} out with --drop {shlex.join(names)}"
    if train < samples:
        remedy += ", or train on more samples"
    raise ValueError(
        f"{'Column' if len(names) == 1 else 'Columns'} {', '.join(map(repr, names))} "
        f"{'is' if len(names) == 1 else 'are'} constant in the {train} training samples. {remedy}."
    )
