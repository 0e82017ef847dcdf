"""Figures are drawn without a display, and leave no trace."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch):
    """No test may show a figure or change a global setting of matplotlib."""

    def show():
        raise AssertionError("A figure was shown.")

    monkeypatch.setattr(plt, "show", show)
    before = mpl.rcParams.copy()
    yield
    plt.close("all")
    assert mpl.rcParams == before
