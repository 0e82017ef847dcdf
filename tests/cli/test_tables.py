"""The tables at the end of a run, by their text."""

import io
import re

import pytest
from rich.console import Console

from ddln.claims import Evidence, Outcome, claims, literature_claims, measured
from ddln.cli import _reproduce_command
from ddln.cli._flows import CHECKS
from ddln.cli._tables import check_table, depth_table

ROW = {
    "failed": {"The maximum number of steps was reached.": 12},
    "steps": 1234.0,
    "unexplained": 1.2e-4,
    "unexplained_most": 0.1,
    "sparsity_smallest_scale": 6.1,
    "sparsity_largest_scale": 12.33,
    "held_out_error": 0.523,
    "held_out_error_scale": 0.05,
}
CONVERGED = {"unconverged": 0, "unconverged_smallest_scale": 0, "unconverged_largest_scale": 0}
SHORT = {"unconverged": 26, "unconverged_smallest_scale": 2, "unconverged_largest_scale": 0}


def shown(table, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False).print(table)
    return stream.getvalue()


def checks(count):
    return [
        {
            "name": check.name,
            "source": "Labarrière et al. 2024, Proposition 1.1, and documentation",
            "holds": count,
            "inconclusive": 0,
            "hypothesis not met": count,
            "violated": 1,
        }
        for check in CHECKS
    ]


def reproduced():
    """Outcomes of all claims, with made-up numbers that say what is expected."""
    for one in (*claims(), *literature_claims()):
        cases = {case: verdict == "violated" for case, verdict in one.cases.items()}
        numbers = [
            measured("made up", float(bad), "<=", 0.5, case=case) for case, bad in cases.items()
        ]
        yield Outcome(one, Evidence(tuple(numbers)), "", 123.4)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_word_is_broken(width):
    rows = [{"depth": 2, **ROW, **CONVERGED}, {"depth": 4, **ROW, **SHORT}]
    outcomes = list(reproduced())
    tables = [depth_table(rows), check_table(checks(128000)), _reproduce_command._table(outcomes)]
    tables = [shown(table, width) for table in tables]
    for table in tables:
        assert "…" not in table
        assert max(map(len, table.splitlines())) <= width
    words = set(" ".join(tables).split())
    assert {"128000", "inconclusive", "hypothesis", "violated", "documentation"} <= words
    assert {"1.2e-04", "0.523", "6.1*", "1234", "sparsity", "depth"} <= words
    for check in CHECKS:
        assert set(check.name.split("_")) <= words
    assert {outcome.claim.id for outcome in outcomes} <= words
    assert {"reproduced", "condition", "erratum", "123.4"} <= words


def test_flows_that_have_not_converged_are_counted_and_marked():
    converged = shown(depth_table([{"depth": 2, **ROW, **CONVERGED}]))
    assert "*" not in re.sub(r"\^2|theta\|", "", converged)
    assert "not converged:" not in converged
    short = " ".join(shown(depth_table([{"depth": 2, **ROW, **SHORT}])).split())
    assert " 26 " in short
    assert "6.1*" in short
    assert "12.3*" not in short
    assert "not converged: more than 0.001 above the least training error at t1" in short
    assert "the most: 0.1 unexplained" in short
