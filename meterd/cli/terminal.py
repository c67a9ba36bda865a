"""stdout and stderr that show what others have written as text, whatever is in it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from meterd.model.text import escaped

# What commands write themselves to lay out lines.
_KEPT = "\n\t"


class _Plain:
    """A stream in which no control character reaches the terminal."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("text is expected")
        self.raw.write(escaped(text, _KEPT))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def plain_streams() -> Iterator[None]:
    """stderr is for people; so is stdout where it is a terminal, and else for programs."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, TextIOWrapper):
            # Half a pair of surrogates out of a file's name is no reason to end.
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast("TextIO", _Plain(err))
    if out.isatty():
        sys.stdout = cast("TextIO", _Plain(out))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def raw(stream: TextIO) -> TextIO:
    """For what moves the cursor by itself: bars and styles."""
    found: TextIO = getattr(stream, "raw", stream) if isinstance(stream, _Plain) else stream
    return found
