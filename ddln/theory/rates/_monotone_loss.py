"""The monotone decrease of the loss."""

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory._decrease import decrease
from ddln.theory._errors import loss_error, rounding
from ddln.theory._law import Sides, law
from ddln.theory._rows import fill_unreached


@law(
    source="the chain rule; Labarrière et al. 2024, section 2.2",
    relation="<=",
    axes=("time",),
    needs=(),
)
def monotone_loss(trajectory: Trajectory, loss: Loss) -> Sides:
    """The loss never increases: L(theta(t_k)) <= L(theta(t_{k-1})).

    Holds for every parameterization and every loss, since d/dt L = -|J^T grad L|^2. Each saved time
    is compared with the one before it, the first with the start. Times after which the loss changes
    by less than its numerical error, to the next time and to the end, are not compared: the flow
    has converged.

    Args:
        trajectory: a gradient flow.
        loss: the loss it was integrated with.

    Returns:
        a check with axes (time,), shape [T].
    """
    rows = fill_unreached(trajectory)
    first = loss(trajectory.initial.effective())[None]
    error = loss_error(trajectory, rows, loss)
    return decrease(first, rows.loss, rounding(first), error, rows.reached)
