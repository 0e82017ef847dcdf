"""Figures for the `plot` methods of results."""

from types import ModuleType


def figures() -> ModuleType:
    """`ddln.plots`, imported at the first figure: results need no matplotlib until then."""
    from ddln import plots

    return plots
