"""One line on stderr that says how far something is; nothing where stderr is no terminal."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from meterd.cli.terminal import raw

_REDRAW_S = 0.1
_BAR = 30  # characters
_ERASE = "\r\x1b[K"  # back to the first column, and clear from there


class ProgressLine:
    """A line that is drawn over itself, and gone at the end."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._drawn = float("-inf")

    def begin(self, what: str, total: int | None) -> None:
        """A stage of so many steps; None where nobody knows how many."""
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
        # A line that wraps could not be drawn over.
        text = self._text()[: shutil.get_terminal_size().columns - 1]
        self._stream.write(_ERASE + text)
        self._stream.flush()

    def _text(self) -> str:
        if not self._total:
            return f"{self._what} {self._done:,}" if self._done else f"{self._what} …"
        share = min(self._done / self._total, 1.0)
        bar = "#" * round(share * _BAR)
        return f"{self._what} [{bar:<{_BAR}}] {share:4.0%}"


@contextmanager
def progress_line() -> Iterator[ProgressLine | None]:
    """The line, for what has several stages; None where stderr is not to be drawn on."""
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
    """Gives a function that is told how much more is done."""
    with progress_line() as line:
        if line is None:
            yield lambda more: None
        else:
            line.begin(what, total)
            yield line.advance
