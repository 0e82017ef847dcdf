"""A search of programs for matrix products below the precision of their dtype."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.extend

FULL = (jax.lax.Precision.HIGHEST,) * 2


def rounded_products(function, *arguments) -> list[str]:
    """The places in the code, as "folder/_file.py:line", with a product of floats below full precision.

    On a GPU or TPU such a product rounds float32 factors. The search enters `jit`, loops, branches and
    custom rules.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    return sorted({_place(one) for one in _equations(closed.jaxpr) if _is_rounded(one)})


def _is_rounded(equation) -> bool:
    if equation.primitive.name not in ("dot_general", "ragged_dot", "conv_general_dilated"):
        return False
    floats = all(jax.numpy.issubdtype(x.aval.dtype, jax.numpy.inexact) for x in equation.invars[:2])
    return floats and equation.params["precision"] != FULL


def _equations(jaxpr: jax.extend.core.Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in inner_programs(equation):
            yield from _equations(inner)


def inner_programs(equation) -> Iterator[jax.extend.core.Jaxpr]:
    """The programs in the parameters of an equation: of `jit`, loops, branches and custom rules."""
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
        if _is_jaxpr(inner):
            yield getattr(inner, "jaxpr", inner)


def _is_jaxpr(value) -> bool:
    return isinstance(value, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)


def _place(equation) -> str:
    """The innermost line outside of installed packages, or the innermost one of all."""
    frames = [(frame.file_name, frame.line_num) for frame in equation.source_info.traceback.frames]
    outside = [frame for frame in frames if "site-packages" not in frame[0]] or frames
    name, line = outside[0]
    return f"{'/'.join(name.split('/')[-2:])}:{line}"
