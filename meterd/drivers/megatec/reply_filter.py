"""Which answers are believed: a byte that was lost or doubled leaves numbers that look real.

< (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000    as the documents draw it: believed at once
< (22.0 195.0 226.0 014 49.0 27.5 30.0 00001000     another shape: a unit's own, or a lost byte
"""

from collections.abc import Callable
from typing import TypeVar

from meterd.drivers.megatec.lines import is_drawn, shape
from meterd.errors import LinkCode, ProtocolError
from meterd.wire.link import Link
from meterd.wire.megatec import ask

T = TypeVar("T")

_TRIES = 2
# So many answers in a row have to have a shape of the unit's own: from the first on, and where
# others before were as the documents draw them.
_SURE, _SURE_AFTER_DRAWN = 2, 4


class ReplyFilter:
    """The answers of one unit."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._drawn: set[str] = set()
        self._known: dict[str, str] = {}
        self._odd: dict[str, tuple[str, int]] = {}

    async def ask(self, command: str, start: bytes, cut: Callable[[str], T]) -> T:
        """What `cut` makes of the answer. Raises what `ask` of the wire and `cut` raise."""
        for _ in range(_TRIES):
            line = await ask(self._link, command, start)
            answer = self._cut(line, cut)
            if self._believes(command, line):
                return answer
        self._link.count("garbled")
        text = f"{line!r} has another shape than the answer before: the line loses bytes"
        raise ProtocolError(text, code=LinkCode.GARBLED)

    def _cut(self, line: str, cut: Callable[[str], T]) -> T:
        try:
            return cut(line)
        except ProtocolError:
            self._link.count("garbled")
            raise

    def _believes(self, command: str, line: str) -> bool:
        found = shape(line)
        if is_drawn(line):
            self._drawn.add(command)
        elif found != self._known.get(command) and not self._again(command, found):
            return False
        else:
            self._known[command] = found
        self._odd.pop(command, None)
        return True

    def _again(self, command: str, found: str) -> bool:
        """Whether it has come often enough in a row."""
        before, times = self._odd.get(command, ("", 0))
        times = times + 1 if found == before else 1
        self._odd[command] = found, times
        return times >= (_SURE_AFTER_DRAWN if command in self._drawn else _SURE)
