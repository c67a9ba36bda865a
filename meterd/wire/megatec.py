"""Megatec lines: one command, one line of answer, each ended by CR. Orders meet silence.

> Q1\\r
< (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\\r
> T\\r
"""

import re
from weakref import WeakKeyDictionary

from meterd.errors import DeviceCode, LinkCode, LinkError, ProtocolError, Unsupported
from meterd.wire.link import Link

_CR = b"\r"
_PADDING = b"\x00\r\n"
_PRINTABLE = re.compile(rb"[ -~]*")
# A status line whose CR was lost: it is whole when its eight status characters are there.
_WHOLE_STATUS = re.compile(rb"\([ -~]* [01]{8}")
_REFUSALS = (b"N", b"NAK", b"(NAK")
# What units say that do not keep silent about an order they took, and how that begins.
_TAKEN = (b"ACK", b"(ACK", b"OK")
_TAKEN_STARTS = (b"A", b"(", b"O")
# The longest line asked for has 47 bytes; blanks that some firmware pads with fit as well.
LINE_LIMIT = 128

# The command answered last on each link, and its line: an interface that repeats lines sends that
# once more, perhaps when the next command is out.
_LAST: WeakKeyDictionary[Link, tuple[bytes, bytes]] = WeakKeyDictionary()


async def ask(link: Link, command: str, start: bytes) -> str:
    """The answer to `command` without its CR; it begins with the byte `start`.

    Raises Unsupported when the unit echoes or refuses the command, ProtocolError (code
    `garbled`) when a line came that is no answer, and the link's own LinkError.
    """
    answer = _Answer(link, command.encode("ascii"), start)
    try:
        line = await link.exchange(command.encode("ascii") + _CR, answer, quiet=True)
    except LinkError as error:
        if error.code != LinkCode.TIMEOUT:
            raise
        silent = answer.at_silence()
        if silent is None:
            raise
        line = silent
    _LAST[link] = command.encode("ascii"), line.encode("ascii")
    return line


async def tell(link: Link, command: str) -> None:
    """Send an order, once: silence or an ACK means that the unit took it.

    Raises Unsupported when the unit echoes or refuses it, ProtocolError (code `garbled`) when
    something else came, so that nobody knows, and the link's own LinkError.
    """
    verdict = _CommandReply(link, command.encode("ascii"), _TAKEN_STARTS)
    try:
        await link.exchange(command.encode("ascii") + _CR, verdict, quiet=True, once=True)
    except LinkError as error:
        if error.code == LinkCode.CLOSED:
            text = (
                f"{error}: nobody knows whether {command} was taken; look before sending it again"
            )
            raise LinkError(text, code=LinkCode.CLOSED) from error
        if error.code != LinkCode.TIMEOUT:
            raise
        verdict.at_silence()
        # No answer was owed, so none is missing.
        link.count("timeout", -1)


class _Answer:
    """Looks for the answer to one command in what arrives."""

    def __init__(self, link: Link, command: bytes, start: bytes | tuple[bytes, ...]) -> None:
        self._link = link
        self._command = command
        self._start = start
        self._heard = b""
        self._copy: bytes | None = None

    def __call__(self, buffer: bytearray) -> str | None:
        self._drop_padding(buffer)
        if self._is_echo_so_far(buffer):
            self._heard = bytes(buffer)
            return None
        end = buffer.find(_CR)
        length = len(buffer) if end < 0 else end
        if length > LINE_LIMIT:
            raise ProtocolError(f"{length} bytes without an end of line", code=LinkCode.GARBLED)
        if end < 0:
            self._heard = bytes(buffer)
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self._drop_padding(buffer)
        self._heard = b""
        if self._repeats(line):
            self._link.count("copies")
            self._copy = line
            return self(buffer) if buffer else None
        return self._judge(line)

    def _repeats(self, line: bytes) -> bool:
        """Whether another command was just answered with this line."""
        command, answer = _LAST.get(self._link, (self._command, b""))
        return command != self._command and answer == line

    def at_silence(self) -> str | None:
        """The answer after all, once nothing more came: a whole line that only lacks its CR, or
        one that is as the last answer to another command was."""
        if self._copy is not None and not self._heard:
            return self._judge(self._copy)
        heard = self._heard.strip(_PADDING)
        if heard == self._command or heard in _REFUSALS:
            raise self._refused(heard)
        if self._start != b"(" or not _WHOLE_STATUS.fullmatch(heard):
            return None
        self._link.count("no_cr")
        return heard.decode("ascii")

    def _drop_padding(self, buffer: bytearray) -> None:
        padding = len(buffer) - len(buffer.lstrip(_PADDING))
        if padding:
            del buffer[:padding]
            self._link.count("padding", padding)

    def _is_echo_so_far(self, buffer: bytearray) -> bool:
        """Whether only the echo came yet; drops it as soon as the answer begins behind it."""
        if not buffer.startswith(self._command):
            return False
        rest = buffer[len(self._command) :].lstrip(_PADDING)
        if rest.startswith(self._start):
            del buffer[: len(buffer) - len(rest)]
            self._link.count("echo")
        return not rest

    def _judge(self, line: bytes) -> str:
        if line == self._command or line in _REFUSALS:
            raise self._refused(line)
        if not line.startswith(self._start) or not _PRINTABLE.fullmatch(line):
            asked = self._command.decode("ascii")
            raise ProtocolError(f"{line[:60]!r} is no answer to {asked}", code=LinkCode.GARBLED)
        return line.decode("ascii")

    def _refused(self, line: bytes) -> Unsupported:
        asked = self._command.decode("ascii")
        how = "echoed" if line == self._command else f"answered {line.decode('ascii')}"
        return Unsupported(f"the unit does not know {asked}: it {how}", code=DeviceCode.UNSUPPORTED)


class _CommandReply(_Answer):
    """Looks for what a unit says to an order, mostly nothing."""

    def at_silence(self) -> str | None:
        """None for the silence that means yes; an answer may lack its CR here, too."""
        heard = self._heard.strip(_PADDING)
        return self._judge(heard) if heard else None

    def _judge(self, line: bytes) -> str:
        if line == self._command or line in _REFUSALS:
            raise self._refused(line)
        if line not in _TAKEN:
            told = self._command.decode("ascii")
            text = f"{line[:60]!r} does not say whether {told} was taken"
            raise ProtocolError(text, code=LinkCode.GARBLED)
        return line.decode("ascii")
