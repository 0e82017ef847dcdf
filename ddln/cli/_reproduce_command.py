"""`ddln reproduce`: measurements of every claim of the two documents, or of the literature."""

import difflib
import json
import time
from collections.abc import Collection, Iterable
from pathlib import Path

import jax
from matplotlib import pyplot as plt
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ddln.claims import Claim, Outcome, Settings, claims, literature_claims
from ddln.claims import run as run_claim
from ddln.cli._console import console as new_console
from ddln.cli._options import ReproduceOptions
from ddln.cli._output import prepare
from ddln.cli._report import as_html, as_json

STYLES = {
    "holds": "green",
    "holds under a condition": "yellow",
    "reproduced": "green",
    "reproduced under a condition": "yellow",
    "erratum": "magenta",
    "not reproduced": "bold red",
}
REPORTS = ("report.html", "report.json")


def run(options: ReproduceOptions) -> None:
    """Check the claims; Ctrl-C keeps what is finished."""
    console = new_console()
    literature = options.literature or bool(options.paper)
    known = literature_claims() if literature else claims()
    if options.paper:
        papers = _names("paper", options.paper, list(dict.fromkeys(one.document for one in known)))
        known = [one for one in known if one.document in papers]
    if options.list:
        for claim in known:
            console.print(f"{claim.id}  {claim.title}", soft_wrap=True)
        return
    chosen = _chosen(options.claim, known)
    if options.problems < 1:
        raise ValueError("Option --problems must be at least 1.")
    settings = Settings(options.seed, options.problems)
    jax.config.update("jax_enable_x64", True)
    # Nearly all of the time is compilation.
    jax.config.update("jax_disable_most_optimizations", True)
    plt.switch_backend("Agg")
    out = _folder(options.out)
    started = time.monotonic()
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        with _progress(console) as progress:
            task = progress.add_task("", total=len(chosen))
            for claim in chosen:
                progress.update(task, description=claim.id)
                outcomes.append(run_claim(claim, settings))
                progress.advance(task)
    except KeyboardInterrupt:
        interrupted = True
    page = as_html(outcomes, settings, len(chosen))
    data = json.dumps(as_json(outcomes, settings, len(chosen)), indent=2, allow_nan=False)
    for name, text in zip(REPORTS, (page, data), strict=True):
        (out / name).write_text(text, encoding="utf-8")
    plt.close("all")
    console.print(_table(outcomes))
    failed = [outcome for outcome in outcomes if not outcome.reproduced]
    for outcome in failed:
        console.print(_failure(outcome))
    elapsed = time.monotonic() - started
    parts = f"Wrote {' and '.join(REPORTS)} to ", (str(out), "bold"), f" in {elapsed:.0f} s."
    console.print(Text.assemble(*parts))
    if interrupted:
        console.print(
            f"Interrupted: the report has {len(outcomes)} of {len(chosen)} claims. Check the others "
            "with --claim, or all of them again."
        )
        raise SystemExit(130)
    if failed:
        raise SystemExit(1)


def _chosen(wanted: tuple[str, ...], claims: Iterable[Claim]) -> list[Claim]:
    """The claims of these names, in their order; without names all of them.

    Raises:
        ValueError: if there is no claim of a name, or no name in what is given.
    """
    known = {claim.id: claim for claim in claims}
    names = _names("claim", wanted, known) if wanted else known
    return [claim for name, claim in known.items() if name in names]


def _names(option: str, wanted: tuple[str, ...], known: Collection[str]) -> list[str]:
    """The names in an option, separated by commas or given by repeating it.

    Raises:
        ValueError: if one is not known, or there is none.
    """
    names = [name.strip() for names in wanted for name in names.split(",") if name.strip()]
    if not names:
        raise ValueError(f"Option --{option} must name a {option}. They are {', '.join(known)}.")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            near = near or [other for other in known if name in other][:3]
            hint = f"The nearest are {', '.join(near)}" if near else f"They are {', '.join(known)}"
            raise ValueError(
                f"Option --{option} must name a {option}, but there is no {name!r}. {hint}."
            )
    return names


def _folder(out: Path | None) -> Path:
    """The folder for the report, which holds none yet.

    Raises:
        ValueError: if it does.
    """
    if out is None:
        return prepare(None, overwrite=False)
    for name in REPORTS:
        if (out / name).exists():
            raise ValueError(f"{out / name} exists. Choose another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("claims, {task.description}"),
        console=console,
        transient=True,
    )


def _table(outcomes: list[Outcome]) -> Table:
    # As narrow as 60 letters: a verdict may take two lines.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict")
    table.add_column("s", justify="right")
    for outcome in outcomes:
        table.add_row(
            outcome.claim.id,
            Text(outcome.verdict, STYLES[outcome.verdict]),
            f"{outcome.seconds:.1f}",
        )
    return table


def _failure(outcome: Outcome) -> Text:
    """The reason for which a claim was not reproduced."""
    if outcome.evidence is None:
        # The error itself is the first line below the last call.
        calls = outcome.error.rpartition("\n  File ")[2].splitlines()[1:]
        why = next(line for line in calls if not line.startswith(" "))
    else:
        expected = outcome.claim.cases
        wrong = [case for case, verdict in outcome.verdicts.items() if verdict != expected[case]]
        why = "; ".join(
            f"{case}: {outcome.verdicts[case]}, expected {expected[case]}" for case in wrong
        )
        why += "".join(
            f"\n    {number.what}: {number.value:.3g}, {number.verdict} "
            f"(limit {number.relation} {number.threshold:g})"
            for number in outcome.evidence.numbers
            if number.case in wrong
        )
    return Text.assemble((outcome.claim.id, "bold red"), f": {why}")
