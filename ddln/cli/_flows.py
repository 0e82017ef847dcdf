"""The flows of one depth, and what is kept of them."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ddln.cli._data import Split
from ddln.cli._options import SweepOptions
from ddln.flows import Trajectory, gradient_flow
from ddln.losses import LeastSquares
from ddln.parameterizations import DeepDiagonal
from ddln.sweeps import (
    Initializations,
    StoredArray,
    SweepResult,
    SweepStore,
    compile_sweep,
    sweep,
)
from ddln.theory import LAWS, Check, checks, pl_rate, tangent_kernel_rate
from ddln.theory.mirror import closed_potential

# Times of a curve in a figure: enough that it looks smooth.
CURVE_TIMES = 500

# Lanes whose theta is in memory at once.
LANES_READ = 1024

# What a check can say, by code.
STATUSES = ("holds", "inconclusive", "hypothesis not met", "violated")


# The statements that need nothing but the flow: a potential would double the program.
CHECKS = tuple(law for law in LAWS if law.needs is not None and closed_potential not in law.needs)


class Settings(NamedTuple):
    scales: np.ndarray
    ts: np.ndarray


def settings(options: SweepOptions) -> Settings:
    """The scales, and the times to save at."""
    return Settings(
        np.geomspace(*options.scales, options.scale_count), _times(options.saves, options.t1)
    )


def _times(count: int, t1: float) -> np.ndarray:
    # Gradients are of order one: nothing happens before a thousandth of a time unit at scale one.
    ts = np.concatenate([[0.0], np.geomspace(min(1e-3, t1 / 1e3), t1, count - 1)])
    ts[-1] = t1
    return ts


def loss_of(split: Split, options: SweepOptions) -> LeastSquares:
    return LeastSquares(
        jnp.asarray(split.X, options.precision), jnp.asarray(split.y, options.precision)
    )


class Starts(eqx.Module):
    """The initialization of a flow by its index: every initialization at every scale.

    The first one is u^L = 0 and u^j = scale (Yun et al. 2021), which is the same for everyone; the
    others are normal with standard deviation `scale`.
    """

    key: Any
    scales: Any
    depth: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __call__(self, index) -> DeepDiagonal:
        which, scale = jnp.divmod(index, len(self.scales))
        key = jax.random.fold_in(jax.random.fold_in(self.key, self.depth), which)
        dtype = self.scales.dtype
        normal = jax.random.normal(key, (self.depth, self.dim), dtype)
        zero_last = DeepDiagonal.zero_last(jnp.ones(self.dim, dtype), self.depth).layers
        return DeepDiagonal(self.scales[scale] * jnp.where(which == 0, zero_last, normal))


def starts(split: Split, depth: int, options: SweepOptions) -> Starts:
    scales = jnp.asarray(settings(options).scales, options.precision)
    return Starts(jax.random.key(options.seed), scales, depth, split.X.shape[1])


class Observe(eqx.Module):
    """Keeps theta, and what each check says."""

    loss: LeastSquares

    def __call__(self, flow: Trajectory):
        return {"theta": flow.theta, "check": _codes(flow, self.loss)}


def _codes(flow: Trajectory, loss: LeastSquares):
    def code(check):
        verdict = jnp.where(check.holds, 0, 1)
        code = jnp.where(~check.applies, 2, jnp.where(check.violated, 3, verdict))
        return code.astype(jnp.int8)

    return {name: code(check) for name, check in checks(flow, loss, laws=CHECKS).items()}


@dataclass(frozen=True)
class Outcome:
    """The flows of one depth: lanes in the order (initialization, scale).

    Attributes:
        depth: the number of layers.
        result: the flows.
    """

    depth: int
    result: SweepResult

    @property
    def theta(self) -> StoredArray:
        return self.result.values["theta"]

    @property
    def statuses(self) -> dict[str, StoredArray]:
        return self.result.values["check"]

    def of_each(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A function of theta [lanes, T, d] for all lanes, some at a time: they stay in the store."""
        count = len(self.theta)
        parts = [
            function(self.theta[start : start + LANES_READ])
            for start in range(0, count, LANES_READ)
        ]
        return np.concatenate(parts)


def store_of(url: str, split: Split, options: SweepOptions) -> SweepStore:
    """Where the results of a run go: depth, initialization, scale, time saved, coordinate."""
    labels = {
        "depth": options.depths,
        "initialization": np.arange(options.initializations),
        "scale": settings(options).scales,
    }
    attrs = {
        "data": split.name,
        "features": list(split.feature_names),
        "seed": options.seed,
        "codes of checks": ", ".join(f"{i}: {name}" for i, name in enumerate(STATUSES)),
    }
    return SweepStore(url, ("depth", "initialization", "scale"), labels, attrs)


def one_depth(
    split: Split,
    depth: int,
    options: SweepOptions,
    store: SweepStore,
    executor: Executor | None,
    report: Callable[[int, int, int], None],
) -> Outcome:
    """Integrates all flows of one depth, but for those that the store has."""
    result = sweep(
        *_lanes(split, depth, options),
        **_settings_of(split, options),
        store=store.at(depth=depth),
        executor=executor,
        progress=report,
    )
    return Outcome(depth, result)


def compile_depth(split: Split, depth: int, options: SweepOptions, store: SweepStore) -> None:
    """Compiles what `one_depth` runs."""
    lanes, settings = _lanes(split, depth, options), _settings_of(split, options)
    compile_sweep(*lanes, **settings, store=store.at(depth=depth))


def _lanes(split: Split, depth: int, options: SweepOptions):
    count = options.initializations * options.scale_count
    lanes = Initializations(starts(split, depth, options), count)
    return lanes, loss_of(split, options), options.t1


def _settings_of(split: Split, options: SweepOptions) -> dict[str, Any]:
    return {
        "ts": settings(options).ts.astype(options.precision),
        "rtol": options.rtol,
        "atol": options.atol,
        "max_steps": options.max_steps,
        "observe": Observe(loss_of(split, options)),
        "chunk_size": options.chunk_size,
    }


class Examples(NamedTuple):
    """A few lanes of one depth for the figures: the arguments of `_examples`."""

    starts: Starts
    lanes: Any
    loss: LeastSquares
    ts: Any
    t1: float
    tolerances: tuple[float, float]
    max_steps: int

    def compile(self) -> None:
        _examples.lower(*self).compile()

    def flows(self) -> tuple[Trajectory, dict[str, Any]]:
        """Whole trajectories, and bounds of their loss by name."""
        return _examples(*self)


def examples(split: Split, options: SweepOptions) -> Examples:
    """Three flows of the middle depth, at the smallest, the middle and the largest scale.

    From a random start where there is one: there layers cross zero.
    """
    first = options.scale_count * min(1, options.initializations - 1)
    lanes = first + np.array([0, options.scale_count // 2, options.scale_count - 1])
    return Examples(
        starts(split, options.depths[len(options.depths) // 2], options),
        jnp.asarray(lanes),
        loss_of(split, options),
        jnp.asarray(_times(CURVE_TIMES, options.t1), options.precision),
        options.t1,
        (options.rtol, options.atol),
        options.max_steps,
    )


# One program: operation by operation it takes several times longer to compile.
@eqx.filter_jit
def _examples(starts, lanes, loss, ts, t1, tolerances, max_steps):
    def run(lane):
        flow = gradient_flow(
            starts(lane),
            loss,
            t1,
            ts=ts,
            rtol=tolerances[0],
            atol=tolerances[1],
            max_steps=max_steps,
            # Nothing is differentiated, and without checkpoints there is less to compile.
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )
        bounds = {"Theorem 2": pl_rate, "along the path": tangent_kernel_rate}
        return flow, {name: bound(flow, loss).rhs for name, bound in bounds.items()}

    return eqx.filter_vmap(run)(lanes)


def described_checks(split: Split, options: SweepOptions) -> dict[str, Check]:
    """The checks without values, for their names, statements and sources."""
    example = examples(split, options)

    def first():
        flow = gradient_flow(example.starts(jnp.zeros((), int)), example.loss, 1.0, throw=False)
        return checks(flow, example.loss, laws=CHECKS)

    return eqx.filter_eval_shape(first)
