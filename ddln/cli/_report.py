"""The report of claims: one HTML file that needs nothing else, and the same as JSON."""

import base64
import hashlib
import html
import io
import math
import platform
import string
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ddln._cite import reference, short_name
from ddln.claims import Number, Outcome, Settings
from ddln.cli._mathml import mathml, with_formulas

SCHEMA = 1
TITLES = (
    "Claims on reparameterized gradient flows, measured",
    "Published numbers on reparameterized gradient flows, reproduced",
)
DOCUMENTS = {
    "paper": (
        "The paper",
        "H. Labarrière, C. Molinari, L. Rosasco, S. Villa, C. Vega: Optimization Insights into Deep "
        "Diagonal Linear Networks, arXiv:2412.16765 (2024).",
    ),
    "slides": (
        "The slides",
        "C. Vega, H. Labarrière, C. Molinari, L. Rosasco, S. Villa: Reparameterization and Its Role in "
        "Optimization Dynamics, CIRM workshop, 30 September 2025.",
    ),
}
VERDICTS = (
    "holds",
    "holds under a condition",
    "reproduced",
    "reproduced under a condition",
    "erratum",
    "not reproduced",
)
SIGNS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">"}


def versions() -> dict[str, str]:
    """Versions of the packages that computed the numbers."""
    names = ("ddln", "jax", "diffrax", "equinox", "optimistix", "lineax", "numpy", "scipy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def as_json(outcomes: Sequence[Outcome], settings: Settings, planned: int) -> dict[str, Any]:
    """The report as plain data. Numbers that are not finite are null."""
    return {
        "schema": SCHEMA,
        "settings": {
            "seed": settings.seed,
            "problems": settings.problems,
            "precision": "float64",
        },
        "versions": versions(),
        "complete": len(outcomes) == planned,
        "verdicts": dict(Counter(outcome.verdict for outcome in outcomes)),
        "claims": [_claim_json(outcome) for outcome in outcomes],
    }


def _claim_json(outcome: Outcome) -> dict[str, Any]:
    claim, evidence = outcome.claim, outcome.evidence
    return {
        "id": claim.id,
        "document": claim.document,
        "number": claim.number,
        "equations": list(claim.equations),
        "title": claim.title,
        "statement": claim.statement,
        "formula": claim.formula,
        "fixture": claim.fixture,
        "cost": claim.cost,
        "expected": claim.expected,
        "correction": claim.correction,
        "condition": claim.condition,
        "code": claim.place,
        "verdict": outcome.verdict,
        "reproduced": outcome.reproduced,
        "cases": outcome.verdicts,
        "numbers": [_number_json(number) for number in evidence.numbers] if evidence else [],
        "remark": evidence.remark if evidence else "",
        "error": outcome.error,
        "seconds": round(outcome.seconds, 2),
    }


def _number_json(number: Number) -> dict[str, Any]:
    share = number.share
    return {
        "case": number.case,
        "what": number.what,
        "published": _finite(number.published),
        "ours": _finite(number.ours),
        "value": _finite(number.value),
        "relation": number.relation,
        "threshold": number.threshold,
        "share": _finite(share),
        "verdict": number.verdict,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def as_html(outcomes: Sequence[Outcome], settings: Settings, planned: int) -> str:
    """The report as a page that holds its style, script, formulas and figures, and loads nothing."""
    style, script, template = (_part(name) for name in ("style.css", "script.js", "template.html"))
    counts = Counter(outcome.verdict for outcome in outcomes)
    documents = list(dict.fromkeys(outcome.claim.document for outcome in outcomes))
    literature = any(name not in DOCUMENTS for name in documents)
    guide = _part("literature.html" if literature else "documents.html")
    return string.Template(template).substitute(
        title=TITLES[literature],
        guide=guide,
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        summary=_summary(counts, len(outcomes), planned),
        settings=_settings(settings),
        buttons=_buttons(counts, len(outcomes)),
        sections="\n".join(_section(name, outcomes) for name in documents)
        + (_deviations(outcomes) if literature else ""),
        references="".join(f"<p>{html.escape(_document(name)[1])}</p>" for name in documents),
    )


def _document(name: str) -> tuple[str, str]:
    """The heading and the reference of a document."""
    return DOCUMENTS[name] if name in DOCUMENTS else (short_name(name), reference(name))


def _part(name: str) -> str:
    return (files("ddln.cli") / "report" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The hash by which a content security policy names a script or a style."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(counts: Counter[str], done: int, planned: int) -> str:
    parts = [f"{verdict} {counts[verdict]}" for verdict in VERDICTS if counts[verdict]]
    text = f"{done} claims. Verdicts: {', '.join(parts)}."
    if done < planned:
        text += f" The run was interrupted: {planned - done} claims were not checked."
    return html.escape(text)


def _settings(settings: Settings) -> str:
    settings_shown = {
        "Problems": str(settings.problems),
        "seed": str(settings.seed),
        "precision": "float64",
    } | versions()
    return "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in settings_shown.items()
    )


def _buttons(counts: Counter[str], total: int) -> str:
    options = [("", f"all ({total})")]
    options += [(_slug(v), f"{v} ({counts[v]})") for v in VERDICTS if counts[v]]
    return "".join(
        f'<button type="button" value="{value}" aria-pressed="false">{html.escape(label)}</button>'
        for value, label in options
    )


def _section(document: str, outcomes: Sequence[Outcome]) -> str:
    own = [outcome for outcome in outcomes if outcome.claim.document == document]
    heading, source = _document(document)
    rows = "".join(
        f'<tr data-verdict="{_slug(o.verdict)}"><th scope="row"><a href="#{o.claim.id}">'
        f"{with_formulas(o.claim.title)}</a></th><td>{html.escape(o.claim.number)}</td>"
        f"<td>{_verdict(o.verdict)}</td></tr>"
        for o in own
    )
    return (
        f'<section aria-labelledby="{document}"><h2 id="{document}">{html.escape(heading)}</h2>'
        + (f'<p class="place">{html.escape(source)}</p>' if document not in DOCUMENTS else "")
        + f'<div class="scroll"><table class="overview"><caption>{len(own)} claims, in the order of the '
        'document</caption><thead><tr><th scope="col">claim</th><th scope="col">place</th>'
        f'<th scope="col">verdict</th></tr></thead><tbody>{rows}</tbody></table></div>\n'
        + "\n".join(map(_article, own))
        + "</section>"
    )


def _deviations(outcomes: Sequence[Outcome]) -> str:
    """The table of errata and of conditions that the sources do not state."""
    rows = "".join(
        f'<tr data-verdict="{_slug(o.verdict)}"><td>{html.escape(_document(o.claim.document)[0])}</td>'
        f'<th scope="row"><a href="#{o.claim.id}">{with_formulas(o.claim.title)}</a></th>'
        f"<td>{_verdict(o.verdict)}</td>"
        f"<td>{with_formulas(o.claim.correction or o.claim.condition)}</td></tr>"
        for o in outcomes
        if o.claim.correction or o.claim.condition
    )
    return (
        '<section aria-labelledby="deviations"><h2 id="deviations">Errata and conditions</h2>'
        '<div class="scroll"><table class="deviations"><caption>Claims that hold in another form than the '
        'source gives</caption><thead><tr><th scope="col">source</th><th scope="col">claim</th>'
        '<th scope="col">verdict</th><th scope="col">correction or condition</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _article(outcome: Outcome) -> str:
    claim, evidence = outcome.claim, outcome.evidence
    parts = [
        f'<article id="{claim.id}" data-verdict="{_slug(outcome.verdict)}" '
        f'aria-labelledby="{claim.id}-title"><header><h3 id="{claim.id}-title">'
        f"{with_formulas(claim.title)}</h3>{_verdict(outcome.verdict)}"
        f'<p class="place">{html.escape(claim.number)}</p></header>',
        f"<p>{with_formulas(claim.statement)}</p>",
        f'<div class="formula">{mathml(claim.formula, "block")}</div>',
    ]
    parts += [
        f"<p><strong>{label.capitalize()}.</strong> {with_formulas(text)}</p>"
        for label in ("correction", "condition", "fixture")
        if (text := getattr(claim, label))
    ]
    if evidence is None:
        parts.append(
            f'<p>The check ended with an error:</p><pre class="error">{html.escape(outcome.error)}</pre>'
        )
    else:
        parts += [_numbers(outcome, case) for case in claim.cases]
        if evidence.remark:
            parts.append(f"<p>{with_formulas(evidence.remark)}</p>")
        if evidence.figure is not None:
            parts.append(_figure(evidence.figure, evidence.caption))
    if claim.fixture:
        there = f" Published: {with_formulas(claim.cost)}" if claim.cost else ""
        parts.append(
            f"<p><strong>Cost.</strong> Here: {outcome.seconds:.1f} s, with compilation.{there}</p>"
        )
    parts.append(
        f"<details><summary>How it was measured: <code>{html.escape(claim.place)}</code></summary>"
        f"<pre><code>{html.escape(claim.code)}</code></pre></details></article>"
    )
    return "".join(parts)


def _numbers(outcome: Outcome, case: str) -> str:
    """The table of one form of the claim."""
    assert outcome.evidence is not None
    verdict, expected = outcome.verdicts[case], outcome.claim.cases[case]
    caption = f"{case.capitalize()}: {verdict}"
    caption += ", as expected" if verdict == expected else f", but expected: {expected}"
    own = [number for number in outcome.evidence.numbers if number.case == case]
    with_published = any(number.published is not None for number in own)
    rows = "".join(
        f'<tr><th scope="row">{with_formulas(number.what)}</th>'
        + (_cells(number.published, number.ours) if with_published else "")
        + f'<td class="number">{_plain(number.value)}</td>'
        f'<td class="number">{html.escape(SIGNS[number.relation])} {_plain(number.threshold)}</td>'
        f'<td class="number share">{"" if number.share is None else _plain(number.share)}</td>'
        f'<td class="verdict">{number.verdict}</td></tr>'
        for number in own
    )
    heads = '<th scope="col">published</th><th scope="col">ours</th>' if with_published else ""
    return (
        f'<div class="scroll"><table class="numbers"><caption>{html.escape(caption)}</caption><thead><tr>'
        f'<th scope="col">measured</th>{heads}<th scope="col">value</th><th scope="col">limit</th>'
        '<th scope="col" class="share">share</th><th scope="col">verdict</th></tr></thead>'
        f"<tbody>{rows}</tbody>"
        "</table></div>"
    )


def _cells(*values: float | None) -> str:
    """Cells with the numbers to compare, to seven digits."""
    texts = ("" if value is None else _plain(value, 7) for value in values)
    return "".join(f'<td class="number">{text}</td>' for text in texts)


def _plain(value: float, digits: int = 3) -> str:
    """A number as HTML."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    mantissa = mantissa.replace("-", "−")
    if not exponent:
        return mantissa
    power = f"10<sup>{str(int(exponent)).replace('-', '−')}</sup>"
    return power if mantissa == "1" else f"{mantissa} · {power}"


def _figure(figure: Figure, caption: str) -> str:
    file = io.BytesIO()
    # Reproducible, and letters as curves: no fonts are needed.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "ddln"}):
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    words = html.escape(caption.replace("$", ""))
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{words}">'
        f"<figcaption>{with_formulas(caption)}</figcaption></figure>"
    )


def _verdict(verdict: str) -> str:
    return f'<span class="verdict {_slug(verdict)}">{html.escape(verdict)}</span>'


def _slug(verdict: str) -> str:
    return verdict.replace(" ", "-")
