"""The entry point: picks the command and sets up JAX for it."""

import sys
from importlib.metadata import version
from typing import Annotated

NEEDS = 'The command line needs further packages. Install them with `pip install "ddln[cli]"`.'


def main(arguments: list[str] | None = None) -> None:
    """Runs `ddln` with the given arguments, those of the process if None."""
    try:
        import rich  # noqa: F401
        import tyro
        import xarray  # noqa: F401
        import zarr  # noqa: F401
    except ImportError as error:
        sys.exit(f"{NEEDS} ({error})")
    # Imported here, so that a missing extra is told before anything else.
    from ddln.cli._options import SweepOptions
    from ddln.cli._sweep_command import run

    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(version("ddln"))
        return
    command = tyro.conf.subcommand("sweep", prefix_name=False)
    options = tyro.cli(
        Annotated[SweepOptions, command] | Annotated[None, tyro.conf.subcommand("version")],
        prog="ddln",
        description="Dynamics of reparameterized models.",
        args=arguments,
    )
    if options is None:
        print(version("ddln"))
        return
    try:
        run(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"ddln: {error}")
