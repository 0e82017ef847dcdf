"""`ddln status`: the state of a sweep."""

from rich import box
from rich.table import Table
from rich.text import Text

from ddln.cli._console import console as new_console
from ddln.cli._options import StatusOptions
from ddln.cli._places import store_at


def run(options: StatusOptions) -> None:
    """Print the contents of a store."""
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
    console = new_console()
    console.print(store.url, soft_wrap=True)
    console.print(table)
    for key, fingerprint in status.sweeps.items():
        console.print(f"fingerprint of {key}: {fingerprint}", soft_wrap=True)
    begun = ", ".join(f"{name} {number}" for name, number in status.versions.items())
    console.print(f"begun with {begun}", soft_wrap=True)
    if status.damaged:
        console.print(
            "Damaged files (--resume computes those that are cut off or missing; delete the others "
            f"first): {', '.join(status.damaged)}",
        )
    elif options.verify:
        console.print("All checksums are right.")
