"""The entry point: picks the command and sets up JAX for it."""

import sys
from importlib.metadata import version
from typing import Annotated

NEEDS = 'The command line needs further packages. Install them with `pip install "ddln[cli]"`.'


def main(arguments: list[str] | None = None) -> None:
    """Runs `ddln` with the given arguments, those of the process if None."""
    try:
        import latex2mathml  # noqa: F401
        import rich  # noqa: F401
        import tyro
        import xarray  # noqa: F401
        import zarr  # noqa: F401
    except ImportError as error:
        sys.exit(f"{NEEDS} ({error})")
    # Imported here, so that a missing extra is told before anything else.
    from ddln.cli import _export_command, _reproduce_command, _status_command, _sweep_command
    from ddln.cli._options import ExportOptions, ReproduceOptions, StatusOptions, SweepOptions

    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(version("ddln"))
        return
    options = tyro.cli(
        Annotated[SweepOptions, tyro.conf.subcommand("sweep", prefix_name=False)]
        | Annotated[ReproduceOptions, tyro.conf.subcommand("reproduce", prefix_name=False)]
        | Annotated[StatusOptions, tyro.conf.subcommand("status", prefix_name=False)]
        | Annotated[ExportOptions, tyro.conf.subcommand("export", prefix_name=False)]
        | Annotated[None, tyro.conf.subcommand("version")],
        prog="ddln",
        description="Dynamics of reparameterized models.",
        args=arguments,
    )
    if options is None:
        print(version("ddln"))
        return
    try:
        if isinstance(options, SweepOptions):
            _sweep_command.run(options)
        elif isinstance(options, ReproduceOptions):
            _reproduce_command.run(options)
        elif isinstance(options, StatusOptions):
            _status_command.run(options)
        else:
            _export_command.run(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"ddln: {error}")
