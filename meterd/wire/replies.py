"""What counts as the reply to a Modbus request: in MBAP, RTU and ASCII frames.

MBAP   | transaction | protocol 0 | length | unit | function | bytes | registers ... |
RTU                                        | unit | function | bytes | registers ... | CRC |
ASCII  | : | the same in hexadecimal, with an LRC                                   | CR LF |
"""

import re
import struct

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from meterd.errors import DeviceError, LinkError, ProtocolError, Unsupported
from meterd.wire.hints import MARK, hint
from meterd.wire.link import Link

_DECODER = DecodePDU(is_server=False)
MBAP = FramerSocket(_DECODER)
RTU = FramerRTU(_DECODER)
ASCII = FramerAscii(_DECODER)

_HEADER = struct.Struct(">HHHB")
# All of a right reply that comes before its registers.
_HEAD = struct.Struct(">HHHBBB")
# Unit, function and at least one byte; at most 253 bytes of PDU (Modbus over TCP, 3.1.3 and 4.1).
_MBAP_LENGTHS = range(3, 255)
_RTU_EXCEPTION_SIZE = 5
_RTU_WRITE_SIZE = 8
_SHORTEST_RTU = 5
_ASCII_END = b"\r\n"
_ASCII_LINE = re.compile(rb":(?:[0-9A-Fa-f]{2})+\r\n")
# Colon, unit, function, exception code and LRC.
_SHORTEST_ASCII = 9

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


# What replies that do not match may mean, by what is wrong with them.
_WHY = {
    "wrong_unit": "another unit answers: check the unit's number",
    "wrong_count": "it gives another number of registers than it was asked for: if it always "
    "does, set limits: {max_registers: …} in its map",
    "wrong_function": "answers are mixed up: does another program use this gateway?",
    "foreign_tid": "answers are mixed up: does another program use this gateway?",
}
_NOISE = (
    "check the baud rate and the parity of the line, behind a gateway too; a device that "
    "speaks Modbus TCP itself needs no framer=rtu"
)
# What to do about exceptions that are no refusals.
_FAULTY = "the device reports a fault of its own: look at its display"
_WAYS_OUT = {
    4: _FAULTY,
    7: _FAULTY,
    8: _FAULTY,
    5: "it needs longer: raise the interval",
    6: "it needs longer: raise the interval",
    10: "check the gateway's settings and the unit's number",
    11: "check the unit's number, and the wires and the baud rate behind the gateway",
}
_NO_FRAME = (
    f"bytes that are no Modbus TCP frame{MARK}if a gateway passes serial frames through, "
    "write ?framer=rtu behind the link's address; else this is no Modbus port"
)


class ModbusException(DeviceError):  # noqa: N818 (the protocol calls it an exception)
    """The device answered with an exception; `exception` is its number."""

    def __init__(self, exception: int) -> None:
        name = EXCEPTIONS.get(exception, "a code of the vendor's own")
        way_out = f"{MARK}{_WAYS_OUT[exception]}" if exception in _WAYS_OUT else ""
        text = f"exception {exception}: {name}{way_out}"
        super().__init__(text, code=f"exception_{exception}")
        self.exception = exception


class Refused(ModbusException, Unsupported):
    """Exceptions 1, 2 and 3: these registers will not be answered however often asked."""


def payload(function: int, count: int) -> int:
    """Bytes of values that `count` registers, or bits, make."""
    return (count + 7) // 8 if function <= 2 else 2 * count


def _refusal(pdu: bytes) -> DeviceError | None:
    """The device's no, if the PDU is one."""
    if not pdu[0] & 0x80:
        return None
    return Refused(pdu[1]) if pdu[1] in _REFUSALS else ModbusException(pdu[1])


class Reply:
    """What is awaited; counts by cause what arrives instead."""

    __slots__ = ("_dropped", "_function", "_link", "_size", "_unit")

    def __init__(self, link: Link, unit: int, function: int, size: int) -> None:
        self._link = link
        self._unit = unit
        self._function = function
        self._size = size
        # The causes, in their order.
        self._dropped: dict[str, None] | None = None

    def explained(self, error: LinkError, *, late: bool) -> LinkError:
        """A timeout in which something did arrive is no silence: say what it was.

        `late`: this unit's answers to earlier requests came when nobody waited any more.
        """
        if error.code != "timeout":
            return error
        if late or "late_own" in (self._dropped or ()):
            text = "no answer in time: answers come later than the timeout, raise it"
            return LinkError(text, code="timeout")
        if not self._dropped:
            return error
        causes = ", ".join(self._dropped)
        frames = (f"{MARK}{_WHY[cause]}" for cause in self._dropped if cause in _WHY)
        noise = hint(str(error)) or f"{MARK}{_NOISE}"
        why = next(frames, noise if "noise" in self._dropped else "")
        text = f"only replies that do not match ({causes}){why}"
        return ProtocolError(text, code="bad_reply")

    def _drop(self, cause: str) -> None:
        self._link.count(cause)
        self._dropped = {**(self._dropped or {}), cause: None}

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

    def _only(self, registers: bytes, rest: bytearray, shortest: int) -> bytes:
        """One request has one reply: with a second frame behind it, neither can be trusted."""
        if len(rest) >= shortest:
            raise ProtocolError("two replies to one request", code="two_replies")
        return registers


class TcpReply(Reply):
    """Picks the one reply that matches out of a stream of MBAP frames."""

    __slots__ = ("_head", "_ticket", "_whole")

    def __init__(self, link: Link, ticket: int, unit: int, function: int, size: int) -> None:
        super().__init__(link, unit, function, size)
        self._ticket = ticket
        self._head = _HEAD.pack(ticket, 0, 3 + size, unit, function, size & 0xFF)
        # No reply has more bytes than its count can say: who asks for that gets none.
        self._whole = _HEAD.size + size if size <= 0xFF else -1

    def parse(self, buffer: bytearray) -> bytes | None:
        # Nearly always it is the right reply alone. Its head has all that is checked below.
        if len(buffer) == self._whole and buffer.startswith(self._head):
            whole = bytes(buffer)
            buffer.clear()
            return whole[_HEAD.size :]
        while len(buffer) >= _HEADER.size:
            ticket, protocol, length, unit = _HEADER.unpack_from(buffer)
            if protocol or length not in _MBAP_LENGTHS:
                raise ProtocolError(_NO_FRAME, code="bad_frame")
            end = 6 + length
            if len(buffer) < end:
                return None
            pdu = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            if (registers := self._match(ticket, unit, pdu)) is not None:
                return registers
        return None

    def _match(self, ticket: int, unit: int, pdu: bytes) -> bytes | None:
        if ticket == self._ticket:
            return self._registers(unit, pdu)
        self._drop("late_own" if self._link.expired(ticket) else "foreign_tid")
        return None


class RtuReply(Reply):
    """Picks the one reply that matches out of bytes that may hold noise and foreign frames."""

    __slots__ = ()

    def parse(self, buffer: bytearray) -> bytes | None:
        while len(buffer) >= _SHORTEST_RTU:
            size = _rtu_size(buffer)
            if size and len(buffer) < size:
                return self._resume(buffer)
            pdu = RTU.decode(bytes(buffer[:size]))[3] if size else b""
            if not pdu:
                del buffer[0]
                self._drop("noise")
                continue
            unit = buffer[0]
            del buffer[:size]
            if (registers := self._registers(unit, pdu)) is not None:
                return self._only(registers, buffer, _SHORTEST_RTU)
        return None

    def _resume(self, buffer: bytearray) -> bytes | None:
        """Noise may look like the start of a long frame: is ours whole behind it?"""
        head = bytes([self._unit, self._function, self._size])
        no = bytes([self._unit, self._function | 0x80])
        for start in (buffer.find(head, 1), buffer.find(no, 1)):
            size = 0 if start < 0 else _rtu_size(buffer[start:])
            if size and RTU.decode(bytes(buffer[start : start + size]))[3]:
                self._drop("noise")
                del buffer[:start]
                return self.parse(buffer)
        return None


class AsciiReply(Reply):
    """Picks the one reply that matches out of a stream of ASCII frames."""

    __slots__ = ()

    def parse(self, buffer: bytearray) -> bytes | None:
        while (end := buffer.find(_ASCII_END)) >= 0:
            line = bytes(buffer[: end + len(_ASCII_END)])
            del buffer[: len(line)]
            unit, pdu = _ascii_frame(line)
            if not pdu:
                self._drop("noise")
            elif (registers := self._registers(unit, pdu)) is not None:
                return self._only(registers, buffer, _SHORTEST_ASCII)
        return None


def _ascii_frame(line: bytes) -> tuple[int, bytes]:
    """Unit and PDU of the last frame of a line; the PDU is empty where it is none."""
    frame = line[max(line.rfind(b":"), 0) :]
    # The framer itself is lenient: it takes blanks for digits.
    if not _ASCII_LINE.fullmatch(frame):
        return 0, b""
    _, unit, _, pdu = ASCII.decode(frame)
    return unit, pdu


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
