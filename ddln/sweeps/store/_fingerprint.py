"""Description of a sweep: everything that determines its results, as plain data.

The description is the same in every process. Short arrays are described by their entries, long ones by
dtype, shape and SHA-256. A function is described by the program that JAX traces from it, with its
constants: the operations, their parameters, and the arrays in its closure. Names, comments and the place
of its definition do not matter. Another version of JAX may trace another program from the same function.
"""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.extend
import numpy as np

from ddln.sweeps.store._program import ADDRESS, array_digest, as_numpy, program_digest

# Arrays of at most this size are described entry by entry.
SHORT = 64


def fingerprint(description: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Differences of two descriptions, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{name}.{key}" if name else str(key)
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), below)
    elif old != new:
        yield f"{name}: {_short(old)} in the store, {_short(new)} now"


def describe_tree(tree: Any, *examples: Any, without: tuple[str, ...] = ()) -> Any:
    """Describe a pytree: the fields of a module by name, the items of a container, or a leaf.

    Args:
        tree: modules and containers of arrays (concrete or not), functions and static values. The values
            of a `PerLane` need no special care: they are arrays with a leading axis, or a function of the
            lane's index.
        examples: shapes and dtypes of arguments, such as the lane's index. A function in the tree that can
            be traced with them is described by its program, any other function by its name, its code,
            and the values in its closure.
        without: fields of the module to leave out.
    """
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return _fields(tree, examples, (), without)
    return _describe(tree, examples)


def describe_function(function: Callable, *arguments: Any) -> dict[str, Any]:
    """Describe a function of arrays by the arrays it holds as a module, its program, and its result's form.

    Args:
        function: a function, or a module that can be called.
        arguments: shapes and dtypes.
    """
    arrays, static = eqx.partition(function, eqx.is_array)
    dynamic, rest = eqx.partition(arguments, _is_shaped)
    results = []

    def program(arrays, dynamic):
        outputs = eqx.combine(arrays, static)(*eqx.combine(dynamic, rest))
        results.append(eqx.filter(outputs, eqx.is_array, inverse=True))
        return eqx.filter(outputs, eqx.is_array)

    digest = program_digest(jax.make_jaxpr(program)(arrays, dynamic))
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    held = {jax.tree_util.keystr(path).lstrip("."): _describe(leaf) for path, leaf in leaves}
    described = {"program": digest, **({"arrays": held} if held else {})}
    # The program gives the arrays of a module, but neither its class nor its static fields.
    if results[-1] is not None:
        described["returns"] = _describe(results[-1])
    return described


def _is_shaped(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf)


def _describe(value: Any, examples: tuple[Any, ...] = (), above: tuple[int, ...] = ()) -> Any:
    """Describe any value; `above` are the functions and objects that hold it, by id."""
    describe = functools.partial(_describe, examples=examples, above=above)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if _is_shaped(value) or isinstance(value, np.ndarray | np.generic):
        return _describe_array(value)
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        return program_digest(value)
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        if hasattr(value, "_asdict"):
            return {"is": _name(type(value)), **describe(value._asdict())}  # pyright: ignore
        return [describe(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(item) for item in value), key=json.dumps)
    if dataclasses.is_dataclass(value):
        return {"is": _name(type(value)), **_fields(value, examples, above)}
    if callable(value):
        return _describe_callable(value, examples, above)
    leaves, structure = jax.tree.flatten(value)
    if jax.tree_util.treedef_is_leaf(structure):
        return _describe_object(value, above)
    return {"is": ADDRESS.sub("", str(structure)), "leaves": describe(leaves)}


def _fields(
    module: Any, examples: tuple[Any, ...], above: tuple[int, ...], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(module) if field.name not in without)
    return {name: _describe(getattr(module, name, None), examples, above) for name in names}


def _describe_array(array: Any) -> Any:
    if isinstance(array, jax.ShapeDtypeStruct | jax.core.Tracer):
        return f"{array.dtype}{list(array.shape)}"
    entries = as_numpy(array)
    if entries.dtype == object:
        return _describe(entries.tolist())
    plain = entries.dtype.kind in "biuf" and np.isfinite(entries).all()
    return entries.tolist() if plain and entries.size <= SHORT else array_digest(entries)


def _describe_object(value: Any, above: tuple[int, ...]) -> Any:
    """Describe an object by its text, or by its attributes if the text holds an address instead."""
    text = ADDRESS.sub("", repr(value))
    if text == repr(value) or id(value) in above or not getattr(value, "__dict__", None):
        return text
    return {"is": _name(type(value)), **_describe(vars(value), above=(*above, id(value)))}


def _describe_callable(
    function: Callable, examples: tuple[Any, ...], above: tuple[int, ...]
) -> Any:
    if examples:
        # Any function may refuse the arguments, in any way.
        with contextlib.suppress(Exception):
            return describe_function(function, *examples)
    function = inspect.unwrap(function)
    describe = functools.partial(_describe, above=(*above, id(function)))
    if isinstance(function, functools.partial):
        return {"partial": describe([function.func, function.args, function.keywords])}
    if inspect.ismethod(function):
        return {"method": describe([function.__func__, function.__self__])}
    if not inspect.isfunction(function):
        return _describe_object(function, above)
    described: dict[str, Any] = {"function": _name(function)}
    if id(function) not in above:
        described["code"] = _code_digest(function.__code__)
        values = _values(function)
        described |= {"closure": describe(values)} if values else {}
    return described


def _values(function: FunctionType) -> dict[str, Any]:
    """Values that a function uses: its closure and defaults, and arrays and numbers among its globals."""
    closed = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # The cell of a variable that is assigned later is empty.
        with contextlib.suppress(ValueError):
            closed[name] = cell.cell_contents
    names = {name for code in _codes(function.__code__) for name in code.co_names}
    used = {
        name: function.__globals__[name] for name in sorted(names & function.__globals__.keys())
    }
    numbers = {name: value for name, value in used.items() if eqx.is_array_like(value)}
    defaults = [function.__defaults__, function.__kwdefaults__]
    return numbers | closed | ({"defaults": defaults} if any(defaults) else {})


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Code of a function, and of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _code_digest(code: CodeType) -> str:
    digest = hashlib.sha256()
    for part in _codes(code):
        constants = [_describe(c) for c in part.co_consts if not isinstance(c, CodeType)]
        digest.update(part.co_code + json.dumps([part.co_names, constants]).encode())
    return digest.hexdigest()


def _name(value: Any) -> str:
    """Package and name of a class or function: a module may move within its package."""
    owner = value if hasattr(value, "__qualname__") else type(value)
    return f"{(owner.__module__ or '').partition('.')[0]}.{owner.__qualname__}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
