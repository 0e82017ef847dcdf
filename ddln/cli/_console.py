"""The terminal, on which nothing that a command prints can end it."""

import errno
import os
import sys
from typing import Any

from rich.console import Console


class Output:
    """A text stream that drops output whose reader has gone, and replaces letters it does not have.

    Results outlast their display: `ddln sweep | head` closes the pipe long before the end, and a
    terminal may know no letters but those of ASCII.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, as far as the stream takes it."""
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if it has a reader."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        # EIO is the answer of a terminal that was closed.
        if error.errno not in (errno.EPIPE, errno.EIO):
            raise error
        # The buffer of the stream and the flush at exit need a place to go to.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def console() -> Console:
    """A console on the standard output, where square brackets and colons in names are literal."""
    return Console(file=Output(sys.stdout), markup=False, emoji=False)  # pyright: ignore[reportArgumentType]
