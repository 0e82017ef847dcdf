import io
import os
import sys

import pytest
from rich.text import Text

from ddln.cli._console import Output, console


def write_where_nobody_reads(reader, writer):
    stream = open(writer, "w", encoding="utf-8")  # noqa: SIM115
    os.close(reader)
    output = Output(stream)
    for _ in range(3):
        output.write("lost")
        output.flush()
    stream.close()


def test_a_closed_pipe_ends_nothing():
    write_where_nobody_reads(*os.pipe())
    # Without it the same is an error.
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError), open(write, "w", encoding="utf-8") as stream:
        stream.write("lost")


def test_letters_that_a_terminal_lacks_are_replaced():
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding="ascii")
    output = Output(stream)
    output.write("Labarrière")
    output.flush()
    assert data.getvalue() == b"Labarri?re"


def test_names_are_literal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    screen = console()
    screen.print("prices[v2].csv :smile: [bold]x[/]", Text.assemble(("[old]", "bold")))
    assert stream.getvalue().split() == ["prices[v2].csv", ":smile:", "[bold]x[/]", "[old]"]


def test_a_closed_terminal_ends_nothing():
    write_where_nobody_reads(*os.openpty())


def test_other_errors_of_a_stream_are_raised(tmp_path):
    """Such as those of a full disk, which `/dev/full` is."""
    with open("/dev/full", "w", encoding="utf-8") as stream:
        Output(stream).write("lost")
        with pytest.raises(OSError, match="No space"):
            Output(stream).flush()
        os.dup2(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), stream.fileno())
