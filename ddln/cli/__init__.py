"""The command line, `ddln`."""

from ddln.cli._main import main as main
