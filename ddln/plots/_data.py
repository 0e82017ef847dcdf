"""Arrays to draw, checked."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np

# Positive values that span more than this factor are shown on a log scale.
DECADES = 100


def as_flows(value: Any) -> Any:
    """Flows with `ts`, `theta` and `loss`: of an `xarray.Dataset` of a sweep, or as they are."""
    if not hasattr(value, "data_vars"):
        return value
    lanes = [dim for dim in value["time"].dims if dim != "save"]
    names = {"ts": "time", "theta": "theta", "loss": "loss"}
    arrays = {
        key: value[name].transpose(*lanes, "save", ...).to_numpy()
        for key, name in names.items()
        if name in value
    }
    one = arrays["ts"].shape[-1:]
    count = len(lanes)
    # Lanes become one axis; a dataset of one flow has none.
    return SimpleNamespace(
        **{
            key: array.reshape(*((-1,) if count else ()), *one, *array.shape[count + 1 :])
            for key, array in arrays.items()
        }
    )


def labelled(data: Any, values: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Scales, depths, values [depth, scale, rest] at the last saved time, and a name for them.

    Args:
        data: an `xarray.DataArray` over scale, depth and more, or a dataset with one.
        values: the name of the variable of a dataset; None for an array.

    Raises:
        ValueError: if there is no such variable, or it has no scale or depth.
    """
    array = data
    if hasattr(data, "data_vars"):
        if not isinstance(values, str) or values not in data:
            raise ValueError(
                f"Argument `values` must name a variable of the dataset, one of {sorted(data.data_vars)}, "
                f"but it is {values!r}."
            )
        array = data[values]
        if "okay" in data and array.dtype.kind == "f":
            array = array.where(data["okay"])
    elif values is not None:
        raise ValueError("Argument `values` must not be given with an `xarray.DataArray`.")
    if "save" in array.dims:
        array = array.isel(save=-1)
    if not {"depth", "scale"} <= set(array.dims):
        raise ValueError(
            "Argument `scales` must have the dimensions depth and scale if it is labelled, but it has "
            f"{array.dims}."
        )
    flat = array.transpose("depth", "scale", ...).to_numpy().reshape(*_sizes(array), -1)
    name = str(array.attrs.get("long_name", array.name or ""))
    return np.asarray(array["scale"]), np.asarray(array["depth"]), flat, name


def _sizes(array: Any) -> tuple[int, int]:
    return array.sizes["depth"], array.sizes["scale"]


def require_label(label: str) -> None:
    """Raise a `ValueError` if a quantity has no name: the figure would not say what it shows."""
    if not label:
        raise ValueError("Argument `label` must name the quantity of the figure.")


def quantiles(values: np.ndarray, shares: Any) -> np.ndarray:
    """Quantiles along the last axis of what is not NaN; NaN where all is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.nanquantile(values, shares, axis=-1)


def numbers(name: str, value: Any, axes: str) -> np.ndarray:
    """Convert an argument to a float array with the named axes; NaN is allowed.

    Raises:
        ValueError: if it is not numeric, the number of axes differs, or an axis is empty.
    """
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Argument `{name}` must be a numeric array, but {error}.") from error
    names = axes.split()
    if array.ndim != len(names):
        raise ValueError(
            f"Argument `{name}` must have the axes [{', '.join(names)}], "
            f"but it has shape {array.shape}."
        )
    if array.size == 0:
        raise ValueError(f"Argument `{name}` must not be empty, but it has shape {array.shape}.")
    return array


def grid(scales: Any, depths: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check the axes of a sweep: scales positive and increasing, depths whole numbers.

    Raises:
        ValueError: if they are not.
    """
    scales = numbers("scales", scales, "scale")
    if scales.size < 2 or not (
        scales[0] > 0 and np.all(np.diff(scales) > 0) and np.isfinite(scales[-1])
    ):
        raise ValueError(
            "Argument `scales` must be two or more numbers, positive, finite and increasing, "
            f"but it is {scales}. Sort the values along with it."
        )
    depths = numbers("depths", depths, "depth")
    if not np.all(depths == np.round(depths)):
        raise ValueError(f"Argument `depths` must be whole numbers, but it is {depths}.")
    return scales, depths.astype(int)


def sweep_values(name: str, value: Any, axes: str, depths: np.ndarray, scales: np.ndarray):
    """Convert the values of a sweep; infinite values, like NaN, count as missing.

    Raises:
        ValueError: if they do not have the axes [depth, scale, ...].
    """
    values = numbers(name, value, axes)
    if values.shape[:2] != (depths.size, scales.size):
        raise ValueError(
            f"Argument `{name}` must have the axes [{', '.join(axes.split())}] with "
            f"{depths.size} depths and {scales.size} scales, but it has shape {values.shape}."
        )
    return np.where(np.isfinite(values), values, np.nan)


def spans_decades(values: np.ndarray) -> bool:
    """True if the values that are not NaN are positive and span more than a factor of `DECADES`."""
    known = values[~np.isnan(values)]
    return bool(known.size and known.min() > 0 and known.max() > DECADES * known.min())


def reached(trajectory: Any) -> np.ndarray:
    """The indices of the saved rows that the flow reached.

    Raises:
        ValueError: if the trajectory is a batch of several, or fewer than two rows were reached.
    """
    times = np.asarray(trajectory.ts)
    if times.ndim != 1:
        raise ValueError(
            f"Argument `trajectory` must be one trajectory, but its `ts` has shape {times.shape}. "
            "Take one of the batch: `jax.tree.map(lambda leaf: leaf[0], trajectory)`."
        )
    rows = np.flatnonzero(np.isfinite(times))
    if rows.size < 2:
        raise ValueError(
            "Argument `trajectory` must have two or more saved times that were reached, "
            f"but it has {rows.size}. Pass `ts` to the flow."
        )
    return rows
