"""The command line, `ddln`, and a function for its results."""

from ddln.cli._coefficients import coefficients as coefficients
from ddln.cli._main import main as main
