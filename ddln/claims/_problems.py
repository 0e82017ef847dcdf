"""The random problems and flows that claims share: each is computed once per settings."""

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._types import PRNGKeyArray
from ddln.claims._claim import Settings
from ddln.flows import Trajectory, gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal

# Fewer samples than coordinates, so that solutions are many and X theta = y is solvable.
SAMPLES, DIM = 6, 10
T1, TIMES = 10.0, 65
RTOL, ATOL = 1e-9, 1e-12


def keys(settings: Settings, name: str) -> PRNGKeyArray:
    """A random key for each problem, independent of those of every other name."""
    root = jax.random.fold_in(jax.random.key(settings.seed), zlib.crc32(name.encode()))
    return jax.random.split(root, settings.problems)


def each(function: Callable, *batches: Any) -> Any:
    """A function of one problem, for all of them: trees whose arrays have a leading axis."""
    return eqx.filter_jit(eqx.filter_vmap(function))(*batches)


@cache
def losses(settings: Settings) -> LeastSquares:
    """|X theta - y|^2 / 2 with X [6, 10] standard normal / sqrt(6) and y standard normal."""

    def one(key):
        key_x, key_y = jax.random.split(key)
        X = jax.random.normal(key_x, (SAMPLES, DIM)) / SAMPLES**0.5
        return LeastSquares(X, jax.random.normal(key_y, (SAMPLES,)))

    return each(one, keys(settings, "losses"))


@cache
def networks(settings: Settings, depth: int) -> DeepDiagonal:
    """Standard normal layers: Assumption A holds almost surely."""
    return each(
        lambda key: DeepDiagonal.random(key, depth, DIM), keys(settings, f"networks {depth}")
    )


@cache
def flows(settings: Settings, depth: int) -> Trajectory:
    """The flow of the layers themselves, not of the reduced coordinates, at 65 times in [0, 10]."""
    return each(flow_of_layers, networks(settings, depth), losses(settings))


def flow_of_layers(network: DeepDiagonal, loss: LeastSquares) -> Trajectory:
    """One such flow."""
    return gradient_flow(
        network,
        loss,
        T1,
        ts=jnp.linspace(0.0, T1, TIMES),
        coordinates="full",
        rtol=RTOL,
        atol=ATOL,
        # Nothing is differentiated, and without checkpoints there is less to compile.
        adjoint=diffrax.ForwardMode(),
        throw=False,
    )
