"""The claims of the literature: their form, their verdicts, and that a wrong fixture makes a claim fail.

It tests every module of `ddln/claims/literature`: `_arora2018`, `_arora2019`, `_azulay2021`, `_bayati2012`,
`_berthier2023`, `_berthier2025`, `_carlson1995`, `_chou2023`, `_cohen2024`, `_domine2025`, `_even2023`,
`_gunasekar2017`, `_gunasekar2018`, `_haochen2020`, `_hoff2017`, `_jacobs2025`, `_li2022`, `_lyu2020`,
`_lyu2025`, `_marcotte2023`, `_marcotte2024`, `_matt2025`, `_moroshko2020`, `_nacson2022`, `_papazov2024`,
`_pesme2021`, `_pesme2023`, `_saxe2014`, `_su2016`, `_vaskevicius2019`, `_wind2023`, `_woodworth2020`,
`_yun2021`, `_zhao2026`.
"""

import json
import re
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot as plt

from ddln._cite import bibliography
from ddln.claims import Settings, compared, literature, literature_claims, run
from ddln.claims import _problems as problems
from ddln.claims.literature import (
    arora2018,
    arora2019,
    berthier2023,
    carlson1995,
    chou2023,
    gunasekar2017,
    lyu2025,
    pesme2023,
    su2016,
    wind2023,
    woodworth2020,
    yun2021,
    zhao2026,
)
from ddln.cli import _reproduce_command, main
from ddln.losses import LeastSquares

FEW = Settings(seed=1, problems=8)

# Their laws are tested in tests/flows and tests/theory too; here they would take most of the time.
# `ddln reproduce --literature` checks them.
LONG = {
    "cohen2024",
    "haochen2020",
    "li2022",
    "marcotte2023",
    "marcotte2024",
    "nacson2022",
    "papazov2024",
    "pesme2021",
    "vaskevicius2019",
}


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


def changed_entry(X):
    """X with another value of one entry, in each of several problems."""
    flat = np.array(X, float).reshape(-1)
    flat[:: np.prod(np.shape(X)[-2:])] += 0.1
    return jnp.asarray(flat.reshape(np.shape(X)))


each = problems.each


def of_other_data(function, first, *rest):
    """`problems.each` on inputs of which one entry is another one, as no reference knows."""
    return each(function, changed_entry(first) if jnp.ndim(first) > 2 else first, *rest)


def loss_of_other_data(X, y, *rest):
    """A loss likewise."""
    return LeastSquares(changed_entry(X), y, *rest)


def wrong_fixtures():
    """Claims with the place and the name of a fixture or a number, and a wrong value for it.

    None needs a program that the right values do not need.
    """
    for one in (
        woodworth2020.q_function,
        pesme2023.end,
        chou2023.recovery,
        gunasekar2017.nuclear_norm,
    ):
        yield one, problems, "each", of_other_data
    for one, module in (
        (su2016.bessel, su2016),
        (berthier2023.incremental, berthier2023),
        (lyu2025.heavy_ball, lyu2025),
    ):
        yield one, module, "LeastSquares", loss_of_other_data
    X = zhao2026.X.copy()
    X[1, 2] = 0.2
    for one in (zhao2026.plateaus, zhao2026.arrivals, zhao2026.last_arrival):
        yield one, zhao2026, "X", X
    A = wind2023.A.copy()
    A[0, 2] = 1.1
    yield wind2023.two_layers, wind2023, "A", A
    curves = dict(yun2021.CURVES)
    curves[3] = (np.sinh, *curves[3][1:])
    yield yun2021.norm, yun2021, "CURVES", curves
    velocity, weight = arora2018.velocity, carlson1995.upper_weight
    for one, module in (
        (arora2018.preconditioner, arora2018),
        (arora2019.singular_values, arora2019),
    ):
        yield one, module, "velocity", lambda f, G: 1.01 * velocity(f, G)
    for one, entry in ((carlson1995.three_layers, 0), (carlson1995.four_layers, 3)):
        nudge = 1e-9 * np.eye(4)[entry]
        yield one, carlson1995, "upper_weight", lambda s, nudge=nudge: weight(s + nudge[: len(s)])


def failing(one, patch, module, name, value):
    """True if the claim fails with another value of a name."""

    def forget():
        for kept in (*vars(sys.modules[one.check.__module__]).values(), zhao2026.path):
            if hasattr(kept, "cache_clear"):
                kept.cache_clear()

    with patch.context() as changed:
        changed.setattr(module, name, value)
        forget()
        wrong = run(one, FEW)
    forget()
    plt.close("all")
    return wrong.error == "" and not wrong.reproduced


def test_the_claims_are_reproduced_and_fail_with_wrong_fixtures(monkeypatch):
    """In one test: they share programs that take long to compile."""
    outcomes = [run(one, FEW) for one in literature_claims() if one.document not in LONG]
    plt.close("all")
    assert [outcome for outcome in outcomes if not outcome.reproduced] == []
    values = [number.value for outcome in outcomes for number in outcome.evidence.numbers]
    assert not np.any(np.isnan(values))
    for one, module, name, value in wrong_fixtures():
        assert failing(one, monkeypatch, module, name, value), (one.id, name)


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
