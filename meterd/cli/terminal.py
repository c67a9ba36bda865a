"""Streams that escape control characters, so that device texts cannot control the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from meterd.model.text import escaped

# Control characters that commands use for the layout.
_LAYOUT_CONTROLS = "\n\t"


class _EscapingStream:
    """A text stream that escapes control characters; all else is the stream `raw`."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("text is expected")
        self.raw.write(escaped(text, _LAYOUT_CONTROLS))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def escaping_streams() -> Iterator[None]:
    """Escape stderr, and stdout where it is a terminal; in a pipe its bytes are for programs."""
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if isinstance(stream, TextIOWrapper):
            # A file name that is no UTF-8 has surrogates, which would raise UnicodeEncodeError.
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast("TextIO", _EscapingStream(err))
    if out.isatty():
        sys.stdout = cast("TextIO", _EscapingStream(out))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def raw(stream: TextIO) -> TextIO:
    """The stream without escaping, for progress bars and styles."""
    underlying: TextIO = (
        getattr(stream, "raw", stream) if isinstance(stream, _EscapingStream) else stream
    )
    return underlying
