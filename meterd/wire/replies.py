"""What counts as the reply to a Modbus request: in MBAP, RTU and ASCII frames.

MBAP   | transaction | protocol 0 | length | unit | function | bytes | registers ... |
RTU                                        | unit | function | bytes | registers ... | CRC |
ASCII  | : | the same in hexadecimal, with an LRC                                   | CR LF |
"""

import asyncio
import re
import struct
from collections.abc import Iterator
from typing import TypeAlias

from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from meterd.errors import DeviceCode, DeviceError, LinkCode, LinkError, ProtocolError, Unsupported
from meterd.wire.diagnostics import MARK, hint
from meterd.wire.link import Link
from meterd.wire.traffic import HeardFrame, Read, Traffic

Answered: TypeAlias = bytes | DeviceError
"""Registers, or the device's no."""

_DECODER = DecodePDU(is_server=False)
MBAP = FramerSocket(_DECODER)
RTU = FramerRTU(_DECODER)
ASCII = FramerAscii(_DECODER)

_HEADER = struct.Struct(">HHHB")
# All of a right reply that comes before its registers.
_HEAD = struct.Struct(">HHHBBB")
# What servers answer as that have one unit only.
_ANY_UNIT = (0, 1, 255)
# Unit, function and at least one byte; at most 253 bytes of PDU (Modbus over TCP, 3.1.3 and 4.1).
_MBAP_LENGTHS = range(3, 255)
_RTU_EXCEPTION_SIZE = 5
_RTU_WRITE_SIZE = 8
_RTU_REQUEST_SIZE = 8
_RTU_MOST = 256
_SHORTEST_RTU = 5
# Registers, and bits, that one request may ask for.
_MOST_ASKED = (125, 2000)
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
    "wrong_unit": "another unit answers: check the unit's number. A device that always answers "
    "as this one is read with its number as `unit:`",
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
_WIDE = (
    "each of its registers has 32 bits: set limits: {words: wide} in its map, where addresses "
    "and counts stay those of the meter"
)
_IS_RTU = "what came is a serial frame: write ?framer=rtu behind the link's address"
_IS_ASCII = "what came is a serial frame: write ?framer=ascii behind the link's address"
_IS_MBAP = "what came is a Modbus TCP frame: leave ?framer=… out of the link's address"
_NO_FRAME = (
    "if a gateway passes serial frames through, write ?framer=rtu behind the link's address; "
    "else this is no Modbus port"
)
# So many bytes of what came are shown.
_SHOWN = 12
# Bytes before a frame with the right head that are passed over.
_MOST_STRAY = 16


class ModbusException(DeviceError):  # noqa: N818 (the protocol calls it an exception)
    """The device answered with an exception; `exception` is its number."""

    def __init__(self, exception: int) -> None:
        name = EXCEPTIONS.get(exception, "a code of the vendor's own")
        way_out = f"{MARK}{_WAYS_OUT[exception]}" if exception in _WAYS_OUT else ""
        text = f"exception {exception}: {name}{way_out}"
        super().__init__(text, code=DeviceCode(f"exception_{exception}"))
        self.exception = exception


class Refused(ModbusException, Unsupported):
    """Exceptions 1, 2 and 3: these registers will not be answered however often asked."""


def payload(function: int, count: int) -> int:
    """Bytes of values that `count` registers, or bits, make."""
    return (count + 7) // 8 if function <= 2 else 2 * count


def shape(function: int, count: int) -> int:
    """What an answer shows of the count that was asked for: registers, or bytes of bits."""
    return payload(function, count) if function <= 2 else count


def _refusal(pdu: bytes) -> DeviceError | None:
    """The device's no, if the PDU is one."""
    if not pdu[0] & 0x80:
        return None
    return Refused(pdu[1]) if pdu[1] in _REFUSALS else ModbusException(pdu[1])


class ModbusReply:
    """What is awaited; counts by cause what arrives instead."""

    __slots__ = ("_came", "_dropped", "_function", "_link", "_size", "_unit", "_why")

    def __init__(self, link: Link, unit: int, function: int, size: int) -> None:
        self._link = link
        self._unit = unit
        self._function = function
        self._size = size
        # What came first, in words, and what may help.
        self._came = self._why = ""
        # The causes, in their order.
        self._dropped: dict[str, None] | None = None

    def explained(self, error: LinkError, *, late: bool) -> LinkError:
        """A timeout in which something did arrive is no silence: say what it was.

        `late`: this unit's answers to earlier requests came when nobody waited any more.
        """
        if error.code != LinkCode.TIMEOUT:
            return error
        if late or "late_own" in (self._dropped or ()):
            text = "no answer in time: answers come later than the timeout, raise it"
            return LinkError(text, code=LinkCode.TIMEOUT)
        if not self._dropped:
            return self._unread(error)
        causes = ", ".join(self._dropped)
        frames = (f"{MARK}{_WHY[cause]}" for cause in self._dropped if cause in _WHY)
        noise = hint(str(error)) or f"{MARK}{_NOISE}"
        why = next(frames, noise if "noise" in self._dropped else "")
        if self._why:
            why = f"{MARK}{self._why}"
        text = f"only replies that do not match ({causes}): {self._asked()}; got {self._came}{why}"
        return ProtocolError(text, code=LinkCode.BAD_REPLY)

    def _unread(self, error: LinkError) -> LinkError:
        """Silence, or bytes that never became a frame."""
        if not self._came:
            return error
        why = f"{MARK}{self._why}" if self._why else ""
        text = f"no answer in time, but {self._came}; {self._asked()}{why}"
        return LinkError(text, code=error.code)

    def _asked(self) -> str:
        what = (
            f"{self._size} bytes of bits" if self._function <= 2 else f"{self._size // 2} registers"
        )
        return f"asked unit {self._unit}, function {self._function}, {what} ({self._size} bytes)"

    def _drop(self, cause: str, came: str = "") -> None:
        """Count something that is no reply; the first of them is told in words."""
        self._link.count(cause)
        if not self._came or (self._dropped is not None and "noise" in self._dropped and came):
            self._came = came or cause
        self._dropped = {**(self._dropped or {}), cause: None}

    def _drop_pdu(self, cause: str, unit: int, pdu: bytes) -> None:
        size = f"{pdu[1]} bytes" if len(pdu) > 1 and not pdu[0] & 0x80 else "no registers"
        self._drop(cause, f"unit {unit}, function {pdu[0]}, {size}: {shown(pdu)}")

    def _registers(self, unit: int, pdu: bytes) -> bytes | None:
        """The registers, if this PDU answers the request; raises the device's no."""
        if unit != self._unit:
            self._drop_pdu("wrong_unit", unit, pdu)
            if unit in _ANY_UNIT:
                self._why = f"it answers as unit {unit}: set `unit: {unit}`"
        elif len(pdu) < 2 or pdu[0] & 0x7F != self._function:
            self._drop_pdu("wrong_function", unit, pdu)
        elif (refusal := _refusal(pdu)) is not None:
            raise refusal
        elif pdu[1] != self._size or len(pdu) != 2 + self._size:
            self._drop_pdu("wrong_count", unit, pdu)
            if self._function > 2 and pdu[1] == 2 * self._size == len(pdu) - 2:
                self._why = _WIDE
        else:
            return pdu[2:]
        return None


class TcpReply(ModbusReply):
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
                self._resume(buffer)
                continue
            end = 6 + length
            if len(buffer) < end and not self._is_whole(buffer, end):
                break
            pdu = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            if (registers := self._match(ticket, unit, pdu)) is not None:
                return registers
        if buffer and self._dropped is None:
            self._came, self._why = _unfinished(buffer), _kind_of(bytes(buffer))
        return None

    def _is_whole(self, buffer: bytearray, end: int) -> bool:
        """Whether a frame is ours and whole although its length says one byte more."""
        if len(buffer) != end - 1:
            return False
        start = _HEADER.pack(self._ticket, 0, end - 6, self._unit)
        right = bytes([self._function, self._size & 0xFF])
        no = len(buffer) == _HEADER.size + 2 and buffer[_HEADER.size] == self._function | 0x80
        whole = len(buffer) == self._whole and buffer.startswith(right, _HEADER.size)
        if not buffer.startswith(start) or not (whole or no):
            return False
        self._link.count("long_length")
        return True

    def _resume(self, buffer: bytearray) -> None:
        """Bytes that begin no frame: ours may stand behind them. Raises ProtocolError."""
        start = buffer.find(self._head, 1, _MOST_STRAY + len(self._head)) if self._whole > 0 else -1
        if start < 0:
            raise ProtocolError(_no_frame(self._asked(), bytes(buffer)), code=LinkCode.BAD_FRAME)
        self._drop("noise", f"{start} bytes before the frame: {shown(buffer[:start])}")
        del buffer[:start]

    def _match(self, ticket: int, unit: int, pdu: bytes) -> bytes | None:
        if ticket == self._ticket:
            return self._registers(unit, pdu)
        self._drop("late_own" if self._link.expired(ticket) else "foreign_tid")
        return None


class SerialReply(ModbusReply):
    """Picks the reply out of frames without ids; `traffic` knows what else was heard there.

    `frame` is the one that was taken, `at` (loop time) when it was there, and `others` are whole
    frames that were no reply to this request.
    """

    SHORTEST = 0

    __slots__ = ("at", "frame", "others", "read", "traffic")

    def __init__(
        self,
        link: Link,
        unit: int,
        function: int,
        size: int,
        *,
        traffic: Traffic | None = None,
        read: Read = (0, 0, 0),
    ) -> None:
        super().__init__(link, unit, function, size)
        self.traffic = traffic
        self.read = read
        self.frame = b""
        self.at = 0.0
        self.others: list[HeardFrame] = []

    def parse(self, buffer: bytearray) -> bytes | None:
        """The registers, once they are whole; raises the device's no."""
        while (raw := self._next(buffer)) is not None:
            answer = self._judge(raw)
            if answer is None:
                continue
            self.at = 0.0 if self.traffic is None else asyncio.get_running_loop().time()
            if (
                len(buffer) >= self.SHORTEST
                and isinstance(answer, bytes)
                and self._is_copy(raw, buffer)
            ):
                continue
            self.frame = raw
            if isinstance(answer, DeviceError):
                raise answer
            return answer
        return None

    def collect(self, buffer: bytearray, found: "list[tuple[bytes, float, Answered]]") -> None:
        """Add to `found` whatever fits the request: the frame, when it came, and what it says."""
        while (raw := self._next(buffer)) is not None:
            if (answer := self._judge(raw)) is not None:
                found.append((raw, asyncio.get_running_loop().time(), answer))

    def _noise(self, data: bytes | bytearray, size: int) -> None:
        """Bytes that are no frame, `size` of which are passed over."""
        if not self._came and _is_mbap(bytes(data)):
            self._why = _IS_MBAP
        self._drop("noise", f"bytes that are no frame: {shown(data)}" if not self._came else "")

    def rivals(self) -> bool:
        """Whether somebody else was heard asking for what fits this request as well."""
        count = self._size if self._function <= 2 else self._size // 2
        mine = (self._unit, self._function, count)
        return any(
            frame.is_request
            and (self.traffic is None or frame.raw != self.traffic.request)
            and (frame.unit, frame.function, frame.count) == mine
            for frame in self.others
        )

    def _judge(self, raw: bytes) -> Answered | None:
        """What a whole frame says to the request; None, counted and kept, if it is no reply."""
        unit, pdu = cut(raw)
        try:
            registers = self._registers(unit, pdu)
        except DeviceError as no:
            return no
        if registers is None:
            self.others.append(heard_frame(raw, unit, pdu))
        return registers

    def _is_copy(self, raw: bytes, rest: bytearray) -> bool:
        """Whether to look at the rest instead: one request has one reply.

        With a second frame behind it neither can be trusted, unless the first is known to be a
        copy, or the second is the same once more on a link that always does so.
        """
        traffic = self.traffic
        if traffic is not None and traffic.repeats(raw, self.read, self.at):
            traffic.copied(raw, self.at)
            return True
        if traffic is not None and rest == raw:
            traffic.pairs += 1
            if traffic.always_pairs:
                traffic.keep(raw, self.read, self.at)
                traffic.copied(raw, self.at)
                rest.clear()
                return False
        raise ProtocolError("two replies to one request", code=LinkCode.TWO_REPLIES)

    def _next(self, buffer: bytearray) -> bytes | None:
        """Take the next whole frame out of the buffer, noise and requests before it dropped."""
        raise NotImplementedError


class RtuReply(SerialReply):
    """Picks the one reply that matches out of bytes that may hold noise and foreign frames."""

    SHORTEST = _SHORTEST_RTU

    __slots__ = ()

    def _next(self, buffer: bytearray) -> bytes | None:
        while len(buffer) >= _SHORTEST_RTU:
            size = _rtu_size(buffer)
            if size and len(buffer) >= size and RTU.decode(bytes(buffer[:size]))[3]:
                return _taken(buffer, size)
            if (asked := _request(buffer)) is not None:
                self.others.append(asked)
                self._drop("foreign_request")
                del buffer[:_RTU_REQUEST_SIZE]
                continue
            start = 1
            if size > len(buffer):
                start = self._behind(buffer)
                if not start:
                    return None
            self._noise(buffer, start)
            del buffer[:start]
        return None

    def _behind(self, buffer: bytearray) -> int:
        """Noise may look like the start of a long frame: where ours is whole behind it, else 0."""
        head = bytes([self._unit, self._function, self._size & 0xFF])
        no = bytes([self._unit, self._function | 0x80])
        for start in (buffer.find(head, 1), buffer.find(no, 1)):
            size = 0 if start < 0 else _rtu_size(buffer[start:])
            if size and RTU.decode(bytes(buffer[start : start + size]))[3]:
                return start
        return 0


class AsciiReply(SerialReply):
    """Picks the one reply that matches out of a stream of ASCII frames."""

    SHORTEST = _SHORTEST_ASCII

    __slots__ = ()

    def _next(self, buffer: bytearray) -> bytes | None:
        while (end := buffer.find(_ASCII_END)) >= 0:
            line = _taken(buffer, end + len(_ASCII_END))
            if _ascii_frame(line)[1]:
                return line
            self._noise(line, len(line))
        return None


def cut(raw: bytes) -> tuple[int, bytes]:
    """Unit and PDU of a whole RTU or ASCII frame."""
    return (
        _ascii_frame(raw) if raw.endswith(_ASCII_END) and raw[:1] == b":" else (raw[0], raw[1:-2])
    )


def shown(data: bytes | bytearray) -> str:
    """The first bytes, in hexadecimal."""
    return bytes(data[:_SHOWN]).hex(" ") + (" …" if len(data) > _SHOWN else "")


def _kind_of(data: bytes) -> str:
    """What to do about bytes where a Modbus TCP frame was expected; empty where nobody knows."""
    if next(split_rtu(data), None) is not None:
        return _IS_RTU
    return _IS_ASCII if next(split_ascii(data), None) is not None else ""


def _no_frame(asked: str, data: bytes) -> str:
    way_out = _kind_of(data) or _NO_FRAME
    return f"bytes that are no Modbus TCP frame: {asked}; got {shown(data)}{MARK}{way_out}"


def _unfinished(data: bytearray) -> str:
    return f"{len(data)} bytes that are no whole frame: {shown(data)}"


def _is_mbap(data: bytes) -> bool:
    """Whether bytes where a serial frame was expected begin like a Modbus TCP frame."""
    if len(data) < _HEADER.size:
        return False
    _, protocol, length, _ = _HEADER.unpack_from(data)
    return not protocol and length in _MBAP_LENGTHS


def heard_frame(raw: bytes, unit: int, pdu: bytes) -> HeardFrame:
    """What a whole frame is: an answer, or what somebody else asks."""
    if (asked := _request(raw)) is not None:
        return asked
    function = pdu[0]
    count = pdu[1] if len(pdu) > 1 and not function & 0x80 else 0
    return HeardFrame(raw, unit, function, count if function <= 2 else count // 2)


def split_rtu(data: bytes) -> Iterator[HeardFrame]:
    """The whole RTU frames among these bytes."""
    start = 0
    while len(data) - start >= _SHORTEST_RTU:
        rest = data[start : start + _RTU_MOST]
        size = _rtu_size(rest)
        if size and len(rest) >= size and (pdu := RTU.decode(rest[:size])[3]):
            yield heard_frame(rest[:size], rest[0], pdu)
            start += size
        elif (asked := _request(rest)) is not None:
            yield asked
            start += _RTU_REQUEST_SIZE
        else:
            start += 1


def split_ascii(data: bytes) -> Iterator[HeardFrame]:
    """The whole ASCII frames among these bytes."""
    for line in data.split(_ASCII_END)[:-1]:
        unit, pdu = _ascii_frame(line + _ASCII_END)
        if pdu:
            yield heard_frame(line + _ASCII_END, unit, pdu)


def _taken(buffer: bytearray, size: int) -> bytes:
    frame = bytes(buffer[:size])
    del buffer[:size]
    return frame


def _request(data: bytes | bytearray) -> HeardFrame | None:
    """The read request that these bytes begin with, in RTU or as a whole ASCII line."""
    if data[:1] == b":":
        unit, pdu = _ascii_frame(bytes(data))
        body = bytes([unit]) + pdu
        if len(body) != _RTU_REQUEST_SIZE - 2:
            return None
        raw = bytes(data)
    else:
        raw = body = bytes(data[:_RTU_REQUEST_SIZE])
        if len(raw) < _RTU_REQUEST_SIZE:
            return None
    function, count = body[1], int.from_bytes(body[4:6], "big")
    if function not in (1, 2, 3, 4) or not 0 < count <= _MOST_ASKED[function <= 2]:
        return None
    if raw is body and RTU.compute_CRC(raw[:-2]) != int.from_bytes(raw[-2:], "big"):
        return None
    return HeardFrame(raw, body[0], function, shape(function, count), is_request=True)


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
