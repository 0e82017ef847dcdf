"""The entry point: choose the command, and show errors of use without a traceback."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

# The exit code after Ctrl-C, as shells give it.
INTERRUPTED = 130
NEEDS = 'The command line needs further packages. Install them with `pip install "ddln[cli]"`.'


def main(arguments: list[str] | None = None) -> None:
    """Run `ddln` with the given arguments, those of the process if None."""
    try:
        with stops_as_interrupts():
            _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        if arguments is not None:
            raise
        # A command says itself what it keeps: none had begun.
        print("Interrupted.", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    except SystemExit as end:
        if arguments is None and end.code == INTERRUPTED:
            # Threads that compile would be waited for, and nothing of theirs is wanted any more.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
        raise


@contextlib.contextmanager
def stops_as_interrupts() -> Iterator[None]:
    """Let a scheduler that ends its job, or a terminal that closes, interrupt as Ctrl-C does.

    A signal that is ignored, as `nohup` has it, stays so.
    """
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for name in names
        if (number := getattr(signal, name, None)) is not None
        and signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(version("ddln"))
        return
    try:
        import latex2mathml  # noqa: F401
        import rich  # noqa: F401
        import tyro
        import xarray  # noqa: F401
        import zarr  # noqa: F401
    except ImportError as error:
        sys.exit(f"{NEEDS} ({error})")
    # Figures go to files. Matplotlib refuses to be imported under the name of a backend it lacks.
    os.environ["MPLBACKEND"] = "Agg"
    # Imported here, so that a missing extra is reported before anything else.
    from ddln.cli import (
        _explore_command,
        _export_command,
        _reproduce_command,
        _status_command,
        _sweep_command,
    )
    from ddln.cli._options import (
        ExploreOptions,
        ExportOptions,
        ReproduceOptions,
        StatusOptions,
        SweepOptions,
    )
    from ddln.cli._run_config import with_config

    try:
        arguments = with_config(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"ddln: {error}")
    options = tyro.cli(
        Annotated[SweepOptions, tyro.conf.subcommand("sweep", prefix_name=False)]
        | Annotated[ReproduceOptions, tyro.conf.subcommand("reproduce", prefix_name=False)]
        | Annotated[StatusOptions, tyro.conf.subcommand("status", prefix_name=False)]
        | Annotated[ExploreOptions, tyro.conf.subcommand("explore", prefix_name=False)]
        | Annotated[ExportOptions, tyro.conf.subcommand("export", prefix_name=False)]
        | Annotated[None, tyro.conf.subcommand("version")],
        prog="ddln",
        description="Dynamics of reparameterized models.",
        args=arguments,
    )
    if options is None:
        print(version("ddln"))
        return
    options = _with_homes(options)
    try:
        if isinstance(options, SweepOptions):
            _sweep_command.run(options)
        elif isinstance(options, ReproduceOptions):
            _reproduce_command.run(options)
        elif isinstance(options, StatusOptions):
            _status_command.run(options)
        elif isinstance(options, ExploreOptions):
            _explore_command.run(options)
        else:
            _export_command.run(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"ddln: {error}")


def _with_homes(options: Any) -> Any:
    """The options with `~` in paths as the folder of the user, which shells leave in `--out=~/x`."""
    paths = {
        field.name: value.expanduser()
        for field in dataclasses.fields(options)
        if isinstance(value := getattr(options, field.name), Path)
    }
    store = getattr(options, "store", None)
    if store is not None and "://" not in store:
        paths["store"] = os.path.expanduser(store)
    return dataclasses.replace(options, **paths)
