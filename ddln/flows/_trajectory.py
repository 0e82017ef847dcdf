"""The result of a flow of weights."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._card import flow_card
from ddln._plot import figures
from ddln._results import RESULTS
from ddln._types import Array, Float, Int, Loss, PyTree
from ddln.engine import Saved
from ddln.flows.states._base import AbstractStates
from ddln.parameterizations import AbstractParameterization


class Trajectory(eqx.Module):
    """A flow, saved at T times.

    Rows that were not reached (after an event, or when the solve failed) are NaN, and their time is
    inf; with `ts=None` the one row is the last state that was reached, at its time.

    Attributes:
        initial: the parameterization at time 0.
        ts: the saved times, shape [T].
        parameterization: the parameterization at those times; each weight has a leading axis T, so
            use it with `jax.vmap`.
        theta: the effective parameter, shape [T, *theta].
        loss: L(theta), shape [T].
        dual: xi(t) = -integral_0^t grad L(theta(s)) ds, integrated along with the flow and so
            independent of any potential, shape [T, *theta]; None if the flow was asked to leave it out.
        result: a `ddln.RESULTS` code.
        stats: numbers of steps: `num_steps`, `num_accepted_steps`, `num_rejected_steps`.
        method: the coordinates and the solver that were used.
        rtol: the relative tolerance of the solve.
        atol: the absolute tolerance of the solve, after scaling with the initialization.
        record: further integrals and velocities along the way; None for a gradient flow.
    """

    initial: AbstractParameterization
    ts: Float[Array, " T"]
    parameterization: AbstractParameterization
    theta: Float[Array, "T *theta"]
    loss: Float[Array, " T"]
    dual: Float[Array, "T *theta"] | None
    result: RESULTS
    stats: dict[str, Array]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    method: str = eqx.field(static=True)
    space: AbstractStates
    interpolation: diffrax.DenseInterpolation | None = None
    record: PyTree[Array] | None = None

    @property
    def final(self) -> AbstractParameterization:
        """The parameterization at the last saved time."""
        weights, rest = eqx.partition(self.parameterization, eqx.is_inexact_array)
        return eqx.combine(jax.tree.map(lambda leaf: leaf[-1], weights), rest)

    def evaluate(self, t: float | Float[Array, ""]) -> AbstractParameterization:
        """The parameterization at any time between 0 and the end, from the solver's dense output.

        Raises:
            ValueError: if the flow was not integrated with `dense=True`.
        """
        if self.interpolation is None:
            raise ValueError(
                "`Trajectory.evaluate` needs dense output. Pass `dense=True` to the flow."
            )
        return self.space.of_state(self.interpolation.evaluate(t))

    def plot(self, **options: Any) -> Any:
        """Draw the coefficients: the axes of `ddln.plots.coefficient_paths`, which takes the options."""
        return figures().coefficient_paths(self, **options)

    def _repr_html_(self) -> str | None:
        return flow_card(f"Trajectory of a {type(self.initial).__name__}", self)


def weight_trajectory(
    states: Any,
    loss: Loss,
    saved: Saved,
    rows: PyTree[Array],
    duals: PyTree[Array],
    record: PyTree[Array] | None = None,
) -> Trajectory:
    """The trajectory of a flow of weights, from the saved unknowns and duals.

    Args:
        states: the unknowns (`AbstractStates`), with the parameterization that they start from.
        loss: L(theta).
        saved: the integration.
        rows: the saved unknowns.
        duals: the saved duals, or None.
        record: of the trajectory.

    Returns:
        The trajectory, NaN where rows were not reached.
    """
    parameterization = eqx.filter_vmap(states.rebuild)(rows)
    theta = jax.vmap(states.effective)(rows)
    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)
    return Trajectory(
        initial=states.initial,
        ts=saved.times,
        parameterization=eqx.combine(saved.blank(weights), static),
        theta=saved.blank(theta),
        loss=saved.blank(jax.vmap(loss)(theta)),
        dual=saved.blank(duals),
        result=saved.result,
        stats=saved.stats,
        rtol=saved.rtol,
        atol=saved.atol,
        method=saved.method,
        space=states,
        interpolation=saved.interpolation,
        record=record,
    )


def fixed_steps(count: Int[Array, ""]) -> dict[str, Array]:
    """The numbers of steps of a run that rejects none."""
    return {
        "num_steps": count,
        "num_accepted_steps": count,
        "num_rejected_steps": jnp.zeros_like(count),
    }
