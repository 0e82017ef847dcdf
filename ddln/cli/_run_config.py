"""The file with which a run can be repeated, and the experiment of a run from it."""

import dataclasses
import difflib
import json
import os
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from ddln.cli._data import read
from ddln.cli._experiment import IDENTITY, Experiment
from ddln.cli._options import SweepOptions
from ddln.cli._output import CONFIG
from ddln.sweeps import SweepStore
from ddln.sweeps.store import decoded

# What a configuration may say.
KEYS = tuple(field.name for field in dataclasses.fields(SweepOptions) if field.name != "config")


def write_config(options: SweepOptions, folder: Path) -> None:
    """Write the options that determine the numbers of a run."""
    values = dataclasses.asdict(options)
    kept = {name: values[name] for name in ("data", *IDENTITY) if values[name] not in (None, ())}
    if options.data is not None:
        kept["data"] = str(options.data.absolute())
    lines = [
        f"# ddln {version('ddln')}: `ddln sweep --config {CONFIG}` repeats this run.",
        *(f"{name} = {_toml(value)}" for name, value in kept.items()),
    ]
    (folder / CONFIG).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # A text, a truth value or a number of JSON is one of TOML.
    return json.dumps(value, ensure_ascii=False)


def read_config(file: Path) -> dict[str, Any]:
    """The options in a file, by name.

    Raises:
        ValueError: if it is no TOML, or one of its keys is no option of `ddln sweep`.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no TOML file: {error}.") from None
    options = {name.replace("-", "_"): value for name, value in found.items()}
    for name in options:
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{file} has the key {name!r}, which is no option of a sweep.{hint}")
    if isinstance(options.get("data"), str):
        # A path in a file is seen from there.
        options["data"] = str(file.parent / Path(options["data"]).expanduser())
    return options


def with_config(arguments: list[str]) -> list[str]:
    """The arguments of the command line, after those of the file that `--config` names.

    Of an option that is given twice the last one counts.
    """
    if arguments[:1] != ["sweep"]:
        return arguments
    for place, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name == "--config" and (has_value or place + 1 < len(arguments)):
            file = Path(value if has_value else arguments[place + 1]).expanduser()
            return ["sweep", *_as_arguments(read_config(file)), *arguments[1:]]
    return arguments


def _as_arguments(options: dict[str, Any]) -> list[str]:
    """Options as they are given on the command line."""
    given: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            given.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            given += [flag, *map(str, value)]
        else:
            given.append(f"{flag}={value}")
    return given


def recorded_experiment(store: SweepStore) -> Experiment | None:
    """The experiment of a store, if it is of `ddln sweep` and its data is as it was; else None.

    The options are those beside the store, or in its attributes where the data is the embedded one.
    """
    attrs = decoded(store.to_xarray().attrs)
    if "options" not in attrs:
        return None
    recorded = dict(attrs["options"])
    config = Path(store.url).parent / CONFIG
    if "://" not in store.url and config.is_file():
        recorded = read_config(config)
    names = {field.name for field in dataclasses.fields(SweepOptions)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in recorded.items()
        if name in names
    }
    if isinstance(given.get("data"), str | os.PathLike):
        given["data"] = Path(given["data"])
    options = SweepOptions(**given)
    # The data is split in float64 whatever the precision of the run.
    jax.config.update("jax_enable_x64", True)
    try:
        split = read(options)
    except (ValueError, OSError, ImportError):
        return None
    jax.config.update("jax_enable_x64", options.precision == "float64")
    if split.name != attrs["data"] or split.standardization != attrs["standardization"]:
        return None
    return Experiment(split, options)
