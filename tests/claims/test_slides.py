"""Every claim of the slides, on a few problems."""

import numpy as np
from matplotlib import pyplot as plt

from ddln.claims import Settings, run
from ddln.claims.slides import CLAIMS

FEW = Settings(seed=1, problems=6)
# What these say is tested in tests/flows, tests/potentials and tests/theory too; here they would double
# the time. `ddln reproduce` checks them.
TESTED_ELSEWHERE = {
    "slides-gradient-descent",
    "slides-mirror-flow",
    "slides-mirror-flow-end",
    "slides-different-bias",
    "slides-inverse-hessian",
    "slides-deep-mirror-flow",
    "slides-no-mirror-flow",
    "slides-conservation-laws",
    "slides-invariants",
    "slides-global-minimum",
}
TITLES = (
    "Context",
    "Gradient Flow vs Mirror flow",
    "Mirror Flow induces a different implicit bias from Gradient Flow",
    "Back to Reparameterization",
    "Square reparameterization",
    "Polynomial reparameterization",
    "Diagonal Linear Networks",
    "Deep Diagonal Linear Networks",
    "Other models and challenges",
    "Conclusion",
)


def test_the_claims_of_the_slides_are_reproduced():
    """In one test: they share programs that take long to compile."""
    outcomes = [run(claim, FEW) for claim in CLAIMS if claim.id not in TESTED_ELSEWHERE]
    plt.close("all")
    assert len(outcomes) == len(CLAIMS) - len(TESTED_ELSEWHERE)
    assert [outcome for outcome in outcomes if not outcome.reproduced] == []
    values = [number.value for outcome in outcomes for number in outcome.evidence.numbers]
    assert np.all(np.isfinite(values))


def test_every_slide_has_a_claim():
    for title in TITLES:
        assert any(title in claim.number for claim in CLAIMS), title


def test_errata_and_conditions():
    found = {}
    for claim in CLAIMS:
        found.setdefault(claim.expected, set()).add(claim.id.removeprefix("slides-"))
    assert found["erratum"] == {"power-flow", "power-entropy", "two-layer-entropy"}
    assert found["holds under a condition"] == {
        "same-minimum",
        "large-scale",
        "stochasticity",
        "step-size",
        "momentum",
        "deep-small-scale",
        "depth",
        "matrix-factorization",
        "weight-normalization",
        "invariants",
        "global-minimum",
    }
