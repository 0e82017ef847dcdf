"""Progress line of a sweep on a terminal."""

import sys
import time


class ProgressLine:
    """Progress line of a sweep, written to standard error if that is a terminal.

    Args:
        kept: number of lanes that an earlier run has done.
    """

    def __init__(self, kept: int = 0):
        self._kept = kept
        self._start = time.monotonic()
        self._active = sys.stderr.isatty()

    def __call__(self, done: int, total: int, failed: int) -> None:
        if not self._active:
            return
        elapsed = time.monotonic() - self._start
        rate = (done - self._kept) / elapsed if elapsed > 0 else 0.0
        left = (total - done) / rate if rate > 0 else 0.0
        end = "\n" if done == total else ""
        sys.stderr.write(
            f"\r{done}/{total} flows, {failed} failed, {rate:.0f}/s, {left:.0f} s left \033[K{end}"
        )
        sys.stderr.flush()
