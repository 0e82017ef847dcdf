"""`ddln status`: how far a sweep is."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ddln.cli._options import StatusOptions
from ddln.cli._places import store_at


def run(options: StatusOptions) -> None:
    """Prints what a store holds."""
    store = store_at(options.store)
    status = store.status(verify=options.verify)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("flows")
    table.add_column("", justify="right")
    table.add_row("done", str(status.done))
    for reason, count in status.failed.items():
        table.add_row(Text(f"  failed: {reason}"), Text(str(count), "red"))
    table.add_row("missing", str(status.missing))
    table.add_row("in all", str(status.lanes))
    console = Console()
    console.print(store.url, soft_wrap=True, markup=False)
    console.print(table)
    for key, fingerprint in status.sweeps.items():
        console.print(f"fingerprint of {key}: {fingerprint}", soft_wrap=True, markup=False)
    told = ", ".join(f"{name} {number}" for name, number in status.versions.items())
    console.print(f"begun with {told}", soft_wrap=True, markup=False)
    if status.damaged:
        console.print(
            "Damaged files (--resume computes those that are cut off or missing; delete the others "
            f"first): {', '.join(status.damaged)}",
            markup=False,
        )
    elif options.verify:
        console.print("All checksums are right.")
