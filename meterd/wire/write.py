"""Modbus writes over a link: sent once, done when the unit's reply echoes the request.

function 6   | address | word  |                      the reply is the same
function 16  | address | count | bytes | words ... |  the reply is the address and the count

An RS-485 adapter with local echo returns function 6 as if the unit had replied; use 16 there.
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

_WRITE_SINGLE, _WRITE_MULTIPLE = 6, 16
_TID_BYTES = 2
# Above the byte count of any read reply, so that none matches.
_NO_BYTE_COUNT = 0x100


class _Echo(ModbusReply):
    """Parser that accepts exactly one PDU, `_echo`, or an exception of the unit."""

    __slots__ = ()
    _echo: bytes

    def _registers(self, unit: int, pdu: bytes) -> bytes | None:
        if pdu == self._echo and unit == self._unit:
            return pdu
        if pdu[:1] == self._echo[:1]:
            self._drop("wrong_unit" if unit != self._unit else "wrong_count")
            return None
        # An exception, or the reply to another request.
        return super()._registers(unit, pdu)

    def _request_text(self) -> str:
        return f"asked unit {self._unit} to write, function {self._function}"


class _TcpEcho(_Echo, TcpReply):
    __slots__ = ("_echo",)

    def __init__(self, link: Link, transaction: int, unit: int, echo: bytes) -> None:
        super().__init__(link, transaction, unit, echo[0], _NO_BYTE_COUNT)
        self._echo = echo

    def _has_long_length(self, buffer: bytearray, end: int) -> bool:
        """A reply with a wrong length field is not accepted for a write."""
        return False


class _SerialEcho(_Echo, SerialReply):
    """Accepts a reply with its copy behind it: some gateways send each frame twice."""

    __slots__ = ()

    def _is_copy(self, raw: bytes, rest: bytearray) -> bool:
        if rest == raw:
            rest.clear()
            return False
        return super()._is_copy(raw, rest)


class _RtuEcho(_SerialEcho, RtuReply):
    __slots__ = ("_echo",)

    def __init__(self, link: Link, unit: int, echo: bytes) -> None:
        # RtuReply looks for unit, function and this byte where noise precedes the frame.
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
    """Write registers (function 6: one, 16: several), once: never sent again after a reconnect.

    Raises Refused or ModbusException where the unit refuses, and LinkError where no echo came in
    time: then the outcome is unknown.
    """
    request, echo = _pdus(function, address, values)
    framer = link.options["framer"]
    try:
        if framer in _SERIAL:
            codec, kind = _SERIAL[framer]
            frame = codec.encode(request, unit, 0)
            await link.exchange(frame, kind(link, unit, echo).parse, station=unit, once=True)
            return
        transaction = link.ticket()
        reply = _TcpEcho(link, transaction, unit, echo)
        frame = transaction.to_bytes(_TID_BYTES, "big") + MBAP.encode(request, unit, 0)[_TID_BYTES:]
        await link.exchange(
            frame, reply.parse, quiet=False, ticket=transaction, station=unit, once=True
        )
    except LinkError as error:
        text = f"{error}: nobody knows whether register {address} was written"
        raise LinkError(text, code=error.code) from error


def _pdus(function: int, address: int, values: tuple[int, ...]) -> tuple[bytes, bytes]:
    """The request's PDU and the PDU of the reply that confirms it."""
    words = struct.pack(f">{len(values)}H", *values)
    if function == _WRITE_SINGLE and len(values) == 1:
        request = struct.pack(">BH", function, address) + words
        return request, request
    if function != _WRITE_MULTIPLE:
        raise ValueError(f"function {function} writes no {len(values)} registers")
    echo = struct.pack(">BHH", function, address, len(values))
    return echo + bytes([len(words)]) + words, echo
