"""Columns of mean zero and length one."""

import numpy as np


def unit_columns(X: np.ndarray) -> np.ndarray:
    """(X - mean) / |X - mean|_2 column by column, for columns that are not constant."""
    # The first division changes nothing but keeps the sums and squares below from overflowing.
    X = X / np.abs(X).max(axis=0)
    X = X - X.mean(axis=0)
    return X / np.linalg.norm(X, axis=0)
