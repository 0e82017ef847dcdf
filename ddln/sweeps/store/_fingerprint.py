"""What determines the results of a sweep, as plain text: the same in every process.

Arrays are told by their dtype, shape and SHA-256. A function is told by the program that JAX traces
from it, with its constants: the operations, their parameters, and the arrays it closes over. Names,
comments and the place where it was defined do not matter. Another version of JAX may trace another
program from the same function.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

# Arrays with no more entries are told entry by entry.
SHORT = 64

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def fingerprint(description: Any) -> str:
    """The SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Where two descriptions differ, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{name}.{key}" if name else str(key)
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), below)
    elif old != new:
        yield f"{name}: {_short(old)} in the store, {_short(new)} now"


def describe_tree(tree: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a module: short arrays and numbers as they are, long ones by digest."""
    fields = {key: value for key, value in vars(tree).items() if key not in without}
    return {key: _describe(value) for key, value in fields.items()}


def describe_function(function: Callable, *arguments: Any) -> dict[str, Any]:
    """A function of arrays: those it carries as a module, and its program for these arguments.

    Args:
        function: a function, or a module that can be called.
        arguments: shapes and dtypes.
    """
    arrays, static = eqx.partition(function, eqx.is_array)
    dynamic, rest = eqx.partition(arguments, _is_shaped)

    def program(arrays, dynamic):
        outputs = eqx.combine(arrays, static)(*eqx.combine(dynamic, rest))
        return eqx.filter(outputs, eqx.is_array)

    digest = hashlib.sha256()
    _hash(jax.make_jaxpr(program)(arrays, dynamic), digest)
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    carried = {jax.tree_util.keystr(path).lstrip("."): _describe(leaf) for path, leaf in leaves}
    return {"program": digest.hexdigest(), **({"arrays": carried} if carried else {})}


def _is_shaped(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf)


def _describe(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if eqx.is_array(value) or isinstance(value, np.ndarray | np.generic):
        array = _numbers(value)
        return array.tolist() if array.size <= SHORT else _digest(array)
    arrays, rest = eqx.partition(value, eqx.is_array)
    text = ADDRESS.sub("", repr(rest))
    leaves = [_describe(leaf) for leaf in jax.tree.leaves(arrays)]
    return {"is": text, "arrays": leaves} if leaves else text


def _digest(array: np.ndarray) -> str:
    content = np.ascontiguousarray(array)
    return f"{array.dtype}{list(array.shape)} sha256 {hashlib.sha256(content.data).hexdigest()}"


def _numbers(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array)


def _hash(value: Any, digest: Any, names: dict[Any, int] | None = None) -> None:
    """Feeds a traced program, or a parameter of one of its operations, to a digest."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        for constant in value.consts:
            digest.update(_digest(_numbers(constant)).encode())
        _hash(value.jaxpr, digest)
    elif isinstance(value, jax.extend.core.Jaxpr):
        names = {}
        for variable in (*value.constvars, *value.invars):
            _hash(variable, digest, names)
        for equation in value.eqns:
            digest.update(equation.primitive.name.encode())
            for variable in (*equation.invars, *equation.outvars):
                _hash(variable, digest, names)
            _hash(equation.params, digest)
        for variable in value.outvars:
            _hash(variable, digest, names)
    elif isinstance(value, jax.extend.core.Literal):
        digest.update(f"literal {value.aval}".encode())
        _hash(value.val, digest)
    elif isinstance(value, jax.extend.core.Var):
        # Variables are told by the order in which they appear.
        assert names is not None
        digest.update(f"variable {names.setdefault(value, len(names))} {value.aval}".encode())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            digest.update(str(key).encode())
            _hash(value[key], digest)
    elif isinstance(value, tuple | list):
        digest.update(f"sequence {len(value)}".encode())
        for item in value:
            _hash(item, digest)
    elif isinstance(value, jax.Array | np.ndarray | np.generic):
        digest.update(_digest(_numbers(value)).encode())
    elif isinstance(value, set | frozenset):
        digest.update(repr(sorted(map(repr, value))).encode())
    elif callable(value):
        # Rules of differentiation: their program is among the parameters as well.
        digest.update(getattr(value, "__qualname__", type(value).__qualname__).encode())
    else:
        digest.update(ADDRESS.sub("", repr(value)).encode())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
