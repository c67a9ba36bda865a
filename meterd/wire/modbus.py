"""Modbus reads over a link: pymodbus' framers and PDUs, every reply checked against its request.

MBAP   | transaction | protocol 0 | length | unit | function | bytes | registers ... |
RTU                                        | unit | function | bytes | registers ... | CRC |
"""

import asyncio
import contextlib
import struct
from typing import Final

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ReadCoilsRequest, ReadHoldingRegistersRequest
from pymodbus.pdu.bit_message import ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from meterd.errors import DeviceError, LinkError, ProtocolError, Unsupported
from meterd.wire.link import Link

_REQUESTS: Final = {
    1: ReadCoilsRequest,
    2: ReadDiscreteInputsRequest,
    3: ReadHoldingRegistersRequest,
    4: ReadInputRegistersRequest,
}
_DECODER = DecodePDU(is_server=False)
_MBAP = FramerSocket(_DECODER)
_RTU = FramerRTU(_DECODER)

_HEADER = struct.Struct(">HHHB")
# Unit, function and at least one byte; at most 253 bytes of PDU (Modbus over TCP, 3.1.3 and 4.1).
_MBAP_LENGTHS = range(3, 255)
_RTU_EXCEPTION_SIZE = 5
_RTU_WRITE_SIZE = 8
_SHORTEST_RTU = 5
# Registers that one request may ask for.
_MOST = 125

# Modbus Application Protocol V1.1b3, section 7.
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge, still working",
    6: "server device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target device failed to respond",
}
ILLEGAL_FUNCTION = 1
_REFUSALS = (ILLEGAL_FUNCTION, 2, 3)
_WAIT = (5, 6)
# Pauses before a busy device is asked again, in seconds; then it is an error.
_BUSY_PAUSES = (0.1, 0.2, 0.4)


class ModbusException(DeviceError):  # noqa: N818 (the protocol calls it an exception)
    """The device answered with an exception; `exception` is its number."""

    def __init__(self, exception: int) -> None:
        name = EXCEPTIONS.get(exception, "a code of the vendor's own")
        super().__init__(f"exception {exception}: {name}", code=f"exception_{exception}")
        self.exception = exception


class Refused(ModbusException, Unsupported):
    """Exceptions 1, 2 and 3: these registers will not be answered however often asked."""


class ModbusClient:
    """Reads one unit on a link, in the frames that the link's option `framer` names."""

    def __init__(self, link: Link, unit: int) -> None:
        self._link = link
        self._unit = unit
        self._rtu = link.options["framer"] == "rtu"
        self._pdus: dict[tuple[int, int, int], bytes] = {}
        # On RTU no id tells a late reply: whether one may still come, and the sizes it may have.
        self._owed = False
        self._sizes: set[int] = set()

    async def read(self, function: int, address: int, count: int) -> bytes:
        """The registers as they came, 2 bytes each (1 bit each for functions 1 and 2).

        Raises Refused, ModbusException, or LinkError when no reply matched in time.
        """
        for pause in (*_BUSY_PAUSES, None):
            try:
                return await self._read_once(function, address, count)
            except ModbusException as error:
                if error.exception not in _WAIT or pause is None:
                    raise
                self._link.count("busy")
                await asyncio.sleep(pause)
        raise AssertionError("the last pause is None")

    def sizes(self, function: int, count: int) -> tuple[int, int]:
        """Bytes of such a request and of its reply, frames included."""
        around = 3 if self._rtu else 7
        return around + 5, around + 2 + _payload(function, count)

    async def _read_once(self, function: int, address: int, count: int) -> bytes:
        if not self._rtu:
            return await self._ask_tcp(function, address, count)
        self._sizes.add(_payload(function, count))
        if self._owed:
            await self._fence(function, address, count)
        return await self._ask_rtu(function, address, count)

    # -- MBAP --------------------------------------------------------------------------------

    async def _ask_tcp(self, function: int, address: int, count: int) -> bytes:
        ticket = self._link.ticket()
        request = _MBAP.encode(self._pdu(function, address, count), self._unit, ticket)
        reply = _TcpReply(self._link, ticket, self._unit, function, _payload(function, count))
        try:
            return await self._link.exchange(request, reply.parse, quiet=False, ticket=ticket)
        except LinkError as error:
            raise reply.explained(error) from error

    def _pdu(self, function: int, address: int, count: int) -> bytes:
        key = (function, address, count)
        if (pdu := self._pdus.get(key)) is None:
            message = _REQUESTS[function](address=address, count=count)
            pdu = self._pdus[key] = bytes([function]) + message.encode()
        return pdu

    # -- RTU ---------------------------------------------------------------------------------

    async def _ask_rtu(self, function: int, address: int, count: int) -> bytes:
        request = _RTU.encode(self._pdu(function, address, count), self._unit, 0)
        reply = _RtuReply(self._link, self._unit, function, _payload(function, count))
        owed, self._owed = self._owed, True
        try:
            registers = await self._link.exchange(request, reply.parse)
        except LinkError as error:
            raise reply.explained(error) from error
        except DeviceError:
            self._owed = owed
            raise
        self._owed = owed
        return registers

    async def _fence(self, function: int, address: int, count: int) -> None:
        """Before the first read after a lost reply: ask for a size that no real read ever has.

        A bus answers in order. So once this answer is there (a no is one, too), a late reply
        to a real read came before it and was dropped by its size, or will never come; and the
        late answers to other fences fit no real read.
        """
        candidates = (count - 2, count - 1, count + 2, count + 1, *range(1, _MOST))
        sizes = {n: _payload(function, n) for n in candidates if 0 < n <= _MOST}
        fence = next((n for n, size in sizes.items() if size not in self._sizes), None)
        if fence is not None:
            self._link.count("fences")
            with contextlib.suppress(DeviceError):
                await self._ask_rtu(function, address, fence)
        self._owed = False


def _payload(function: int, count: int) -> int:
    """Bytes of values that `count` registers, or bits, make."""
    return (count + 7) // 8 if function <= 2 else 2 * count


def _refusal(pdu: bytes) -> DeviceError | None:
    """The device's no, if the PDU is one."""
    if not pdu[0] & 0x80:
        return None
    return Refused(pdu[1]) if pdu[1] in _REFUSALS else ModbusException(pdu[1])


class _Reply:
    """What is awaited; counts by cause what arrives instead."""

    __slots__ = ("_dropped", "_function", "_link", "_size", "_unit")

    def __init__(self, link: Link, unit: int, function: int, size: int) -> None:
        self._link = link
        self._unit = unit
        self._function = function
        self._size = size
        self._dropped: dict[str, None] = {}

    def explained(self, error: LinkError) -> LinkError:
        """A timeout in which something did arrive is no silence: say what it was."""
        if error.code != "timeout" or not self._dropped:
            return error
        causes = ", ".join(self._dropped)
        return ProtocolError(f"only replies that do not match ({causes})", code="bad_reply")

    def _drop(self, cause: str) -> None:
        self._link.count(cause)
        self._dropped[cause] = None

    def _registers(self, unit: int, pdu: bytes) -> bytes | None:
        """The registers, if this PDU answers the request; raises the device's no."""
        if unit != self._unit:
            self._drop("wrong_unit")
        elif len(pdu) < 2 or pdu[0] & 0x7F != self._function:
            self._drop("wrong_function")
        elif (refusal := _refusal(pdu)) is not None:
            raise refusal
        elif pdu[1] != self._size or len(pdu) != 2 + self._size:
            self._drop("wrong_count")
        else:
            return pdu[2:]
        return None


class _TcpReply(_Reply):
    """Picks the one reply that matches out of a stream of MBAP frames."""

    __slots__ = ("_ticket",)

    def __init__(self, link: Link, ticket: int, unit: int, function: int, size: int) -> None:
        super().__init__(link, unit, function, size)
        self._ticket = ticket

    def parse(self, buffer: bytearray) -> bytes | None:
        while len(buffer) >= _HEADER.size:
            ticket, protocol, length, unit = _HEADER.unpack_from(buffer)
            if protocol or length not in _MBAP_LENGTHS:
                self._link.count("bad_frame")
                raise ProtocolError("bytes that are no Modbus TCP frame", code="bad_frame")
            end = 6 + length
            if len(buffer) < end:
                return None
            _, _, _, pdu = _MBAP.decode(bytes(buffer[:end]))
            del buffer[:end]
            if (registers := self._match(ticket, unit, pdu)) is not None:
                return registers
        return None

    def _match(self, ticket: int, unit: int, pdu: bytes) -> bytes | None:
        if ticket == self._ticket:
            return self._registers(unit, pdu)
        self._drop("late_own" if self._link.expired(ticket) else "foreign_tid")
        return None


class _RtuReply(_Reply):
    """Picks the one reply that matches out of bytes that may hold noise and foreign frames."""

    __slots__ = ()

    def parse(self, buffer: bytearray) -> bytes | None:
        while len(buffer) >= _SHORTEST_RTU:
            size = _rtu_size(buffer)
            if size and len(buffer) < size:
                return self._resume(buffer)
            pdu = _RTU.decode(bytes(buffer[:size]))[3] if size else b""
            if not pdu:
                del buffer[0]
                self._drop("noise")
                continue
            unit = buffer[0]
            del buffer[:size]
            if (registers := self._registers(unit, pdu)) is not None:
                return self._only(registers, buffer)
        return None

    def _resume(self, buffer: bytearray) -> bytes | None:
        """Noise may look like the start of a long frame: is ours whole behind it?"""
        head = bytes([self._unit, self._function, self._size])
        no = bytes([self._unit, self._function | 0x80])
        for start in (buffer.find(head, 1), buffer.find(no, 1)):
            size = 0 if start < 0 else _rtu_size(buffer[start:])
            if size and _RTU.decode(bytes(buffer[start : start + size]))[3]:
                self._drop("noise")
                del buffer[:start]
                return self.parse(buffer)
        return None

    def _only(self, registers: bytes, rest: bytearray) -> bytes:
        """One request has one reply: with a second frame behind it, neither can be trusted."""
        if len(rest) >= _SHORTEST_RTU:
            raise ProtocolError("two replies to one request", code="two_replies")
        return registers


def _rtu_size(data: bytes | bytearray) -> int:
    """How long the frame is that begins here; 0 where none can."""
    function = data[1]
    if function & 0x80:
        return _RTU_EXCEPTION_SIZE
    if function in (5, 6, 15, 16):
        return _RTU_WRITE_SIZE
    if function in (1, 2, 3, 4):
        return 5 + data[2]
    return 0
