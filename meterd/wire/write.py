"""One Modbus write over a link: sent once, and counted as done only when the unit repeats it.

function 6   | address | word  |                      the reply is the same
function 16  | address | count | bytes | words ... |  the reply is the address and the count

An RS-485 adapter that hears itself repeats function 6 on its own; where there is one, use 16.
"""

import struct

from pymodbus.framer import FramerBase

from meterd.errors import LinkError
from meterd.wire.link import Link
from meterd.wire.replies import (
    ASCII,
    MBAP,
    RTU,
    AsciiReply,
    ModbusReply,
    RtuReply,
    SerialReply,
    TcpReply,
)

_ONE, _SEVERAL = 6, 16
_TICKET_SIZE = 2
# More than the byte count of a read can say: no reply is taken for one.
_NO_SIZE = 0x100


class _Echo(ModbusReply):
    """Awaits exactly one PDU, `echo`, or the unit's no."""

    __slots__ = ()
    _echo: bytes

    def _registers(self, unit: int, pdu: bytes) -> bytes | None:
        if pdu == self._echo and unit == self._unit:
            return pdu
        if pdu[:1] == self._echo[:1]:
            self._drop("wrong_unit" if unit != self._unit else "wrong_count")
            return None
        # An exception, or an answer to something else.
        return super()._registers(unit, pdu)

    def _asked(self) -> str:
        return f"asked unit {self._unit} to write, function {self._function}"


class _TcpEcho(_Echo, TcpReply):
    __slots__ = ("_echo",)

    def __init__(self, link: Link, ticket: int, unit: int, echo: bytes) -> None:
        super().__init__(link, ticket, unit, echo[0], _NO_SIZE)
        self._echo = echo

    def _is_whole(self, buffer: bytearray, end: int) -> bool:
        """A lying length is no yes to a write."""
        return False


class _SerialEcho(_Echo, SerialReply):
    """A gateway that doubles what it passes on says the same yes twice."""

    __slots__ = ()

    def _is_copy(self, raw: bytes, rest: bytearray) -> bool:
        if rest == raw:
            rest.clear()
            return False
        return super()._is_copy(raw, rest)


class _RtuEcho(_SerialEcho, RtuReply):
    __slots__ = ("_echo",)

    def __init__(self, link: Link, unit: int, echo: bytes) -> None:
        # Where noise begins a frame, its head is looked for: the byte behind the function.
        super().__init__(link, unit, echo[0], echo[1])
        self._echo = echo


class _AsciiEcho(_SerialEcho, AsciiReply):
    __slots__ = ("_echo",)

    def __init__(self, link: Link, unit: int, echo: bytes) -> None:
        super().__init__(link, unit, echo[0], echo[1])
        self._echo = echo


_SERIAL: dict[str, tuple[FramerBase, type[_RtuEcho | _AsciiEcho]]] = {
    "rtu": (RTU, _RtuEcho),
    "ascii": (ASCII, _AsciiEcho),
}


async def write(
    link: Link, unit: int, function: int, address: int, values: tuple[int, ...]
) -> None:
    """Write registers (6: one, 16: several), once: it is not sent again on a new connection.

    Raises Refused or ModbusException where the unit says no, and LinkError where it does not
    repeat the write in time: then nobody knows whether it was taken.
    """
    request, echo = _pdus(function, address, values)
    framer = link.options["framer"]
    try:
        if framer in _SERIAL:
            codec, kind = _SERIAL[framer]
            frame = codec.encode(request, unit, 0)
            await link.exchange(frame, kind(link, unit, echo).parse, station=unit, once=True)
            return
        ticket = link.ticket()
        answer = _TcpEcho(link, ticket, unit, echo)
        frame = ticket.to_bytes(_TICKET_SIZE, "big") + MBAP.encode(request, unit, 0)[_TICKET_SIZE:]
        await link.exchange(
            frame, answer.parse, quiet=False, ticket=ticket, station=unit, once=True
        )
    except LinkError as error:
        text = f"{error}: nobody knows whether register {address} was written"
        raise LinkError(text, code=error.code) from error


def _pdus(function: int, address: int, values: tuple[int, ...]) -> tuple[bytes, bytes]:
    """The request and the reply that it must have."""
    words = struct.pack(f">{len(values)}H", *values)
    if function == _ONE and len(values) == 1:
        request = struct.pack(">BH", function, address) + words
        return request, request
    if function != _SEVERAL:
        raise ValueError(f"function {function} writes no {len(values)} registers")
    echo = struct.pack(">BHH", function, address, len(values))
    return echo + bytes([len(words)]) + words, echo
