"""The registry of statements, and the evaluation of those that apply to a flow."""

from collections.abc import Sequence

from ddln._types import Loss
from ddln.flows import Trajectory
from ddln.theory import edge, layers, maps, mirror, rates, training
from ddln.theory._check import Check
from ddln.theory._law import Law

# Every statement that a folder exports, in the order of the folders.
LAWS = tuple(
    value.law
    for folder in (layers, rates, mirror, training, maps, edge)
    for value in vars(folder).values()
    if isinstance(getattr(value, "law", None), Law)
)


def checks(trajectory: Trajectory, loss: Loss, *, laws: Sequence[Law] = LAWS) -> dict[str, Check]:
    """Evaluate every statement that applies to a gradient flow with this parameterization and loss.

    The choice depends on types alone, and so works under `jax.jit` and `jax.vmap`; hypotheses on
    values become the status "hypothesis not met". Rates need a loss that knows its minimum and PL
    constant; for others call them with `mu` and `minimum`. Left out for their cost:
    `pl_rate_along_path` if it needs eigenvalues of a dense metric (`tangent_kernel_rate` is at
    least as sharp), the statements on a potential without closed form, and `bregman_decrease`, of
    which `bregman_rate` is a consequence; `bregman_rate` is evaluated for the minimizer of smallest
    norm, not for the sharpest one.

    Example:
        >>> for check in checks(trajectory, loss).values():
        ...     print(check)

    Args:
        trajectory: a gradient flow.
        loss: the loss it was integrated with.
        laws: the statements to choose from; `[*ddln.theory.LAWS, my_check.law]` adds another.

    Returns:
        the checks by name.

    Raises:
        ValueError: for a descent, and for a flow of another dynamics.
    """
    gradient = trajectory.method.startswith(("reduced, ", "full, ")) and trajectory.record is None
    if not gradient:
        raise ValueError(
            f"Argument `trajectory` must be a gradient flow, but its method is {trajectory.method!r}. "
            "Call the checks that are meant for it: `gap_recursion`, `stochastic_gap`, `momentum_gap`, "
            "`steepest_gap`, `sam_gain`."
        )
    return {
        law.name: law.check(*law.arguments(trajectory, loss))
        for law in laws
        if law.applies(trajectory, loss)
    }
