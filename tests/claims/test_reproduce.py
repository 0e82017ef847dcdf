"""`ddln reproduce` and its report, on a few cheap claims and some made for this test."""

import dataclasses
import json

import numpy as np
import pytest
from browser import REQUIRE, binary, chromium
from matplotlib import pyplot as plt

from ddln.claims import Evidence, claim, claims, measured
from ddln.cli import _reproduce_command, main
from ddln.cli._mathml import mathml, with_formulas


@claim(id="slides-made-up-figure")
def with_figure(settings):
    r"""a slide: A figure & <b>signs</b>.

    A curve of $x^2$ is drawn.

        \int_0^1 x^2\, dx = \frac13

    Made up.
    """
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.plot(np.arange(5.0) ** 2)
    number = measured("error of $\\frac13$", [1e-17, 1e-16], "<=", 1e-12)
    return Evidence((number,), remark="Fine.", figure=figure, caption="A curve of $x^2$.")


@claim(id="paper-made-up-failure")
def failing(settings):
    r"""nowhere: Fails.

    One is at most zero.

        1 \leq 0

    Made up.
    """
    return Evidence((measured("one", 1.0, "<=", 0.0),))


@claim(id="paper-made-up-error")
def raising(settings):
    """nowhere: Raises.

    Nothing.

        0

    Made up.
    """
    raise ZeroDivisionError("no <number> here")


def with_its_texts(one):
    """A claim of the documents with made-up numbers, for how its texts look."""

    def check(settings):
        found = [
            measured("a made-up number", float(verdict == "violated"), "<=", 0.5, case=case)
            for case, verdict in one.cases.items()
        ]
        return Evidence(tuple(found))

    return dataclasses.replace(one, id=f"{one.id}-text", check=check)


CHEAP = [one for one in claims() if one.id in ("paper-equation-9", "paper-equation-32")]
MADE_UP = (*CHEAP, failing, raising, with_figure, *map(with_its_texts, claims()))
IDS = [one.id for one in MADE_UP if one.document == "paper"]
IDS += [one.id for one in MADE_UP if one.document == "slides"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a run in which one claim fails and one raises, and its exit code."""
    out = tmp_path_factory.mktemp("report") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_reproduce_command, "claims", lambda: MADE_UP)
        with pytest.raises(SystemExit) as stop:
            main(["reproduce", "--problems", "4", "--seed", "3", "--out", str(out)])
    assert stop.value.code == 1
    return out


def test_json_has_every_number(report):
    data = json.loads((report / "report.json").read_text())
    assert data["schema"] == 1
    assert data["settings"] == {"seed": 3, "problems": 4, "precision": "float64"}
    assert data["complete"]
    found = {one["id"]: one for one in data["claims"]}
    assert [one["id"] for one in data["claims"]] == [one.id for one in MADE_UP]
    assert found["paper-equation-9"]["verdict"] == "holds"
    erratum = found["paper-equation-32"]
    assert erratum["verdict"] == "erratum"
    assert erratum["cases"] == {"as printed": "violated", "corrected": "holds"}
    assert erratum["code"].startswith("ddln/claims/paper/_structure.py: regular_points, line ")
    failed = found["paper-made-up-failure"]
    assert (failed["verdict"], failed["numbers"][0]["value"]) == ("not reproduced", 1.0)
    raised = found["paper-made-up-error"]
    assert not raised["reproduced"]
    assert "ZeroDivisionError: no <number> here" in raised["error"]
    # What comes after a claim that raises is checked all the same.
    assert found["slides-made-up-figure"]["numbers"][0]["value"] == 1e-16


def test_a_run_without_failures_ends_well(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_reproduce_command, "claims", lambda: MADE_UP)
    main(["reproduce", "--claim", "slides-made-up-figure", "--out", str(tmp_path)])
    assert "holds" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "report.json").read_text())["claims"]) == 1
    with pytest.raises(SystemExit, match=r"exists\. Choose another folder with --out"):
        main(["reproduce", "--claim", "slides-made-up-figure", "--out", str(tmp_path)])


def test_claims_are_chosen_by_name():
    chosen = _reproduce_command._chosen(
        ("paper-theorem-2, paper-theorem-1", "paper-equation-5"), claims()
    )
    assert [one.id for one in chosen] == ["paper-equation-5", "paper-theorem-1", "paper-theorem-2"]
    with pytest.raises(SystemExit, match=r"no 'paper-theorem-3'\. The nearest are paper-theorem-2"):
        main(["reproduce", "--claim", "paper-theorem-3"])
    with pytest.raises(SystemExit, match=r"must name a claim\. They are paper-equation-3, "):
        main(["reproduce", "--claim", ""])
    with pytest.raises(SystemExit, match="--problems must be at least 1"):
        main(["reproduce", "--problems", "0"])


def test_claims_are_listed(capsys):
    main(["reproduce", "--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [one.id for one in claims()]


def test_an_interrupted_run_is_written(tmp_path, monkeypatch, capsys):
    whole = _reproduce_command.run_claim

    def interrupted(one, settings):
        if one is failing:
            raise KeyboardInterrupt
        return whole(one, settings)

    monkeypatch.setattr(_reproduce_command, "claims", lambda: (with_figure, failing))
    monkeypatch.setattr(_reproduce_command, "run_claim", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "--out", str(tmp_path)])
    assert stop.value.code == 130
    assert "1 of 2 claims" in " ".join(capsys.readouterr().out.split())
    assert not json.loads((tmp_path / "report.json").read_text())["complete"]
    assert "The run was interrupted: 1 claims" in (tmp_path / "report.html").read_text()


def test_formulas_become_mathml():
    # Every backslash is gone, and big operators have their limits below and above.
    for one in claims():
        texts = (one.title, one.statement, one.correction, one.condition)
        pages = [mathml(one.formula, "block"), *map(with_formulas, texts)]
        for page in pages:
            drawn = page if "alttext" not in page else page.split("alttext")[0]
            assert "\\" not in drawn
            assert page.count("<math") == page.count("</math>")
    assert "<munderover><mo" in mathml(r"\bigodot_{j=1}^L u^j", "block")
    assert with_formulas("a < b") == "a &lt; b"


def test_without_a_browser_a_test_is_skipped_or_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs a browser"):
        binary()
    monkeypatch.setenv(REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="must not be skipped"):
        binary()


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        page.size(1280)
        page.open(report / "report.html")
        yield page


def test_the_page_opens_without_complaints(page):
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('article').length") == len(MADE_UP)
    # No request leaves the file.
    assert page.evaluate("performance.getEntriesByType('resource').length") <= 1


def test_formulas_and_figures_are_visible(page):
    sizes = page.evaluate(
        "[...document.querySelectorAll('math')].filter(m => !m.closest('details:not([open])'))"
        ".map(m => m.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert len(sizes) > 200
    assert np.min(sizes) > 0
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.alt])")
    assert len(images) == 1
    assert images[0][0] > 0
    assert images[0][1] == "A curve of x^2."


def shown(page):
    return page.evaluate(
        "[...document.querySelectorAll('article')].filter(a => a.offsetHeight).map(a => a.id)"
    )


def test_claims_are_filtered_by_verdict(page):
    assert shown(page) == IDS
    page.evaluate("document.querySelector('button[value=not-reproduced]').click()")
    assert shown(page) == ["paper-made-up-failure", "paper-made-up-error"]
    assert page.evaluate("document.querySelector('[role=status]').textContent") == (
        f"Showing 2 of {len(IDS)} claims"
    )
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(b => b.value)"
    assert page.evaluate(pressed) == ["not-reproduced"]
    rows = "[...document.querySelectorAll('tr[data-verdict]')].filter(r => r.offsetHeight).length"
    assert page.evaluate(rows) == 2
    # By keyboard: the next button, then back to all.
    page.evaluate("document.querySelector('button[value=holds]').focus()")
    page.press("Tab")
    page.press("Enter", "\r")
    conditional = {one.id for one in MADE_UP if one.expected == "holds under a condition"}
    assert set(shown(page)) == conditional != set()
    page.evaluate("document.querySelector('button[value=\"\"]').click()")
    assert shown(page) == IDS


def test_nothing_is_wider_than_a_phone(page):
    page.size(390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.size(1280)


def test_both_colour_schemes_have_contrast(page):
    """At least 4.5 to 1 for every text colour (WCAG 2.2, 1.4.3)."""

    def luminance(colour):
        channels = np.array([float(c) for c in colour[4:-1].split(",")[:3]]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    backgrounds = set()
    for scheme in ("light", "dark"):
        page.colour_scheme(scheme)
        background = page.evaluate(
            "getComputedStyle(document.querySelector('article')).backgroundColor"
        )
        colours = page.evaluate(
            "[...document.querySelectorAll('article *')].map(e => getComputedStyle(e).color)"
        )
        backgrounds.add(background)
        for colour in set(colours):
            low, high = sorted((luminance(background), luminance(colour)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, colour)
    assert len(backgrounds) == 2


def test_without_scripts_all_claims_are_there(report, page):
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(report / "report.html")
    assert shown(page) == IDS
    assert page.evaluate("document.getElementById('filter').offsetHeight") == 0
    page.send("Emulation.setScriptExecutionDisabled", value=False)
