"""All checks that apply to a trajectory."""

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.losses import AbstractPredictionLoss, LeastSquares
from ddln.parameterizations import AbstractParameterization, DeepDiagonal
from ddln.potentials import potential
from ddln.potentials._separable import AbstractSeparablePotential
from ddln.theory._assumption_a import assumption_a
from ddln.theory._bregman_rate import bregman_rate
from ddln.theory._check import Check
from ddln.theory._conservation import conservation
from ddln.theory._metric_lower_bound import metric_lower_bound
from ddln.theory._mirror_identity import mirror_identity
from ddln.theory._mirror_optimality import mirror_optimality
from ddln.theory._monotone_loss import monotone_loss
from ddln.theory._pl_rate import pl_rate
from ddln.theory._pl_rate_along_path import pl_rate_along_path
from ddln.theory._pl_rate_zero_last import pl_rate_zero_last
from ddln.theory._sign_preservation import sign_preservation
from ddln.theory._squared_layer_rate import squared_layer_rate
from ddln.theory._tangent_kernel_rate import tangent_kernel_rate


def checks(trajectory: Trajectory, loss: Loss) -> dict[str, Check]:
    """Every check that can be asked of a gradient flow with this parameterization and loss.

    Which ones depends on types alone, so it works under `jax.jit` and `jax.vmap`; hypotheses on
    values become the status "hypothesis not met". Rates need a loss that knows its minimum and PL
    constant; for others call them with `mu` and `minimum`. Left out for their cost:
    `pl_rate_along_path` where it needs eigenvalues of a dense metric (`tangent_kernel_rate` is at
    least as sharp), the statements on the potential where it has no closed form, and
    `bregman_decrease`, of which `bregman_rate` is a consequence; `bregman_rate` is asked of the
    minimizer of smallest norm, not of the sharpest one.

    Example:
        >>> for check in checks(trajectory, loss).values():
        ...     print(check)

    Args:
        trajectory: a gradient flow.
        loss: the loss it was integrated with.

    Returns:
        the checks by name.

    Raises:
        ValueError: for a descent, a stochastic or a momentum flow.
    """
    gradient = trajectory.method.startswith(("reduced, ", "full, ")) and trajectory.record is None
    if not gradient:
        raise ValueError(
            f"Argument `trajectory` must be a gradient flow, but its method is {trajectory.method!r}. "
            "Call the checks that are meant for it: `gap_recursion`, `stochastic_gap`, `momentum_gap`."
        )
    deep = isinstance(trajectory.initial, DeepDiagonal)
    squares = isinstance(loss, LeastSquares)
    found = [monotone_loss(trajectory, loss)]
    if deep:
        found += [
            assumption_a(trajectory.initial),
            conservation(trajectory, loss),
            squared_layer_rate(trajectory, loss),
            sign_preservation(trajectory, loss),
            metric_lower_bound(trajectory, loss),
        ]
    if squares:
        found.append(tangent_kernel_rate(trajectory, loss))
    if squares and trajectory.initial.separable:
        found.append(pl_rate_along_path(trajectory, loss))
    if deep and squares:
        found += [pl_rate(trajectory, loss), pl_rate_zero_last(trajectory, loss)]
    if _has_closed_potential(trajectory.initial):
        found.append(mirror_identity(trajectory, loss))
        if isinstance(loss, AbstractPredictionLoss):
            found.append(mirror_optimality(trajectory, loss))
        if squares:
            found.append(bregman_rate(trajectory, loss, loss.minimizer))
    return {check.name: check for check in found}


def _has_closed_potential(parameterization: AbstractParameterization) -> bool:
    return parameterization.separable and isinstance(
        potential(parameterization), AbstractSeparablePotential
    )
