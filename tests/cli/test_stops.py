"""Signals that end a run: the subject is `_main`."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ddln.cli import _main
from ddln.cli._main import stops_as_interrupts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_job_that_is_ended_is_interrupted(number):
    """As by Slurm, or by a terminal that closes: the finished chunks are kept, and the lock is released."""
    before = signal.getsignal(number)

    def run():
        with stops_as_interrupts():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored(monkeypatch):
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops_as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_before_a_command_begins_has_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(_main, "_run", interrupted)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        _main.main()
    assert end.value.code == _main.INTERRUPTED
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_process_that_is_interrupted_keeps_its_chunks_and_says_how_to_go_on(tmp_path):
    """As by Ctrl-C in a terminal, once a chunk is written."""
    program = "import sys; from ddln.cli import main; sys.exit(main())"
    options = ["--depths", "2", "--scale-count", "2000", "--t1", "100", "--no-figures"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "sweep", *options, "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and not (tmp_path / "run/results.zarr/result/c").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == _main.INTERRUPTED
    assert not complaints
    words = " ".join(said.split())
    kept = re.search(r"Interrupted. (\d+) of 4000 flows are kept .* --resume", words)
    assert kept
    assert int(kept[1]) > 0
