"""Sweeps inside of a JAX transformation: one program, which can be differentiated."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import is_okay
from ddln._types import PyTree
from ddln._validation import is_known
from ddln.engine.internal import forbid_reverse, with_zeros
from ddln.sweeps._flow_lanes import FlowLanes
from ddln.sweeps._lanes import AbstractLanes, Lane
from ddln.sweeps._limits import LimitLanes
from ddln.sweeps._result import SweepResult


def is_traced(*parts: Any) -> bool:
    """Test whether a sweep of these is a part of a program that is being traced or differentiated."""
    # Under `jax.jit` everything is traced, under `jax.grad` and `jax.vmap` what depends on their input.
    return not all(map(is_known, (jnp.zeros(()), *_leaves(parts, set()))))


def _leaves(tree: Any, seen: set[int]) -> Iterator[Any]:
    """All leaves, and those that functions among them close over."""
    for leaf in jax.tree.leaves(tree):
        inner = inspect.unwrap(leaf) if callable(leaf) else leaf
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        if isinstance(inner, functools.partial):
            yield from _leaves((inner.func, inner.args, inner.keywords), seen)
        elif inspect.ismethod(inner):
            yield from _leaves((inner.__func__, inner.__self__), seen)
        elif inspect.isfunction(inner):
            yield from _leaves(inspect.getclosurevars(inner).nonlocals, seen)
        else:
            yield inner


def traced(
    lanes: AbstractLanes, width: int, adjoint: diffrax.AbstractAdjoint | None, throw: bool
) -> SweepResult:
    """All lanes, chunk by chunk, compiled once; a function that closes over traced values is traced anew."""
    hidden = _leaves(eqx.filter(lanes, eqx.is_array, inverse=True), set())
    known = is_known(jnp.zeros(())) and all(map(is_known, hidden))
    return (_compiled if known else _traced)(lanes, width, adjoint, throw)


def _traced(
    lanes: AbstractLanes, width: int, adjoint: diffrax.AbstractAdjoint | None, throw: bool
) -> SweepResult:
    """All lanes, chunk by chunk. In reverse mode several chunks are taken again, one by one."""
    size, width = lanes.size, min(width, lanes.size)
    rows, reversible = lanes.rows(), lanes.of_rows
    if isinstance(lanes, FlowLanes) and not isinstance(adjoint, diffrax.ForwardMode):
        needed = lanes.record_bytes() if adjoint is None else None
        if needed is None:
            reversible = functools.partial(_taken_again, lanes, adjoint)
        else:
            width = min(width, max(1, lanes.widths.record_bytes // needed))
            reversible = lanes.of_rows_recorded
    if width == size:
        found = reversible(rows)
    else:
        # The last chunk is filled up with the last lane: all have one shape.
        whole = jnp.minimum(jnp.arange(size + -size % width), size - 1).reshape(-1, width)
        chunks = jax.tree.map(lambda leaf: leaf[whole], rows)
        # The implicit derivative of limits keeps little: to find them again would cost more.
        if not isinstance(lanes, LimitLanes):
            reversible = eqx.filter_checkpoint(reversible, prevent_cse=False)
        _, found = jax.lax.scan(lambda carry, rows: (carry, reversible(rows)), None, chunks)
        found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:size], found)
    if isinstance(lanes, FlowLanes):
        found = forbid_reverse(adjoint, lanes.stepper.solve.solver, found)
    result = SweepResult.of(found)
    if throw:
        result = result.result.error_if(result, ~is_okay(result.result))
    return result


_compiled = eqx.filter_jit(_traced)


def _taken_again(lanes: FlowLanes, adjoint: diffrax.AbstractAdjoint | None, rows: PyTree) -> Lane:
    """The lanes through the queue; in reverse mode all at once by this adjoint."""
    vmapped = functools.partial(lanes.vmapped, adjoint)
    functions = (eqx.filter_closure_convert(f, rows) for f in (lanes.of_rows, vmapped))
    return _reversible((rows, *functions))


@eqx.filter_custom_vjp
def _reversible(argument: tuple[PyTree, Callable, Callable]) -> Lane:
    """A chunk through the queue, whose lanes never wait; in reverse mode it is taken again."""
    rows, by_queue, _ = argument
    return by_queue(rows)


@_reversible.def_fwd
def _reversible_forward(perturbed, argument):
    return _reversible(argument), None


@_reversible.def_bwd
def _reversible_backward(residuals, cotangents, perturbed, argument):
    rows, by_queue, vmapped = argument

    def again(arguments):
        rows, vmapped = arguments
        return eqx.filter(vmapped(rows), eqx.is_inexact_array)

    found, pull_back = eqx.filter_vjp(again, (rows, vmapped))
    cotangents = with_zeros(eqx.filter(cotangents, eqx.is_inexact_array), found)
    ((rows, vmapped),) = pull_back(cotangents)
    return rows, jax.tree.map(lambda _: None, by_queue), vmapped
