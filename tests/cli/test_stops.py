"""Signals that end a run: the subject is `_main`."""

import os
import signal
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
