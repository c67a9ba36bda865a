"""Unit scan: which unit ids of a bus answer a read request, be it with an exception.

Nearly all units of a scan are silent, so the line is not drained after a timeout as after other
lost replies: a late frame carries its unit id.
"""

import math
import struct

from meterd.errors import LinkCode, LinkError
from meterd.wire.link import Link
from meterd.wire.replies import MBAP, RTU
from meterd.wire.streamlink import StreamLink

_HEADER = struct.Struct(">HHHB")
_READ = struct.Struct(">BHH")
_MBAP_LENGTHS = range(3, 255)
_RTU_MIN_BYTES = 5
_READ_FUNCTIONS = range(1, 5)
_EXCEPTION_BIT = 0x80
# Exceptions that a gateway sends for a unit that does not answer.
_GATEWAY_EXCEPTIONS = (10, 11)
# Codes of LinkError for a link that cannot be opened: scanning further units is useless.
LINK_DOWN_CODES = (
    LinkCode.REFUSED,
    LinkCode.UNREACHABLE,
    LinkCode.DNS,
    LinkCode.PORT_GONE,
    LinkCode.PORT_TAKEN,
    LinkCode.PORT_DENIED,
)


class UnitScan:
    """Sends one request to each unit of a link, one unit after the other.

    `late` are unit ids whose frames came while another unit was asked; `gateway` is whether a
    gateway sent exceptions 10 or 11 for missing units.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._rtu = link.options["framer"] == "rtu"
        self._unit = self._function = 0
        self.late: set[int] = set()
        self.gateway = False
        if isinstance(link, StreamLink):
            # Silent units are expected in a scan: they are no reason to reconnect.
            link.silent_limit = math.inf

    async def answers(self, unit: int, request: tuple[int, int, int], timeout: float) -> bool:
        """Whether the unit answers a read (function, address, count) within `timeout` s.

        Raises LinkError where the link cannot be opened.
        """
        self._unit, self._function = unit, request[0]
        transaction = self._link.ticket()
        framer = RTU if self._rtu else MBAP
        data = framer.encode(_READ.pack(*request), unit, 0 if self._rtu else transaction)
        parse = self._parse_rtu if self._rtu else self._parse_mbap
        try:
            return await self._link.exchange(
                data, parse, timeout=timeout, quiet=False, ticket=transaction
            )
        except LinkError as error:
            if error.code in LINK_DOWN_CODES:
                raise
            return False

    def _parse_mbap(self, buffer: bytearray) -> bool | None:
        while len(buffer) >= _HEADER.size:
            _, protocol, length, unit = _HEADER.unpack_from(buffer)
            if protocol or length not in _MBAP_LENGTHS:
                buffer.clear()
                return None
            if len(buffer) < (end := 6 + length):
                return None
            pdu = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            if (answered := self._match(unit, pdu)) is not None:
                return answered
        return None

    def _parse_rtu(self, buffer: bytearray) -> bool | None:
        while len(buffer) >= _RTU_MIN_BYTES:
            size = _rtu_size(buffer)
            if size and len(buffer) < size:
                return None
            pdu = RTU.decode(bytes(buffer[:size]))[3] if size else b""
            if not pdu:
                del buffer[0]
                continue
            unit = buffer[0]
            del buffer[:size]
            if (answered := self._match(unit, pdu)) is not None:
                return answered
        return None

    def _match(self, unit: int, pdu: bytes) -> bool | None:
        """Whether this frame shows the asked unit to be there; None if it is another unit's."""
        is_reply = unit == self._unit and pdu[0] & ~_EXCEPTION_BIT == self._function
        if pdu[0] & _EXCEPTION_BIT and len(pdu) > 1 and pdu[1] in _GATEWAY_EXCEPTIONS:
            self.gateway = True
            return False if is_reply else None
        if is_reply:
            return True
        self.late.add(unit)
        return None


def _rtu_size(data: bytearray) -> int:
    """Length in bytes of the RTU reply that begins here; 0 where none can."""
    if data[1] & _EXCEPTION_BIT:
        return _RTU_MIN_BYTES
    return _RTU_MIN_BYTES + data[2] if data[1] in _READ_FUNCTIONS else 0
