"""How a flow is set up, and what it returns: common to the flows of weights."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from ddln._results import RESULTS
from ddln._types import Array, Bool, Float, Loss, PyTree, Theta
from ddln._validation import require_option
from ddln.flows._state import AbstractStateSpace, FullSpace, ReducedSpace, loss_gradient
from ddln.flows._trajectory import Trajectory
from ddln.losses import AbstractPredictionLoss
from ddln.parameterizations import AbstractParameterization
from ddln.solvers import RKC, Rodas5P, SeparableDualField

# A dense Jacobian is factorized once per step; beyond this many unknowns an explicit solver is chosen.
DENSE_JACOBIAN_LIMIT = 200
# A structured one needs a matrix of min(n, d) rows; beyond this many `RKC` is chosen, which needs none.
# It is of lower order, and faster from 300 rows on for mild starts; for stiff ones (benchmarks,
# "matrix-free") it is not up to 800.
FACTORIZATION_LIMIT = 1000
STATS = ("num_steps", "num_accepted_steps", "num_rejected_steps")


def choose_solver(
    space: AbstractStateSpace, loss: Loss, solver: diffrax.AbstractSolver | None, *, reverse: bool
) -> tuple[diffrax.AbstractSolver, str]:
    """The solver that None stands for, and the name of the method."""
    if solver is None:
        unknowns = sum(leaf.size for leaf in jax.tree.leaves(space.start()))
        if isinstance(space, ReducedSpace) and isinstance(loss, AbstractPredictionLoss):
            matrix_free = min(loss.design.shape) > FACTORIZATION_LIMIT
            solver = RKC(reverse=reverse) if matrix_free else Rodas5P()
        elif unknowns + space.initial.effective().size <= DENSE_JACOBIAN_LIMIT:
            solver = Rodas5P()
        else:
            solver = diffrax.Tsit5()
    return solver, f"{type(space).__name__.removesuffix('Space').lower()}, {type(solver).__name__}"


def state_space(
    parameterization: AbstractParameterization,
    coordinates: str,
    weight_decay: Float[Array, ""] | None = None,
) -> AbstractStateSpace:
    """The state space that `coordinates` names.

    Raises:
        ValueError: if reduced coordinates are asked for and there are none.
    """
    require_option("coordinates", coordinates, ("auto", "reduced", "full"))
    reducible = coordinates != "full" and weight_decay is None
    reduced = parameterization.reduced() if reducible else None
    if reduced is not None:
        return ReducedSpace(parameterization, reduced)
    if coordinates == "reduced":
        reason = "which has no reduced coordinates" if reducible else "with weight decay"
        raise ValueError(
            f"Argument `coordinates` must be 'full' or 'auto' for {type(parameterization).__name__}, "
            f"{reason}, but it is 'reduced'."
        )
    return FullSpace(parameterization, weight_decay)


class Lane(eqx.Module):
    """A flow ready to start.

    One that cannot start runs on zeros, for no time: it cannot disturb its neighbours.
    """

    state: PyTree[Array]
    end: Float[Array, ""]
    atol: Float[Array, ""]
    startable: Bool[Array, ""]
    refusal: RESULTS

    def outcome(self, result: diffrax.RESULTS) -> RESULTS:
        return RESULTS.where(self.startable, RESULTS.promote(result), self.refusal)


def prepare(space: AbstractStateSpace, loss: Loss, t1: Array, atol: Array, *, dual: bool) -> Lane:
    """The state at time 0, with its dual or None for it, and what becomes of the tolerance."""
    unknowns = space.start()
    theta0 = space.effective(unknowns)
    largest = _largest(space.initial)
    startable, refusal = _startable(space.initial, theta0, largest, loss)
    state = (unknowns, jnp.zeros_like(theta0) if dual else None)
    return Lane(
        state=jax.tree.map(lambda leaf: jnp.where(startable, leaf, 0), state),
        end=jnp.where(startable, t1, 0),
        atol=atol * jnp.where(largest > 0, jnp.minimum(largest, 1), 1),
        startable=startable,
        refusal=refusal,
    )


def term(space: AbstractStateSpace, loss: Loss) -> diffrax.ODETerm:
    """The vector field of the state with its dual."""
    if isinstance(space, ReducedSpace) and isinstance(loss, AbstractPredictionLoss):
        return diffrax.ODETerm(SeparableDualField(space.coordinates, loss))
    return diffrax.ODETerm(_Field(space, loss))


def trajectory(
    space: AbstractStateSpace,
    loss: Loss,
    times: Float[Array, " T"],
    states: PyTree[Array],
    *,
    last: Float[Array, ""],
    startable: Bool[Array, ""],
    stats: dict[str, Any],
    **rest: Any,
) -> Trajectory:
    """Rebuilds the weights from the saved states and blanks the rows that were not reached."""
    reached = startable & (times <= last)
    rows, duals = states
    # Rows to be blanked are rebuilt from the start, so that no NaN enters a derivative.
    rows = jax.tree.map(
        lambda leaf, first: jnp.where(_align(reached, leaf), leaf, first[None]), rows, space.start()
    )
    parameterization = eqx.filter_vmap(space.rebuild)(rows)
    theta = jax.vmap(space.effective)(rows)
    values = jax.vmap(loss)(theta)

    def blank(leaf):
        return jnp.where(_align(reached, leaf), leaf, jnp.nan)

    weights, static = eqx.partition(parameterization, eqx.is_inexact_array)
    return Trajectory(
        initial=space.initial,
        ts=jnp.where(reached, times, jnp.inf),
        parameterization=eqx.combine(jax.tree.map(blank, weights), static),
        theta=blank(theta),
        loss=blank(values),
        dual=None if duals is None else blank(duals),
        stats={key: jnp.asarray(stats[key]) for key in STATS},
        space=space,
        **rest,
    )


class _Field(eqx.Module):
    """The vector field of the state (unknowns, dual)."""

    space: AbstractStateSpace
    loss: Loss

    def __call__(self, t, y, args):
        state, dual = y
        velocity, slope = self.space.velocity(state, self.loss)
        return velocity, None if dual is None else slope


def _align(mask: Bool[Array, " T"], leaf: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - 1))


def _largest(parameterization: AbstractParameterization) -> Float[Array, ""]:
    weights = jax.tree.leaves(eqx.filter(parameterization, eqx.is_inexact_array))
    return jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in weights]).max()


def _startable(
    initial: AbstractParameterization, theta: Theta, largest: Array, loss: Loss
) -> tuple[Bool[Array, ""], RESULTS]:
    """Whether a flow can start, and the code if it cannot."""
    finite_weights = jnp.isfinite(largest)
    value, slope = loss(theta), loss_gradient(loss, theta)
    finite_loss = jnp.isfinite(value) & jnp.all(jnp.isfinite(slope))
    movable = ~_underflows(initial, largest)
    refusal = RESULTS.where(
        movable, RESULTS.nonfinite_initial_loss, RESULTS.underflowing_initialization
    )
    refusal = RESULTS.where(finite_weights, refusal, RESULTS.nonfinite_initialization)
    return finite_weights & finite_loss & movable, refusal


def _underflows(initial: AbstractParameterization, largest: Array) -> Bool[Array, ""]:
    """Whether the metric is zero where that of the weights divided by the largest is not."""
    if not initial.separable or initial.homogeneity is None:
        return jnp.asarray(False)
    unit = jax.tree.map(
        lambda leaf: (
            leaf / jnp.where(largest > 0, largest, 1) if eqx.is_inexact_array(leaf) else leaf
        ),
        initial,
    )
    smallest = float(jnp.finfo(largest.dtype).tiny)
    # M(s w) = s^(2 L - 2) M(w).
    metric = unit.metric_diagonal()
    vanishes = metric * largest ** (2 * initial.homogeneity - 2) < smallest
    return jnp.any(vanishes & (metric > float(jnp.finfo(largest.dtype).eps)))
