"""What statements about deep diagonal networks ask of their arguments."""

from ddln.parameterizations import AbstractParameterization, DeepDiagonal


def deep_diagonal(parameterization: AbstractParameterization) -> DeepDiagonal:
    """The parameterization, known to be a deep diagonal network.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(parameterization, DeepDiagonal):
        raise ValueError(
            "Argument `parameterization` (or the trajectory's) must be a `ddln.DeepDiagonal`, "
            f"but it is a {type(parameterization).__name__}. "
            "`ddln.theory.checks` picks the checks that apply."
        )
    return parameterization
