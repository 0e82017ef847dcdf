"""The claims of the literature: their form, a few of them, and that a wrong fixture makes a claim fail.

It tests every module of `ddln/claims/literature`: `_arora2018`, `_arora2019`, `_azulay2021`, `_bayati2012`,
`_berthier2023`, `_berthier2025`, `_carlson1995`, `_domine2025`, `_even2023`, `_gunasekar2018`,
`_haochen2020`, `_hoff2017`, `_jacobs2025`, `_li2022`, `_lyu2020`, `_lyu2025`, `_marcotte2023`, `_matt2025`,
`_moroshko2020`, `_papazov2024`, `_pesme2021`, `_pesme2023`, `_saxe2014`, `_su2016`, `_vaskevicius2019`,
`_wind2023`, `_woodworth2020`, `_yun2021`, `_zhao2026`.
"""

import json
import re

import numpy as np
import pytest
from matplotlib import pyplot as plt

from ddln._cite import bibliography
from ddln.claims import Settings, compared, literature, literature_claims, run
from ddln.claims.literature import arora2018, wind2023, yun2021, zhao2026
from ddln.cli import _reproduce_command, main

FEW = Settings(seed=1, problems=8)
# Of different kinds, and quick.
SHORT = (
    "zhao2026-plateaus",
    "zhao2026-arrivals",
    "zhao2026-last-arrival",
    "arora2018-preconditioner",
    "carlson1995-three-layers",
)

# Their laws are tested in tests/flows and tests/theory too; here they would take most of the time.
# `ddln reproduce --literature` checks them.
LONG = {"haochen2020", "li2022", "marcotte2023", "papazov2024", "pesme2021", "vaskevicius2019"}


def test_short_claims_are_reproduced():
    outcomes = [run(one, FEW) for one in literature_claims() if one.id in SHORT]
    plt.close("all")
    assert len(outcomes) == len(SHORT)
    assert [outcome for outcome in outcomes if not outcome.reproduced] == []


def test_the_claims_of_the_literature_are_reproduced():
    """In one test: they share programs that take long to compile."""
    outcomes = [run(one, FEW) for one in literature_claims() if one.document not in LONG]
    plt.close("all")
    assert [outcome for outcome in outcomes if not outcome.reproduced] == []
    values = [number.value for outcome in outcomes for number in outcome.evidence.numbers]
    assert not np.any(np.isnan(values))


def test_there_are_enough_and_each_has_its_form():
    found = literature_claims()
    ids = [one.id for one in found]
    assert len(set(ids)) == len(ids) >= 40
    papers = list(dict.fromkeys(one.document for one in found))
    assert len(papers) >= 15
    assert papers == sorted(papers, key=lambda key: int(bibliography()[key]["year"]))
    for one in found:
        assert re.fullmatch(r"[a-z]+\d{4}(-[a-z0-9]+)+", one.id)
        assert one.place.startswith(f"ddln/claims/literature/_{one.document}.py: ")
        assert one.expected in ("reproduced", "reproduced under a condition", "erratum")
        assert one.fixture
        assert "Fixture" not in one.code.split('"""')[1]


def failing(one, patch, module, name, value):
    """True if the claim fails with another value of a name in its module."""
    with patch.context() as changed:
        changed.setattr(module, name, value)
        zhao2026.path.cache_clear()
        wrong = run(one, FEW)
    zhao2026.path.cache_clear()
    plt.close("all")
    return wrong.error == "" and not wrong.reproduced


def test_a_wrong_fixture_or_a_wrong_number_fails(monkeypatch):
    X = zhao2026.X.copy()
    X[1, 2] = 0.2
    assert failing(zhao2026.plateaus, monkeypatch, zhao2026, "X", X)
    assert failing(zhao2026.last_arrival, monkeypatch, zhao2026, "X", X)
    assert failing(wind2023.two_layers, monkeypatch, wind2023, "A", 1.1 * wind2023.A)
    curves = dict(yun2021.CURVES)
    curves[3] = (np.sinh, *curves[3][1:])
    assert failing(yun2021.norm, monkeypatch, yun2021, "CURVES", curves)
    velocity = arora2018.velocity
    assert failing(
        arora2018.preconditioner,
        monkeypatch,
        arora2018,
        "velocity",
        lambda f, G: 1.01 * velocity(f, G),
    )


def test_published_numbers_set_their_tolerance():
    close = compared("", [0.34603, 0.346034], "0.346035")
    assert (close.verdict, close.threshold, close.ours) == ("violated", 0.5e-6, 0.34603)
    assert close.published == 0.346035
    assert compared("", 0.3460349, "0.346035").verdict == "holds"
    assert compared("", np.nan, 1.0, 1.0).verdict == "inconclusive"
    with pytest.raises(ValueError, match="`tolerance` must be given"):
        compared("", 1.0, 1.0)


def test_the_command_reports_a_paper(tmp_path, capsys):
    main(
        [
            "reproduce",
            "--paper",
            "zhao2026",
            "--claim",
            "zhao2026-last-arrival",
            "--out",
            str(tmp_path),
        ]
    )
    data = json.loads((tmp_path / "report.json").read_text())
    (one,) = data["claims"]
    assert one["verdict"] == "erratum"
    assert one["fixture"].startswith("as for the plateaus")
    published = [number["published"] for number in one["numbers"]]
    assert published[:2] == [20.0, 40.0]
    assert one["numbers"][0]["ours"] == pytest.approx(40)
    page = (tmp_path / "report.html").read_text()
    assert "Published numbers on reparameterized gradient flows" in page
    assert "Errata and conditions" in page
    assert "Gradient Flow Dynamics and Implicit Bias" in page
    main(["reproduce", "--literature", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[-len(literature.CLAIMS) :]] == [
        one.id for one in literature_claims()
    ]
    with pytest.raises(
        SystemExit, match=r"must name a paper, but there is no 'zhao2025'\. The nearest are"
    ):
        main(["reproduce", "--paper", "zhao2025"])
    with pytest.raises(ValueError, match="must name a claim"):
        _reproduce_command._chosen(("saxe2014-modes",), literature.zhao2026.CLAIMS)
