"""The run of a claim, and its verdict."""

import dataclasses
import time
import traceback

import jax

from ddln.claims._claim import Claim, Settings
from ddln.claims._evidence import Evidence

NOT_REPRODUCED = "not reproduced"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a claim.

    Attributes:
        claim: the claim.
        evidence: what was measured; None if the check raised an error.
        error: the error, as Python prints it; empty if there was none.
        seconds: how long it took.
    """

    claim: Claim
    evidence: Evidence | None
    error: str
    seconds: float

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on each case of the claim."""
        if self.evidence is None:
            return {}
        return {case: self.evidence.verdict(case) for case in self.claim.cases}

    @property
    def reproduced(self) -> bool:
        """True if the numbers say what is expected of the claim."""
        return self.verdicts == self.claim.cases

    @property
    def verdict(self) -> str:
        """The expected verdict if the claim was reproduced, else "not reproduced"."""
        return self.claim.expected if self.reproduced else NOT_REPRODUCED


def run(claim: Claim, settings: Settings | None = None) -> Outcome:
    """Check one claim on random problems. An error of the check is part of the outcome.

    Example:
        >>> jax.config.update("jax_enable_x64", True)
        >>> outcome = ddln.claims.run(ddln.claims.claims()[0])
        >>> outcome.verdict
        'holds'

    Args:
        claim: one of `claims()`, or your own.
        settings: seed and number of problems; None takes the defaults.

    Raises:
        ValueError: if JAX is not in float64: the thresholds are meant for it.
    """
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            "Claims are checked in float64. Call `jax.config.update('jax_enable_x64', True)` first."
        )
    started = time.perf_counter()
    evidence, error = None, ""
    try:
        evidence = claim.check(Settings() if settings is None else settings)
    except Exception:
        error = traceback.format_exc()
    return Outcome(claim, evidence, error, time.perf_counter() - started)
