"""Validation of `adjoint`, and an informative error for the unsupported mode."""

from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ddln.solvers import RKC

T = TypeVar("T")

FORWARD = (
    "Argument `adjoint` must be `diffrax.ForwardMode()` to differentiate in forward mode (`jax.jvp`, "
    "`jax.jacfwd`), but it is {}. The default, None, is for reverse mode and for forward mode over it."
)
REVERSE = (
    "Argument `adjoint` must be None to differentiate in reverse mode (`jax.grad`, `jax.vjp`), but it is "
    "`diffrax.ForwardMode()`."
)
STAGES = (
    "Argument `solver` must be `ddln.RKC(reverse={})` to differentiate in {} mode, but it is {}."
)


def check_adjoint(adjoint: Any) -> None:
    """Raises unless a flow can be differentiated by it."""
    known = (diffrax.RecursiveCheckpointAdjoint, diffrax.DirectAdjoint, diffrax.ForwardMode)
    if adjoint is not None and not isinstance(adjoint, known):
        raise ValueError(
            "Argument `adjoint` must be None (reverse mode), `diffrax.ForwardMode()`, "
            "`diffrax.RecursiveCheckpointAdjoint()` or `diffrax.DirectAdjoint()`, but it is "
            f"{adjoint!r}. Others see no derivative in the start, the loss and the times together."
        )


def forbid_forward(adjoint: Any, solver: Any, tree: T) -> T:
    """The inputs of a flow; forward mode through them is an error if the flow has reverse mode alone."""
    if not isinstance(adjoint, diffrax.ForwardMode | diffrax.DirectAdjoint):
        return _guarded(tree, "forward", FORWARD.format(adjoint))
    if isinstance(solver, RKC) and solver.reverse:
        return _guarded(tree, "forward", STAGES.format(False, "forward", solver))
    return tree


def forbid_reverse(adjoint: Any, solver: Any, tree: T) -> T:
    """The outputs of a flow; reverse mode through them is an error if the flow has forward mode alone."""
    if isinstance(adjoint, diffrax.ForwardMode):
        return _guarded(tree, "reverse", REVERSE)
    if isinstance(solver, RKC) and not solver.reverse:
        return _guarded(tree, "reverse", STAGES.format(True, "reverse", solver))
    return tree


def _guarded(tree: Any, mode: str, message: str) -> Any:
    return jax.tree.map(
        lambda leaf: (
            guard_p.bind(leaf, mode=mode, message=message) if eqx.is_inexact_array(leaf) else leaf
        ),
        tree,
    )


# `guard_p` is the identity. `tangent_p`, the identity of its tangents, can only be lowered, or only be
# transposed: a custom rule of JAX does not distinguish the modes.
guard_p, tangent_p = Primitive("guard"), Primitive("guard_tangent")


def _jvp(primals, tangents, *, mode, message):
    (primal,), (tangent,) = primals, tangents
    if not isinstance(tangent, ad.Zero):
        tangent = tangent_p.bind(tangent, mode=mode, message=message)
    return primal, tangent


def _tangent_jvp(primals, tangents, **params):
    (tangent,) = tangents
    if not isinstance(tangent, ad.Zero):
        tangent = tangent_p.bind(tangent, **params)
    return tangent_p.bind(*primals, **params), tangent


def _transpose(cotangent, _, *, mode, message):
    if mode == "reverse" and not isinstance(cotangent, ad.Zero):
        raise ValueError(message)
    return [cotangent]


def _evaluated(x, *, mode, message):
    if mode == "forward":
        raise ValueError(message)
    return x


def _batch(primitive):
    return lambda args, axes, **params: (primitive.bind(*args, **params), axes[0])


for primitive, evaluate in ((guard_p, lambda x, **_: x), (tangent_p, _evaluated)):
    primitive.def_impl(evaluate)
    primitive.def_abstract_eval(lambda x, **_: x)
    batching.primitive_batchers[primitive] = _batch(primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(evaluate, multiple_results=False))
ad.primitive_jvps[guard_p] = _jvp
ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_transposes[tangent_p] = _transpose
