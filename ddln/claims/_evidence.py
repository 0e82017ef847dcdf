"""The evidence of a check: numbers against thresholds, and the verdicts that follow."""

import dataclasses
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ddln.theory import Check

RELATIONS = {"<=": np.less_equal, ">=": np.greater_equal, ">": np.greater, "<": np.less}
# The verdicts, those that outweigh others first.
VERDICTS = ("violated", "inconclusive", "hypothesis not met", "holds")
# The case of a claim that is expected to hold.
STATED = "as stated"


@dataclasses.dataclass(frozen=True)
class Number:
    """One measured value against the threshold that decides.

    Args:
        what: the measured quantity; words with LaTeX between dollar signs.
        value: the worst value over all problems.
        relation: "<=", ">=", "<" or ">".
        threshold: the form it belongs to holds if `value relation threshold`.
        case: the form of the claim that it belongs to, a key of `Claim.cases`.
        verdict: "holds", "violated", "inconclusive" or "hypothesis not met".
        published: the number of the source, if `value` is the distance from one.
        ours: the number that was computed instead.
    """

    what: str
    value: float
    relation: str
    threshold: float
    case: str
    verdict: str
    published: float | None = None
    ours: float | None = None

    @property
    def share(self) -> float | None:
        """The used part of the threshold: 1 is the limit; None if there is no scale."""
        if self.relation in ("<=", "<"):
            return self.value / self.threshold if self.threshold > 0 else None
        return self.threshold / self.value if self.value > 0 and self.threshold > 0 else None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The result of a check.

    Args:
        numbers: at least one for each case of the claim.
        remark: a further remark; words with LaTeX between dollar signs.
        figure: a figure to show.
        caption: a description of the figure, also for readers who cannot see it; required with one.
    """

    numbers: tuple[Number, ...]
    remark: str = ""
    figure: Figure | None = None
    caption: str = ""

    def __post_init__(self):
        if (self.figure is None) != (not self.caption):
            raise ValueError("Argument `caption` must be given with a figure, and only then.")

    def verdict(self, case: str) -> str:
        """The verdict on one form of the claim: that of its worst number, so never without one."""
        found = {number.verdict for number in self.numbers if number.case == case}
        return next((verdict for verdict in VERDICTS if verdict in found), "inconclusive")


def measured(
    what: str, value: Any, relation: str, threshold: float | int, *, case: str = STATED
) -> Number:
    """A number: the worst of the values, over all problems, against a threshold.

    Example:
        >>> measured("largest error", np.array([1e-12, 3e-12]), "<=", 1e-9)

    Args:
        what: the measured quantity.
        value: a number or an array of any shape, of which the worst entry is taken: the largest for
            "<=" and "<", else the smallest. A NaN makes the number inconclusive.
        relation: "<=", ">=", "<" or ">".
        threshold: the limit.
        case: the form of the claim that it belongs to.
    """
    values = np.asarray(value, float)
    worst = float(values.max() if relation in ("<=", "<") else values.min())
    holds = bool(RELATIONS[relation](worst, threshold))
    verdict = "inconclusive" if np.isnan(worst) else "holds" if holds else "violated"
    return Number(what, worst, relation, float(threshold), case, verdict)


def compared(
    what: str, ours: Any, published: Any, tolerance: float | None = None, *, case: str = STATED
) -> Number:
    """A number: the distance of ours from the published one, at most the published precision.

    Example:
        >>> compared("$R_F(1, 2, 0)$", 1.31102877714606, "1.3110287771461").verdict
        'holds'

    Args:
        what: the compared quantity.
        ours: a number or an array of any shape, of which the worst entry is taken.
        published: the number of the source, or an array of that shape. Digits in a text set the tolerance:
            half a unit of the last one.
        tolerance: the largest distance; required unless `published` is a text.
        case: the form of the claim that it belongs to.

    Raises:
        ValueError: if there is no tolerance.
    """
    if isinstance(published, str):
        digits = published.partition(".")[2]
        tolerance = 0.5 * 10.0 ** -len(digits) if tolerance is None else tolerance
    if tolerance is None:
        raise ValueError(
            "Argument `tolerance` must be given unless `published` is a text of digits."
        )
    values, theirs = np.broadcast_arrays(np.asarray(ours, float), np.asarray(published, float))
    error = np.abs(values - theirs)
    number = measured(what, error, "<=", tolerance, case=case)
    worst = np.unravel_index(np.argmax(error), error.shape)  # the first NaN, if there is one
    return dataclasses.replace(number, published=float(theirs[worst]), ours=float(values[worst]))


def checked(check: Check, what: str = "", *, case: str = STATED) -> Number:
    """A number of a check of `ddln.theory`, of one lane or of a batch.

    For an equality the largest |lhs - rhs| in units of its numerical error, at most 1; for an
    inequality the largest lhs / rhs, at most 1; if its left side is 0, the smallest right side, above
    0. The verdict is that of the check, on the worst of the lanes whose hypotheses are met.

    Args:
        check: the check; lanes along leading axes.
        what: the measured quantity; the check's statement if not given.
        case: the form of the claim that it belongs to.
    """
    lhs, rhs, tolerance = (np.asarray(a) for a in (check.lhs, check.rhs, check.tolerance))
    applies = np.asarray(check.applies)
    compared = np.asarray(check.compared) & applies.reshape(applies.shape + (1,) * len(check.axes))
    lhs, rhs, tolerance = lhs[compared], rhs[compared], tolerance[compared]
    relation, threshold = "<=", 1.0
    if check.relation == "==":
        exact = lhs == rhs
        values = np.where(exact, 0, np.abs(lhs - rhs) / np.where(exact, 1, tolerance))
        label = "largest difference of both sides, in units of its numerical error"
    elif np.any(lhs != 0):
        values, label = lhs / rhs, "largest left side / right side"
    else:
        values, label = rhs, "smallest value"
        relation, threshold = (">" if check.relation == "<" else ">="), 0.0
    worst = float("nan")
    if values.size:
        worst = float(values.max() if relation == "<=" else values.min())
    # Lanes that do not meet the hypotheses say nothing, unless there is no other.
    statuses = np.atleast_1d(np.asarray(check.status))
    applicable = statuses[np.atleast_1d(applies)]
    found = set((applicable if applicable.size else statuses).ravel().tolist())
    verdict = next(name for name in VERDICTS if name in found)
    lanes = f" ({applicable.size} problems)" if applies.ndim else ""
    return Number(
        f"{what or check.statement}: {label}{lanes}", worst, relation, threshold, case, verdict
    )
