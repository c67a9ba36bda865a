"""Progress on stderr: a line with a bar or a count, where stderr is a terminal."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from meterd.cli.terminal import raw

_REDRAW_S = 0.1
_BAR_CHARS = 30
_ERASE = "\r\x1b[K"  # back to the first column, and clear from there


class ProgressLine:
    """A line that is redrawn in place, and erased at the end."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._drawn = float("-inf")

    def begin(self, what: str, total: int | None) -> None:
        """Begin a stage of `total` steps; None: unknown."""
        self._what, self._total, self._done = what, total, 0
        self._draw()

    def advance(self, steps: int) -> None:
        self._done += steps
        if self._monotonic() - self._drawn >= _REDRAW_S:
            self._draw()

    def close(self) -> None:
        self._stream.write(_ERASE)
        self._stream.flush()

    def _draw(self) -> None:
        self._drawn = self._monotonic()
        # A wrapped line could not be erased.
        text = self._text()[: shutil.get_terminal_size().columns - 1]
        self._stream.write(_ERASE + text)
        self._stream.flush()

    def _text(self) -> str:
        if not self._total:
            return f"{self._what} {self._done:,}" if self._done else f"{self._what} …"
        share = min(self._done / self._total, 1.0)
        bar = "#" * round(share * _BAR_CHARS)
        return f"{self._what} [{bar:<{_BAR_CHARS}}] {share:4.0%}"


@contextmanager
def progress_line() -> Iterator[ProgressLine | None]:
    """A line for work with several stages; None where stderr is no terminal, or NO_COLOR is set."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        yield None
        return
    line = ProgressLine(raw(sys.stderr))
    try:
        yield line
    finally:
        line.close()


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show progress; yields the function that advances it by a number of steps."""
    with progress_line() as line:
        if line is None:
            yield lambda more: None
        else:
            line.begin(what, total)
            yield line.advance
