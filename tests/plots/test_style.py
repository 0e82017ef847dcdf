import os
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from ddln import plots

OKABE_ITO = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def test_applies_within_the_context_only():
    outside = mpl.rcParams["font.size"]
    with plots.style():
        assert mpl.rcParams["font.size"] == 8
        assert mpl.rcParams["figure.figsize"][0] == 3.3
    assert mpl.rcParams["font.size"] == outside != 8


def test_curves_differ_in_colour_and_in_dashes():
    with plots.style():
        cycle = list(mpl.rcParams["axes.prop_cycle"])
    colors = [to_hex(look["color"]) for look in cycle]
    assert len(set(colors)) == len(colors)
    assert set(colors) <= set(OKABE_ITO)
    assert len({str(look["linestyle"]) for look in cycle}) == len(cycle)


def test_palette_is_the_same_on_axes_of_another_style():
    with plt.style.context("ggplot"):
        _, ax = plt.subplots()
        plots.scale_curves([0.1, 1.0], np.ones((2, 2, 1)), [2, 3], label="error", ax=ax)
        assert [to_hex(line.get_color()) for line in ax.get_lines()] == ["#0072b2", "#d55e00"]


def test_ticks_are_the_same_drawn_in_and_out_of_the_context():
    values = np.array([0.0, 1.7])[None, :, None]
    ax = plots.scale_curves([0.1, 1.0], values, [2], label="error")
    with plots.style():
        inside = ax.get_yticks()
    with plt.style.context({"ytick.labelsize": 40}):
        np.testing.assert_array_equal(ax.get_yticks(), inside)


@pytest.mark.parametrize("which", ["major", "minor"])
def test_ticks_drawn_after_the_context_have_its_looks(which):
    ax = plots.phase([0.1, 1.0], [2, 3], [[1.0, 2.0], [3.0, 900.0]], label="distance")
    ax.figure.canvas.draw()
    for axes in ax.figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for tick in axis.get_ticklines(minor=which == "minor"):
                assert tick.get_markersize() == {"major": 3, "minor": 1.5}[which]
    with plots.style():
        size = mpl.rcParams["xtick.labelsize"]
    assert {label.get_fontsize() for label in ax.get_xticklabels()} == {size}


BACKEND = """
import matplotlib
from matplotlib.backends.backend_agg import *
matplotlib.interactive(True)
"""


def test_a_first_figure_in_the_context_leaves_interactive_mode_to_the_backend(tmp_path):
    """As the backend of notebooks does, which shows no figure otherwise."""
    (tmp_path / "notebook_backend.py").write_text(BACKEND)
    program = """
import matplotlib.pyplot as plt
from ddln import plots
with plots.style():
    plt.figure()
assert plt.isinteractive()
"""
    environment = os.environ | {
        "MPLBACKEND": "module://notebook_backend",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
