"""Progress line of a sweep."""

import io

import pytest

from ddln.sweeps._progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_writes_one_line_to_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    line = ProgressLine()
    line(5, 10, 1)
    line(10, 10, 1)
    written = terminal.getvalue()
    assert "5/10 flows, 1 failed" in written
    assert written.count("\n") == 1
    assert written.endswith("\n")


def test_is_silent_elsewhere(monkeypatch, capsys):
    line = ProgressLine()
    line(5, 10, 0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("done", [0, 10])
def test_needs_no_time_to_have_passed(monkeypatch, done):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr("time.monotonic", lambda: 1.0)
    ProgressLine()(done, 10, 0)
