"""Columns of mean zero and length one, and the way back to their units."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Standardization:
    """The units of the data of a problem, and the rows that it is from.

    A column x of the data is (x - mean) / norm in the problem, and so is the target. So theta predicts

        y = target_mean + target_norm sum_i theta_i (x_i - feature_mean_i) / feature_norm_i.

    All is NumPy, in float64.

    Attributes:
        feature_mean: the mean of each column, 0 if it was left as it is, shape [d].
        feature_norm: the l2 norm of each centered column, 1 if it was left as it is, shape [d].
        target_mean: the mean of the target, 0 if it was left as it is.
        target_norm: the norm of the centered target, 1 if it was left as it is.
        rows: the numbers, from 0, of the rows of the data that are in the problem, shape [n].
    """

    feature_mean: np.ndarray
    feature_norm: np.ndarray
    target_mean: float
    target_norm: float
    rows: np.ndarray

    def coefficients(self, theta: Any) -> tuple[np.ndarray, np.ndarray]:
        """The coefficients [*batch, d] and the intercepts [*batch] in the units of the data.

        Args:
            theta: the effective parameters, shape [*batch, d].
        """
        coefficient = np.asarray(theta, float) * (self.target_norm / self.feature_norm)
        return coefficient, np.asarray(self.target_mean - coefficient @ self.feature_mean)

    def predict(self, theta: Any, inputs: Any) -> np.ndarray:
        """The predictions [*batch, rows] for rows of features in the units of the data.

        Args:
            theta: the effective parameters, shape [*batch, d].
            inputs: the features in the order of the problem, shape [rows, d].
        """
        centered = (np.asarray(inputs, float) - self.feature_mean) / self.feature_norm
        return self.target_mean + self.target_norm * (np.asarray(theta, float) @ centered.T)


def standardized(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(X - mean) / norm column by column, and the means and the norms of columns that are not constant."""
    # The division changes nothing but keeps the sums and squares below from overflowing.
    size = np.abs(X).max(axis=0)
    X = X / size
    mean = X.mean(axis=0)
    X = X - mean
    norm = np.linalg.norm(X, axis=0)
    with np.errstate(over="ignore"):
        return X / norm, size * mean, size * norm


def unit_columns(X: np.ndarray) -> np.ndarray:
    """(X - mean) / |X - mean|_2 column by column, for columns that are not constant."""
    return standardized(X)[0]
