"""The look of the figures, applied without touching the global settings of matplotlib."""

from contextlib import AbstractContextManager
from itertools import cycle, islice
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.style

FILE = Path(__file__).with_name("ddln.mplstyle")
GREY = "0.6"


def style() -> AbstractContextManager[None]:
    """A context in which matplotlib draws as this package does.

    Sizes fit one column of a paper (3.3 inches, 8 points); colours are those of Okabe and Ito 2008,
    each with dashes of its own. Every function of `ddln.plots` draws in this style; use it to
    create axes to pass to them, for further curves, and around `savefig`. Outside of the context
    nothing changes.

    Example:
        >>> with ddln.plots.style():
        ...     figure, axes = plt.subplots(1, 2, figsize=(6.75, 2.3))
        ...     ddln.plots.layers(trajectory, ax=axes[0])
        ...     figure.savefig("layers.pdf")
    """
    # In a notebook the backend, loaded by the first figure, turns interactive mode on. Loaded inside of
    # the context it would be off again afterwards, and no further figure would be shown.
    plt.draw_if_interactive()
    return matplotlib.style.context(FILE)


def markers(count: int) -> list[str]:
    """A marker for each of `count` curves."""
    return list(islice(cycle("os^DvPX"), count))


def looks(count: int) -> list[dict]:
    """The colours and dashes of `count` curves, independent of the cycle of their axes."""
    return list(islice(cycle(mpl.rcParams["axes.prop_cycle"]), count))
