"""Reply filter by the shape of lines: a lost or doubled byte leaves numbers that look valid.

< (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000    the documents' shape: accepted at once
< (22.0 195.0 226.0 014 49.0 27.5 30.0 00001000     another shape: the unit's own, or a lost byte
"""

from collections.abc import Callable
from typing import TypeVar

from meterd.drivers.megatec.reply_lines import is_documented, shape
from meterd.errors import LinkCode, ProtocolError
from meterd.wire.link import Link
from meterd.wire.megatec import query

T = TypeVar("T")

_ATTEMPTS = 2
# Replies in a row that must have the same shape, if it is not the documents': in general, and
# after replies with the documents' shape.
_EQUAL_SHAPES_MIN, _EQUAL_SHAPES_AFTER_DOCUMENTED = 2, 4


class ReplyFilter:
    """The filter of one unit's replies."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._documented: set[str] = set()
        self._shapes: dict[str, str] = {}
        self._pending_shapes: dict[str, tuple[str, int]] = {}

    async def query(self, command: str, start: bytes, parse: Callable[[str], T]) -> T:
        """The reply as `parse` parses it. Raises what the wire's `query` and `parse` raise."""
        for _ in range(_ATTEMPTS):
            line = await query(self._link, command, start)
            answer = self._parse(line, parse)
            if self._accepts(command, line):
                return answer
        self._link.count("garbled")
        text = f"{line!r} has another shape than the answer before: the line loses bytes"
        raise ProtocolError(text, code=LinkCode.GARBLED)

    def _parse(self, line: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(line)
        except ProtocolError:
            self._link.count("garbled")
            raise

    def _accepts(self, command: str, line: str) -> bool:
        line_shape = shape(line)
        if is_documented(line):
            self._documented.add(command)
        elif line_shape != self._shapes.get(command) and not self._is_repeated(command, line_shape):
            return False
        else:
            self._shapes[command] = line_shape
        self._pending_shapes.pop(command, None)
        return True

    def _is_repeated(self, command: str, line_shape: str) -> bool:
        """Whether this shape has come often enough in a row."""
        before, times = self._pending_shapes.get(command, ("", 0))
        times = times + 1 if line_shape == before else 1
        self._pending_shapes[command] = line_shape, times
        return times >= (
            _EQUAL_SHAPES_AFTER_DOCUMENTED if command in self._documented else _EQUAL_SHAPES_MIN
        )
