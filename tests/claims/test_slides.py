"""Every claim of the slides, on a few problems."""

import numpy as np
from matplotlib import pyplot as plt

from ddln.claims import Settings, run
from ddln.claims.slides import CLAIMS

FEW = Settings(seed=1, problems=6)
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
    outcomes = [run(claim, FEW) for claim in CLAIMS]
    plt.close("all")
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
