"""Digest of a program that JAX traced, equal in every process."""

import hashlib
import re
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def program_digest(program: jax.extend.core.ClosedJaxpr) -> str:
    """SHA-256 of a program's operations, their parameters and its constants."""
    digest = hashlib.sha256()
    _hash(program, digest)
    return digest.hexdigest()


def array_digest(array: np.ndarray) -> str:
    """Dtype, shape and SHA-256 of an array."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{array.dtype}{list(array.shape)} sha256 {hashlib.sha256(content.data).hexdigest()}"


def as_numpy(array: Any) -> np.ndarray:
    """Entries of a concrete array; the data of a random key."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array)


def _hash(value: Any, digest: Any, names: dict[Any, int] | None = None) -> None:
    """Feed a traced program, or a parameter of one of its operations, to a digest."""
    if isinstance(value, jax.extend.core.ClosedJaxpr):
        for constant in value.consts:
            digest.update(array_digest(as_numpy(constant)).encode())
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
        # A variable is numbered by the order in which it appears.
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
        digest.update(array_digest(as_numpy(value)).encode())
    elif isinstance(value, set | frozenset):
        digest.update(repr(sorted(map(repr, value))).encode())
    elif callable(value):
        # The program of a rule of differentiation is among the parameters as well.
        digest.update(getattr(value, "__qualname__", type(value).__qualname__).encode())
    else:
        digest.update(ADDRESS.sub("", repr(value)).encode())
