"""Named variables of a store, for the results of lanes."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np

from ddln._results import RESULTS

# The variable that is written last: where it has no value yet (-1), a lane is missing.
MARK = "result"
MISSING = -1

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "time": {"long_name": "time of the flow; inf where it did not get there", "units": "1"},
    "loss": {"long_name": "L(theta)", "units": "1"},
    "theta": {"long_name": "effective parameter", "units": "1"},
    "okay": {"long_name": "whether the lane succeeded"},
    "steps": {"long_name": "number of steps", "units": "1"},
}


def variables(lanes: Any, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """Results by name, in the order of writing.

    A value that `observe` returned is named by its path, for example `checks_conservation`; a single
    value is named `values`.

    Args:
        lanes: results with the fields of a `Lane`, or their shapes and dtypes.
        names: names that are in use.

    Raises:
        ValueError: if two variables have the same name.
    """
    named: list[tuple[str, Any]] = [("time", lanes.ts), ("loss", lanes.loss)]
    if lanes.theta is not None:
        named.append(("theta", lanes.theta))
    named += [(_of_stat(key), value) for key, value in lanes.stats.items()]
    leaves = jax.tree_util.tree_leaves_with_path(lanes.values)
    named += [(_name(path), leaf) for path, leaf in leaves]
    named += [("okay", lanes.okay), (MARK, lanes.codes)]
    seen = set(names)
    for name, _ in named:
        if name in seen or not is_plain(name):
            raise ValueError(
                "Argument `observe` must return values with names that are new and made of letters, "
                f"digits and underscores, but one is called {name!r}."
            )
        seen.add(name)
    return dict(named)


def restored(arrays: dict[str, Any], like: Any) -> Any:
    """Inverse of `variables`: lanes with the structure of `like`, from arrays by name."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like.values)
    return dataclasses.replace(
        like,
        ts=arrays["time"],
        theta=arrays.get("theta") if like.theta is not None else None,
        loss=arrays["loss"],
        stats={key: arrays[_of_stat(key)] for key in like.stats},
        values=jax.tree.unflatten(structure, [arrays[_name(path)] for path, _ in paths]),
        okay=arrays["okay"],
        codes=arrays[MARK],
    )


def inner_dims(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes after those of the lanes."""
    if name in ("time", "loss"):
        return ("save",)
    if name == "theta" and len(shape) in (2, 3):
        return ("save", "coordinate") if len(shape) == 2 else ("save", "row", "column")
    return tuple(f"{name}_{axis}" for axis in range(len(shape)))


def attributes(name: str) -> dict[str, Any]:
    """Meaning of a variable, by the CF conventions."""
    if name != MARK:
        return ATTRIBUTES.get(name, {})
    messages = codes()
    return {
        "long_name": f"result code; {MISSING} where the lane was not computed yet",
        "flag_values": list(messages),
        # As JSON text: netCDF has no lists of texts.
        "flag_meanings": json.dumps(list(messages.values())),
    }


def meanings(attrs: dict[str, Any]) -> Any:
    """Messages of the result codes, from the attributes of the mark."""
    return _decoded(attrs.get("flag_meanings", []))


def encoded(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes as netCDF has them: numbers and text as they are, all else as JSON text.

    Raises:
        ValueError: if one is no plain data.
    """
    try:
        plain = json.loads(json.dumps(attrs, default=_plain))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Argument `attrs` must be plain data, as JSON has it, but {error}."
        ) from None
    return {
        name: value if type(value) in (str, int, float) else json.dumps(value)
        for name, value in plain.items()
    }


def decoded(attrs: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `encoded`."""
    return {name: _decoded(value) for name, value in attrs.items()}


def _decoded(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("{", "[", "true", "false", "null")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _plain(value: Any) -> Any:
    """NumPy's and JAX's numbers and arrays as those of Python, for `json.dumps`."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def as_results(codes: Any) -> RESULTS:
    """Result codes as members of the enumeration."""
    return jax.tree.unflatten(jax.tree.structure(RESULTS.successful), [codes])


def codes() -> dict[int, str]:
    """Message of each result code."""
    return {code: RESULTS[as_results(np.asarray(code, np.int32))] for code in range(len(RESULTS))}


def _of_stat(key: str) -> str:
    return "steps" if key == "num_steps" else key


def _name(path: tuple[Any, ...]) -> str:
    """Name of a leaf of `observe`'s value."""
    return str(jax.tree_util.keystr(path, simple=True, separator="_")) or "values"


def is_plain(name: str) -> bool:
    """True for a name of letters, digits and underscores, which means nothing to a file system."""
    return name.isascii() and name.replace("_", "a").isalnum()
