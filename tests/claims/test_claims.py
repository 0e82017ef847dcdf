"""The claims themselves, and the rules by which numbers become verdicts."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from claims_table import PAGE, page_with, rows

from ddln.claims import Claim, Evidence, Settings, checked, claim, claims, measured, run
from ddln.claims.paper import CLAIMS
from ddln.theory import Check

FEW = Settings(seed=1, problems=8)


def test_the_claims_of_the_paper_are_reproduced():
    """In one test: they share programs that take long to compile."""
    outcomes = [run(one, FEW) for one in CLAIMS]
    assert [outcome for outcome in outcomes if not outcome.reproduced] == []


def test_every_equation_of_the_paper_is_covered():
    covered = [number for one in CLAIMS for number in one.equations]
    assert sorted(covered) == list(range(1, 34))


def test_every_erratum_of_the_paper_is_a_claim():
    errata = {one.id for one in CLAIMS if one.expected == "erratum"}
    assert errata == {
        "paper-equation-4",
        "paper-below-equation-6",
        "paper-equation-19",
        "paper-equation-29",
        "paper-equation-31",
        "paper-equation-32",
    }


def test_names_and_sources():
    found = claims()
    ids = [one.id for one in found]
    assert len(set(ids)) == len(ids)
    # The paper first.
    assert [one.document for one in found] == sorted(one.document for one in found)
    source = {"paper": "Labarrière et al. 2024", "slides": "Slide"}
    for one in found:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", one.id)
        file, function = one.place.split(": ")
        assert file.startswith(f"ddln/claims/{one.document}/_")
        assert function.startswith(one.check.__name__)
        # Of the docstring the code shows the last part alone: the texts of the claim stand above it.
        head, docstring, _ = one.code.split('"""', 2)
        assert head == f"def {one.check.__name__}(settings: Settings) -> Evidence:\n    "
        assert docstring.startswith(source[one.document]), one.id


def test_a_claim_is_read_from_its_docstring():
    def check(settings):
        r"""Eq. (4), below: A title: with
        a colon.

        A statement of
        two lines.

        And a paragraph.

            \frac12
            = 0.5

        Correction: It is $1$: not 2.

        Measured by hand.

        With a derivation.
        """
        return Evidence(())

    made = claim(id="paper-x", equations=(4,))(check)
    assert (made.number, made.title) == ("Eq. (4), below", "A title: with a colon")
    assert made.statement == "A statement of two lines. And a paragraph."
    assert made.formula == r"\frac12 = 0.5"
    assert (made.expected, made.correction) == ("erratum", "It is $1$: not 2.")
    assert (made.condition, made.equations) == ("", (4,))
    shown = '"""Measured by hand.\n\n    With a derivation.\n    """\n        return Evidence(())'
    assert shown in made.code
    # Without texts in the docstring the code is shown as it is.
    assert "Condition" not in Claim("paper-x", "", "", "", "", made_up).code
    for text in (None, "No colon.\n\nA statement.\n\n    x", "A: title.\n\nA statement.\n\nx"):
        check.__doc__ = text
        with pytest.raises(ValueError, match="docstring of `check` must be that of a claim"):
            claim(id="paper-x")(check)


def test_numbers_take_the_worst_value():
    small = measured("error", np.array([[1e-12, 3e-12]]), "<=", 1e-9)
    assert (small.value, small.verdict) == (3e-12, "holds")
    assert small.share == pytest.approx(3e-3)
    assert measured("error", [1e-12, 1e-3], "<=", 1e-9).verdict == "violated"
    assert measured("error", [1e-12, np.nan], "<=", 1e-9).verdict == "inconclusive"
    assert measured("ratio", [2.0, 0.5], ">=", 1).value == 0.5
    assert measured("gap", [0.0], ">", 0).verdict == "violated"


def test_a_case_has_the_verdict_of_its_worst_number():
    good, bad = measured("", 0.0, "<=", 1), measured("", 2.0, "<=", 1)
    unknown = measured("", np.nan, "<=", 1)
    assert Evidence((good,)).verdict("as stated") == "holds"
    assert Evidence((good, unknown)).verdict("as stated") == "inconclusive"
    assert Evidence((good, unknown, bad)).verdict("as stated") == "violated"
    # Nothing holds without a number.
    assert Evidence(()).verdict("as stated") == "inconclusive"


def made_up(rhs, relation="==", met=True):
    """A check of two lanes with three entries; the left sides are 1."""
    rhs = jnp.asarray(rhs)

    def one(row, hypothesis):
        return Check(
            "", "", "", relation, ("time",), jnp.ones(3), row, 0.1, jnp.ones(3, bool),
            {"met": hypothesis},
        )  # fmt: skip

    return jax.vmap(one)(rhs, jnp.broadcast_to(jnp.asarray(met), (2,)))


def test_numbers_of_checks():
    row = [1.0, 1.05, 1.0]
    assert checked(made_up([row, row])).verdict == "holds"
    assert checked(made_up([row, row])).value == pytest.approx(0.5)
    wrong = [1.0, 1.2, 1.0]
    assert checked(made_up([row, wrong])).verdict == "violated"
    assert checked(made_up([row, wrong])).value == pytest.approx(2)
    # A lane that does not meet the hypotheses says nothing, unless there is no other.
    one_lane = checked(made_up([row, wrong], met=[True, False]))
    assert (one_lane.verdict, one_lane.value) == ("holds", pytest.approx(0.5))
    assert checked(made_up([row, wrong], met=False)).verdict == "hypothesis not met"
    bound = checked(made_up([[2.0, 4.0, 2.5]] * 2, "<="))
    assert (bound.verdict, bound.value) == ("holds", 0.5)
    assert checked(made_up([[2.0, 0.5, 2.5]] * 2, "<=")).verdict == "violated"


def test_an_error_is_an_outcome_and_float32_is_refused():
    def broken(settings):
        raise RuntimeError("broken")

    outcome = run(Claim("paper-x", "", "", "", "", broken), FEW)
    assert (outcome.reproduced, outcome.verdict) == (False, "not reproduced")
    assert "RuntimeError: broken" in outcome.error
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="float64"):
            run(CLAIMS[0], FEW)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_fields_must_fit():
    with pytest.raises(ValueError, match="`id` must begin with"):
        Claim("book-x", "", "", "", "", lambda settings: Evidence(()))
    with pytest.raises(ValueError, match="`correction` must be given"):
        Claim("paper-x", "", "", "", "", lambda settings: Evidence(()), "erratum")
    with pytest.raises(ValueError, match="`problems` must be at least 1"):
        Settings(problems=0)


def test_the_documentation_lists_every_claim():
    """If this fails: python tests/claims/claims_table.py."""
    assert PAGE.read_text(encoding="utf-8") == page_with(rows())
