"""A link that answers from a script: a dict, or a transcript of lines.

    # a comment
    > "Q1\\r"                   a request: text in double quotes, with \\r \\n \\0 \\xNN \\\\ \\"
    < 28 32 32 36              its reply: hex, blanks between bytes are allowed
    < ".0 195.0 226.0 014"     more of the same reply, arriving as a second piece
    > "QS\\r"                   a request without a reply meets silence

The same request again gives its next reply; the last one repeats.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from meterd.errors import LinkCode, LinkError, ProtocolError
from meterd.wire.link import Parse, Times
from meterd.wire.rtt_estimator import RttEstimator
from meterd.wire.stream import BUFFER_LIMIT

T = TypeVar("T")

Reply: TypeAlias = bytes | Sequence[bytes] | LinkError
"""Bytes that arrive at once, pieces that arrive one after the other, or a failing link."""

Script: TypeAlias = Mapping[bytes, Reply | list[Reply]]
"""A list is of replies to the same request, one each time; the last one repeats."""

_LINE = re.compile(r'([<>]) (?:"((?:[^"\\]|\\.)*)"|([0-9A-Fa-f ]+))')


class ScriptedLink:
    """The Link protocol over a script. A request that is not in it meets silence, at once.

    `url` and `timeout` are only what drivers may ask a link for; nothing waits. `chop`: cut every
    reply into pieces of so many bytes, as networks do: a driver that parses 1 byte at a time
    parses any pieces. `sent` lists all requests.
    """

    took = 0.0

    def __init__(
        self,
        script: Script,
        *,
        chop: int = 0,
        framer: str = "rtu",
        url: str = "scripted:",
        timeout: float = 1.0,
    ) -> None:
        self.url = url
        self.timeout = timeout
        self.options: Mapping[str, str] = {"framer": framer}
        self.epoch = 0
        self.counters: Counter[str] = Counter()
        self.sent: list[bytes] = []
        self.buffer = bytearray()
        self._script = {request: _queue(replies) for request, replies in script.items()}
        self._chop = chop
        self._ticket = 0
        self._expired: set[int] = set()

    @classmethod
    def from_transcript(
        cls, file: Path | str, *, chop: int = 0, framer: str = "rtu"
    ) -> "ScriptedLink":
        """From a file in the format above. Raises ValueError, with the line, where it is not."""
        return cls(parse_transcript(Path(file).read_text("utf-8")), chop=chop, framer=framer)

    def script(self, request: bytes, reply: Reply | list[Reply]) -> None:
        """From now on, the request gets this reply."""
        self._script[request] = _queue(reply)

    def reopen(self) -> None:
        """As if the port had gone and come back."""
        self.epoch += 1

    async def exchange(
        self,
        request: bytes,
        parse: Parse[T],
        *,
        timeout: float | None = None,
        quiet: bool = True,
        ticket: int = 0,
        pace: RttEstimator | None = None,
        station: int = 0,
        once: bool = False,
    ) -> T:
        self.epoch = self.epoch or 1
        self.sent.append(request)
        if quiet and self.buffer:
            self.counters["stray"] += 1
            self.buffer.clear()
        try:
            for piece in self._pieces(request):
                self.buffer += piece
                if (answer := parse(self.buffer)) is not None:
                    return answer
                if len(self.buffer) > BUFFER_LIMIT:
                    raise ProtocolError("more bytes than any frame has", code=LinkCode.FLOOD)
            raise LinkError("no answer: the script has no more", code=LinkCode.TIMEOUT)
        except LinkError as error:
            self.counters[error.code] += 1
            self._expired.add(ticket)
            self.buffer.clear()
            raise

    def _pieces(self, request: bytes) -> Iterator[bytes]:
        replies = self._script.get(request)
        if not replies:
            return
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, LinkError):
            # A copy: the script's own would collect a traceback each time.
            raise type(reply)(str(reply), code=reply.code)
        for piece in [reply] if isinstance(reply, bytes) else reply:
            step = self._chop or max(len(piece), 1)
            yield from (piece[at : at + step] for at in range(0, len(piece), step))

    def retime(self, times: Times) -> None:
        self.timeout = times.timeout

    def ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def expired(self, ticket: int) -> bool:
        return ticket in self._expired

    def count(self, what: str, n: int = 1) -> None:
        self.counters[what] += n

    async def close(self) -> None:
        self.buffer.clear()


def _queue(replies: Reply | list[Reply]) -> list[Reply]:
    return list(replies) if isinstance(replies, list) else [replies]


def parse_transcript(text: str) -> dict[bytes, list[Reply]]:
    """A script from a text in the format above. Raises ValueError, with the line of a mistake."""
    script: dict[bytes, list[Reply]] = {}
    pieces: list[bytes] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if (match := _LINE.fullmatch(line)) is None:
            raise ValueError(f'line {number}: not `> …` or `< …` of hex or "text": {line}')
        data = _unquote(match[2]) if match[2] is not None else bytes.fromhex(match[3])
        if match[1] == ">":
            pieces = []
            script.setdefault(data, []).append(pieces)
        elif not script:
            raise ValueError(f"line {number}: a reply before any request")
        else:
            pieces.append(data)
    return script


def _unquote(text: str) -> bytes:
    decoded, _ = codecs.escape_decode(text.encode("latin-1"))
    return decoded
