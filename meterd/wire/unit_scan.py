"""Is anybody there: one request to a unit, where any frame of its own is a yes, a no included.

A sweep over a bus meets silence nearly always, so it is not waited for as an exchange that
lost its reply would: what comes late names its unit itself.
"""

import struct
import sys

from meterd.errors import LinkCode, LinkError
from meterd.wire.link import Link
from meterd.wire.replies import MBAP, RTU
from meterd.wire.streamlink import StreamLink

_HEADER = struct.Struct(">HHHB")
_READ = struct.Struct(">BHH")
_LENGTHS = range(3, 255)
_SHORTEST_RTU = 5
_READS = range(1, 5)
_REFUSAL = 0x80
# Exceptions of a gateway: nobody is there.
_NOBODY = (10, 11)
# The way itself is missing: no reason to go on with the next unit.
NO_WAY = (
    LinkCode.REFUSED,
    LinkCode.UNREACHABLE,
    LinkCode.DNS,
    LinkCode.PORT_GONE,
    LinkCode.PORT_TAKEN,
    LinkCode.PORT_DENIED,
)


class UnitScan:
    """Asks one unit after the other on a link.

    `late` are units heard while something else was asked; `gateway` tells whether a gateway
    answered for units that are not there.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rtu = link.options["framer"] == "rtu"
        self._unit = self._function = 0
        self.late: set[int] = set()
        self.gateway = False
        if isinstance(link, StreamLink):
            # Many silent units are what a sweep expects: the line is none the worse for them.
            link.SILENT_LIMIT = sys.maxsize

    async def answers(self, unit: int, request: tuple[int, int, int], timeout: float) -> bool:
        """Whether the unit says anything to (function, address, count) within `timeout` s.

        Raises LinkError where the link cannot be opened.
        """
        self._unit, self._function = unit, request[0]
        ticket = self._link.ticket()
        framer = RTU if self._rtu else MBAP
        data = framer.encode(_READ.pack(*request), unit, 0 if self._rtu else ticket)
        parse = self._parse_rtu if self._rtu else self._parse_mbap
        try:
            return await self._link.exchange(
                data, parse, timeout=timeout, quiet=False, ticket=ticket
            )
        except LinkError as error:
            if error.code in NO_WAY:
                raise
            return False

    def _parse_mbap(self, buffer: bytearray) -> bool | None:
        while len(buffer) >= _HEADER.size:
            _, protocol, length, unit = _HEADER.unpack_from(buffer)
            if protocol or length not in _LENGTHS:
                buffer.clear()
                return None
            if len(buffer) < (end := 6 + length):
                return None
            pdu = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            if (there := self._heard(unit, pdu)) is not None:
                return there
        return None

    def _parse_rtu(self, buffer: bytearray) -> bool | None:
        while len(buffer) >= _SHORTEST_RTU:
            size = _size(buffer)
            if size and len(buffer) < size:
                return None
            pdu = RTU.decode(bytes(buffer[:size]))[3] if size else b""
            if not pdu:
                del buffer[0]
                continue
            unit = buffer[0]
            del buffer[:size]
            if (there := self._heard(unit, pdu)) is not None:
                return there
        return None

    def _heard(self, unit: int, pdu: bytes) -> bool | None:
        """What a frame says of the unit that was asked; None if it says nothing."""
        mine = unit == self._unit and pdu[0] & ~_REFUSAL == self._function
        if pdu[0] & _REFUSAL and len(pdu) > 1 and pdu[1] in _NOBODY:
            self.gateway = True
            return False if mine else None
        if mine:
            return True
        self.late.add(unit)
        return None


def _size(data: bytearray) -> int:
    """How long the RTU frame is that begins here; 0 where none can."""
    if data[1] & _REFUSAL:
        return _SHORTEST_RTU
    return _SHORTEST_RTU + data[2] if data[1] in _READS else 0
