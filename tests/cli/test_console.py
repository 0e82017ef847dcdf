import io
import os
import sys

import pytest
from rich.text import Text

from ddln.cli._console import Output, console


def test_a_closed_pipe_ends_nothing():
    read, write = os.pipe()
    stream = open(write, "w", encoding="utf-8")  # noqa: SIM115
    os.close(read)
    output = Output(stream)
    for _ in range(3):
        output.write("lost")
        output.flush()
    stream.close()
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
