"""The initializations of a sweep, the checks along its flows, and example flows for the figures."""

from functools import cache
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._numerics import product
from ddln._results import is_okay
from ddln.flows import Trajectory, gradient_flow
from ddln.limits import limit
from ddln.losses import LeastSquares
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.theory import LAWS, Check, checks, pl_rate, tangent_kernel_rate
from ddln.theory.mirror import closed_potential

# The outcomes of a check, by code.
STATUSES = ("holds", "inconclusive", "hypothesis not met", "violated")

# The statements that need nothing but the flow: a potential would double the program.
CHECKS = tuple(law for law in LAWS if law.needs is not None and closed_potential not in law.needs)


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


class Observe(eqx.Module):
    """The values of a flow that are kept, by the names of `--observe`.

    Attributes:
        loss: the training loss.
        held_out: inputs and targets of the held-out data, if errors are kept.
        kept: names of what is kept.
    """

    loss: LeastSquares
    held_out: tuple[Any, Any] | None = None
    kept: tuple[str, ...] = eqx.field(static=True, default=("theta", "checks"))

    def __call__(self, flow: Trajectory):
        found = cache(lambda: checks(flow, self.loss, laws=CHECKS))
        values: dict[str, Any] = {
            "theta": lambda: {"theta": flow.theta},
            "ends": lambda: {"end": flow.theta[-1]},
            "norms": lambda: {"norms": _norms(flow.theta)},
            "errors": lambda: {"held_out": self._errors(flow.theta)},
            "checks": lambda: {"check": {name: _code(one) for name, one in found().items()}},
            "margins": lambda: {"margin": {name: _margin(one) for name, one in found().items()}},
            "limits": lambda: {"limit": _limit(flow.initial, self.loss)},
        }
        return {name: value for key in self.kept for name, value in values[key]().items()}

    def _errors(self, theta):
        assert self.held_out is not None
        inputs, targets = self.held_out
        residual = product(theta, inputs.T) - targets[None, :]
        return jnp.mean(jnp.square(residual), axis=-1) / jnp.mean(jnp.square(targets))


def _norms(theta):
    return {
        "l1": jnp.sum(jnp.abs(theta), axis=-1),
        "l2": jnp.sqrt(jnp.sum(jnp.square(theta), axis=-1)),
    }


def _code(check: Check):
    verdict = jnp.where(check.holds, 0, 1)
    code = jnp.where(~check.applies, 2, jnp.where(check.violated, 3, verdict))
    return code.astype(jnp.int8)


def _margin(check: Check):
    """The least margin of a check: 1 far from its limit, 0 at it, negative beyond; NaN if there is none.

    Of an inequality the difference of its sides over their sizes, of an equality what is left of its
    numerical error.
    """
    if check.relation == "==":
        margin = 1 + check.margin / check.tolerance
    else:
        margin = check.margin / (jnp.abs(check.lhs) + jnp.abs(check.rhs) + check.tolerance)
    least = jnp.min(jnp.where(check.compared, margin, jnp.inf))
    return jnp.where(check.applies & jnp.isfinite(least), least, jnp.nan)


def _limit(start: AbstractParameterization, loss: LeastSquares):
    """Theta at t = infinity, without integration; NaN where it was not found."""
    end = limit(start, loss, throw=False)
    return jnp.where(is_okay(end.result), end.theta, jnp.nan)


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
        """Compile the program of `flows`."""
        _examples.lower(*self).compile()

    def flows(self) -> tuple[Trajectory, dict[str, Any]]:
        """Whole trajectories, and bounds of their loss by name."""
        return _examples(*self)

    def described_checks(self) -> dict[str, Check]:
        """The checks without values, for their names, statements and sources."""

        def first():
            flow = gradient_flow(self.starts(jnp.zeros((), int)), self.loss, 1.0, throw=False)
            return checks(flow, self.loss, laws=CHECKS)

        return eqx.filter_eval_shape(first)


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
