"""The Megatec protocol: a command and a reply line, each ended by CR; commands that make the UPS
act (`T`, test) get no reply.

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
# A status line whose CR was lost is complete when it ends with its eight status bits.
_WHOLE_STATUS = re.compile(rb"\([ -~]* [01]{8}")
_REFUSALS = (b"N", b"NAK", b"(NAK")
# Replies of units that acknowledge a command in place of silence, and their first bytes.
_ACKNOWLEDGEMENTS = (b"ACK", b"(ACK", b"OK")
_ACKNOWLEDGEMENT_STARTS = (b"A", b"(", b"O")
# Bytes. The longest reply line has 47; the rest is room for blanks that some firmware pads with.
LINE_LIMIT = 128

# The last answered command of each link and its reply line: some interfaces repeat a line, even
# after the next command was sent.
_LAST_REPLIES: WeakKeyDictionary[Link, tuple[bytes, bytes]] = WeakKeyDictionary()


async def query(link: Link, command: str, start: bytes) -> str:
    """Send a query; returns its reply line without CR, which begins with the byte `start`.

    Raises Unsupported when the unit echoes or refuses the command, ProtocolError (code
    `garbled`) for a line that is no reply to it, and the link's own LinkError.
    """
    reply = _ReplyLine(link, command.encode("ascii"), start)
    try:
        line = await link.exchange(command.encode("ascii") + _CR, reply, quiet=True)
    except LinkError as error:
        if error.code != LinkCode.TIMEOUT:
            raise
        late_line = reply.at_timeout()
        if late_line is None:
            raise
        line = late_line
    _LAST_REPLIES[link] = command.encode("ascii"), line.encode("ascii")
    return line


async def send_command(link: Link, command: str) -> None:
    """Send a command that makes the unit act, once: silence or an ACK means that it was accepted.

    Raises Unsupported when the unit echoes or refuses it, ProtocolError (code `garbled`) when
    something else came, so that the outcome is unknown, and the link's own LinkError.
    """
    acknowledgement = _Acknowledgement(link, command.encode("ascii"), _ACKNOWLEDGEMENT_STARTS)
    try:
        await link.exchange(command.encode("ascii") + _CR, acknowledgement, quiet=True, once=True)
    except LinkError as error:
        if error.code == LinkCode.CLOSED:
            text = (
                f"{error}: nobody knows whether {command} was taken; look before sending it again"
            )
            raise LinkError(text, code=LinkCode.CLOSED) from error
        if error.code != LinkCode.TIMEOUT:
            raise
        acknowledgement.at_timeout()
        # The link has counted a timeout, but this command has no reply that could be missing.
        link.count("timeout", -1)


class _ReplyLine:
    """Parser (wire.link.Parse) of the reply line to one query."""

    def __init__(self, link: Link, command: bytes, start: bytes | tuple[bytes, ...]) -> None:
        self._link = link
        self._command = command
        self._start = start
        self._partial = b""
        self._copy: bytes | None = None

    def __call__(self, buffer: bytearray) -> str | None:
        self._drop_padding(buffer)
        if self._is_echo_so_far(buffer):
            self._partial = bytes(buffer)
            return None
        end = buffer.find(_CR)
        length = len(buffer) if end < 0 else end
        if length > LINE_LIMIT:
            raise ProtocolError(f"{length} bytes without an end of line", code=LinkCode.GARBLED)
        if end < 0:
            self._partial = bytes(buffer)
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self._drop_padding(buffer)
        self._partial = b""
        if self._repeats(line):
            self._link.count("copies")
            self._copy = line
            return self(buffer) if buffer else None
        return self._judge(line)

    def _repeats(self, line: bytes) -> bool:
        """Whether this line is the reply to the command before, which was another one."""
        command, reply = _LAST_REPLIES.get(self._link, (self._command, b""))
        return command != self._command and reply == line

    def at_timeout(self) -> str | None:
        """The reply found when the timeout has passed; None if there is none.

        It is a complete status line without its CR, or a line equal to the reply before that was
        taken for its copy.
        """
        if self._copy is not None and not self._partial:
            return self._judge(self._copy)
        partial = self._partial.strip(_PADDING)
        if partial == self._command or partial in _REFUSALS:
            raise self._refused(partial)
        if self._start != b"(" or not _WHOLE_STATUS.fullmatch(partial):
            return None
        self._link.count("no_cr")
        return partial.decode("ascii")

    def _drop_padding(self, buffer: bytearray) -> None:
        padding = len(buffer) - len(buffer.lstrip(_PADDING))
        if padding:
            del buffer[:padding]
            self._link.count("padding", padding)

    def _is_echo_so_far(self, buffer: bytearray) -> bool:
        """Whether only the echo of the command came yet; drops it once the reply follows it."""
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
            command = self._command.decode("ascii")
            raise ProtocolError(f"{line[:60]!r} is no answer to {command}", code=LinkCode.GARBLED)
        return line.decode("ascii")

    def _refused(self, line: bytes) -> Unsupported:
        command = self._command.decode("ascii")
        how = "echoed" if line == self._command else f"answered {line.decode('ascii')}"
        return Unsupported(
            f"the unit does not know {command}: it {how}", code=DeviceCode.UNSUPPORTED
        )


class _Acknowledgement(_ReplyLine):
    """Parser of the acknowledgement of a command; most units send none."""

    def at_timeout(self) -> str | None:
        """None for silence, which means accepted; an acknowledgement may lack its CR here, too."""
        partial = self._partial.strip(_PADDING)
        return self._judge(partial) if partial else None

    def _judge(self, line: bytes) -> str:
        if line == self._command or line in _REFUSALS:
            raise self._refused(line)
        if line not in _ACKNOWLEDGEMENTS:
            command = self._command.decode("ascii")
            text = f"{line[:60]!r} does not say whether {command} was taken"
            raise ProtocolError(text, code=LinkCode.GARBLED)
        return line.decode("ascii")
