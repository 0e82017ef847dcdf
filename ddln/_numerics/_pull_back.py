"""The effective parameter as a function of the weights, and its transposed Jacobian."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from ddln._types import PyTree, Theta


def as_function(parameterization: Any) -> tuple[Callable[[PyTree], Theta], PyTree]:
    """The map h from a tree of weights to theta, and the weights of the parameterization.

    `jax.vjp(*as_function(parameterization))` is theta and the map g -> J^T g. Leaves that are not
    weights are None in the tree.
    """
    # Any module with `effective`, as `AbstractParameterization` imports this folder.
    weights, rest = eqx.partition(parameterization, eqx.is_inexact_array)
    return lambda w: eqx.combine(w, rest).effective(), weights


def pull_back(parameterization: Any, direction: Theta) -> PyTree:
    """J^T direction, with J the Jacobian of the parameterization, as a tree of weights."""
    return jax.vjp(*as_function(parameterization))[1](direction)[0]
