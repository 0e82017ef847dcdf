"""Coefficients of a run in the units of its data."""

import os
from typing import Any

import numpy as np

from ddln.cli._places import store_at
from ddln.sweeps.store import decoded


def coefficients(run: str | os.PathLike[str]) -> Any:
    """The coefficients and the intercept of every flow of `ddln sweep`, in the units of its data.

    A run trains on columns of mean 0 and norm 1, and so is its target. Its store keeps the means m,
    s and norms a, b of the training part, so that x -> s + b sum_i theta_i (x_i - m_i) / a_i predicts
    the target of a new row x.

    Example:
        >>> fitted = ddln.cli.coefficients("ddln-results/run-001")
        >>> end = fitted.sel(depth=3, initialization=0).isel(scale=0, save=-1)
        >>> prediction = end.intercept + new_rows @ end.coefficient.values

    Args:
        run: the folder of a run, or its store: a path or a URL.

    Returns:
        An `xarray.Dataset` in memory with `coefficient` [depth, initialization, scale, save, feature]
        and `intercept` [depth, initialization, scale, save]. Flows that are missing are NaN.

    Raises:
        ImportError: if xarray is not installed.
        ValueError: if there is no store of `ddln sweep`.
    """
    store = store_at(os.fspath(run))
    data = store.to_xarray()
    attrs = decoded(data.attrs)
    kept = attrs.get("standardization")
    if kept is None:
        raise ValueError(
            f"Argument `run` must be a run of `ddln sweep`, but the store at {store.url} does not have "
            "the means and norms of its data."
        )
    if "theta" not in data:
        raise ValueError(
            f"Argument `run` must be a run that kept theta, but the store at {store.url} has none. "
            "Run it with `--observe theta`."
        )
    theta = data["theta"].where(data["result"] >= 0).rename(coordinate="feature")
    scale = kept["target_norm"] / np.asarray(kept["feature_norm"])
    coefficient = theta.assign_coords(feature=attrs["features"]) * scale
    shift = (coefficient * np.asarray(kept["feature_mean"])).sum("feature", skipna=False)
    return coefficient.to_dataset(name="coefficient").assign(intercept=kept["target_mean"] - shift)
