"""`ddln explore`: a page to look at a sweep."""

from pathlib import Path

from rich.text import Text

from ddln.cli._console import console
from ddln.cli._explore_page import explore_page
from ddln.cli._lane_table import Source
from ddln.cli._options import ExploreOptions
from ddln.cli._output import PAGE, STORE, holds_sweep
from ddln.cli._places import store_at
from ddln.cli._run_config import recorded_experiment


def run(options: ExploreOptions) -> None:
    """Write the page of a store."""
    store = store_at(options.store)
    source = Source(store, recorded_experiment(store))
    out = options.out or _beside(store.url)
    out.write_text(explore_page(source), encoding="utf-8")
    size = out.stat().st_size / 1e6
    console().print(Text.assemble("Wrote ", (str(out), "bold"), f" ({size:.1f} MB)."))


def _beside(url: str) -> Path:
    """The page's place: in the folder of a run, else in this folder."""
    if "://" in url:
        return Path(PAGE)
    folder = Path(url).resolve().parent
    return folder / PAGE if holds_sweep(folder) and Path(url).name == STORE else Path(PAGE)
