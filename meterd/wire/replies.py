"""Modbus frames and their validation: what is accepted as the reply to a request, per framing.

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

ReplyContent: TypeAlias = bytes | DeviceError
"""Register bytes, or the device's exception."""

_DECODER = DecodePDU(is_server=False)
MBAP = FramerSocket(_DECODER)
RTU = FramerRTU(_DECODER)
ASCII = FramerAscii(_DECODER)

_HEADER = struct.Struct(">HHHB")
# MBAP header, function and byte count: all of a valid reply before its registers.
_REPLY_HEAD = struct.Struct(">HHHBBB")
# Unit ids that servers with a single unit put into every reply.
_SINGLE_UNIT_IDS = (0, 1, 255)
# MBAP length field: unit id and a PDU of 2 to 253 bytes (Modbus over TCP, 3.1.3 and 4.1).
_MBAP_LENGTHS = range(3, 255)
_RTU_EXCEPTION_BYTES = 5
_RTU_WRITE_BYTES = 8
_RTU_REQUEST_BYTES = 8
_RTU_MAX_BYTES = 256
_RTU_MIN_BYTES = 5
# Quantity limits of a read request: registers, bits (Modbus V1.1b3, 6.1 to 6.4).
_READ_COUNT_MAX = (125, 2000)
_ASCII_END = b"\r\n"
_ASCII_LINE = re.compile(rb":(?:[0-9A-Fa-f]{2})+\r\n")
# Characters of the shortest ASCII frame: colon, unit, function, exception code and LRC.
_ASCII_MIN_BYTES = 9

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
_REFUSED_EXCEPTIONS = (ILLEGAL_FUNCTION, 2, 3)


# Hints for replies that do not match, by the cause they are counted under.
_CAUSE_HINTS = {
    "wrong_unit": "another unit answers: check the unit's number. A device that always answers "
    "as this one is read with its number as `unit:`",
    "wrong_count": "it gives another number of registers than it was asked for: if it always "
    "does, set limits: {max_registers: …} in its map",
    "wrong_function": "answers are mixed up: does another program use this gateway?",
    "foreign_tid": "answers are mixed up: does another program use this gateway?",
}
_NOISE_HINT = (
    "check the baud rate and the parity of the line, behind a gateway too; a device that "
    "speaks Modbus TCP itself needs no framer=rtu"
)
# Hints for exceptions other than 1, 2 and 3.
_FAULT_HINT = "the device reports a fault of its own: look at its display"
_EXCEPTION_HINTS = {
    4: _FAULT_HINT,
    7: _FAULT_HINT,
    8: _FAULT_HINT,
    5: "it needs longer: raise the interval",
    6: "it needs longer: raise the interval",
    10: "check the gateway's settings and the unit's number",
    11: "check the unit's number, and the wires and the baud rate behind the gateway",
}
_WIDE_HINT = (
    "each of its registers has 32 bits: set limits: {words: wide} in its map, where addresses "
    "and counts stay those of the meter"
)
_RTU_HINT = "what came is a serial frame: write ?framer=rtu behind the link's address"
_ASCII_HINT = "what came is a serial frame: write ?framer=ascii behind the link's address"
_MBAP_HINT = "what came is a Modbus TCP frame: leave ?framer=… out of the link's address"
_NO_FRAME_HINT = (
    "if a gateway passes serial frames through, write ?framer=rtu behind the link's address; "
    "else this is no Modbus port"
)
# Bytes of unexpected input that error texts quote.
_QUOTED_BYTES_MAX = 12
# Bytes of noise that may precede a valid MBAP frame; after more the stream is out of step.
_NOISE_BYTES_MAX = 16


class ModbusException(DeviceError):  # noqa: N818 (the protocol calls it an exception)
    """The device answered with an exception; `exception` is its number."""

    def __init__(self, exception: int) -> None:
        name = EXCEPTIONS.get(exception, "a code of the vendor's own")
        hint_text = f"{MARK}{_EXCEPTION_HINTS[exception]}" if exception in _EXCEPTION_HINTS else ""
        text = f"exception {exception}: {name}{hint_text}"
        super().__init__(text, code=DeviceCode(f"exception_{exception}"))
        self.exception = exception


class Refused(ModbusException, Unsupported):
    """Exceptions 1, 2 and 3: the device does not have these registers, so retrying is useless."""


def payload(function: int, count: int) -> int:
    """Data bytes of a reply with `count` registers, or bits (functions 1 and 2)."""
    return (count + 7) // 8 if function <= 2 else 2 * count


def shape(function: int, count: int) -> int:
    """What a reply reveals of the request's count: registers, or bytes of bits."""
    return payload(function, count) if function <= 2 else count


def _refusal(pdu: bytes) -> DeviceError | None:
    """The exception in a PDU; None if it is a normal response."""
    if not pdu[0] & 0x80:
        return None
    return Refused(pdu[1]) if pdu[1] in _REFUSED_EXCEPTIONS else ModbusException(pdu[1])


class ModbusReply:
    """The reply that an exchange expects; what arrives instead is counted on the link by cause.

    `size` is the number of data bytes.
    """

    __slots__ = ("_dropped", "_function", "_hint", "_input_text", "_link", "_size", "_unit")

    def __init__(self, link: Link, unit: int, function: int, size: int) -> None:
        self._link = link
        self._unit = unit
        self._function = function
        self._size = size
        # The first unexpected input as a text, and a hint.
        self._input_text = self._hint = ""
        # Causes of what was dropped, in order of arrival (a dict for its order).
        self._dropped: dict[str, None] | None = None

    def describe(self, error: LinkError, *, late: bool) -> LinkError:
        """The error of a failed exchange, with what arrived meanwhile in its text.

        `late`: replies of this unit came after the timeout of earlier requests.
        """
        if error.code != LinkCode.TIMEOUT:
            return error
        if late or "late_own" in (self._dropped or ()):
            text = "no answer in time: answers come later than the timeout, raise it"
            return LinkError(text, code=LinkCode.TIMEOUT)
        if not self._dropped:
            return self._silence_error(error)
        causes = ", ".join(self._dropped)
        hints = (f"{MARK}{_CAUSE_HINTS[cause]}" for cause in self._dropped if cause in _CAUSE_HINTS)
        noise = hint(str(error)) or f"{MARK}{_NOISE_HINT}"
        hint_text = next(hints, noise if "noise" in self._dropped else "")
        if self._hint:
            hint_text = f"{MARK}{self._hint}"
        text = (
            f"only replies that do not match ({causes}): {self._request_text()}; "
            f"got {self._input_text}{hint_text}"
        )
        return ProtocolError(text, code=LinkCode.BAD_REPLY)

    def _silence_error(self, error: LinkError) -> LinkError:
        """The error where no frame came: for silence, or for bytes that are no frame."""
        if not self._input_text:
            return error
        hint_text = f"{MARK}{self._hint}" if self._hint else ""
        text = f"no answer in time, but {self._input_text}; {self._request_text()}{hint_text}"
        return LinkError(text, code=error.code)

    def _request_text(self) -> str:
        quantity = (
            f"{self._size} bytes of bits" if self._function <= 2 else f"{self._size // 2} registers"
        )
        return (
            f"asked unit {self._unit}, function {self._function}, {quantity} ({self._size} bytes)"
        )

    def _drop(self, cause: str, text: str = "") -> None:
        """Count input that is no reply; the text of the first is kept for the error."""
        self._link.count(cause)
        if not self._input_text or (
            self._dropped is not None and "noise" in self._dropped and text
        ):
            self._input_text = text or cause
        self._dropped = {**(self._dropped or {}), cause: None}

    def _drop_pdu(self, cause: str, unit: int, pdu: bytes) -> None:
        size = f"{pdu[1]} bytes" if len(pdu) > 1 and not pdu[0] & 0x80 else "no registers"
        self._drop(cause, f"unit {unit}, function {pdu[0]}, {size}: {shown(pdu)}")

    def _registers(self, unit: int, pdu: bytes) -> bytes | None:
        """The registers if this PDU is the reply, else None. Raises the device's exception."""
        if unit != self._unit:
            self._drop_pdu("wrong_unit", unit, pdu)
            if unit in _SINGLE_UNIT_IDS:
                self._hint = f"it answers as unit {unit}: set `unit: {unit}`"
        elif len(pdu) < 2 or pdu[0] & 0x7F != self._function:
            self._drop_pdu("wrong_function", unit, pdu)
        elif (refusal := _refusal(pdu)) is not None:
            raise refusal
        elif pdu[1] != self._size or len(pdu) != 2 + self._size:
            self._drop_pdu("wrong_count", unit, pdu)
            if self._function > 2 and pdu[1] == 2 * self._size == len(pdu) - 2:
                self._hint = _WIDE_HINT
        else:
            return pdu[2:]
        return None


class TcpReply(ModbusReply):
    """Finds the reply in a stream of MBAP frames by its transaction id, unit and function."""

    __slots__ = ("_head", "_reply_bytes", "_transaction")

    def __init__(self, link: Link, transaction: int, unit: int, function: int, size: int) -> None:
        super().__init__(link, unit, function, size)
        self._transaction = transaction
        self._head = _REPLY_HEAD.pack(transaction, 0, 3 + size, unit, function, size & 0xFF)
        # A byte count has 8 bits: no reply matches a larger size (a write's, see wire/write.py).
        self._reply_bytes = _REPLY_HEAD.size + size if size <= 0xFF else -1

    def parse(self, buffer: bytearray) -> bytes | None:
        # Fast path, nearly always taken: the reply alone. Its head has all that is checked below.
        if len(buffer) == self._reply_bytes and buffer.startswith(self._head):
            frame = bytes(buffer)
            buffer.clear()
            return frame[_REPLY_HEAD.size :]
        while len(buffer) >= _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(buffer)
            if protocol or length not in _MBAP_LENGTHS:
                self._skip_noise(buffer)
                continue
            end = 6 + length
            if len(buffer) < end and not self._has_long_length(buffer, end):
                break
            pdu = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            if (registers := self._match(transaction, unit, pdu)) is not None:
                return registers
        if buffer and self._dropped is None:
            self._input_text, self._hint = _incomplete_text(buffer), _framing_hint(bytes(buffer))
        return None

    def _has_long_length(self, buffer: bytearray, end: int) -> bool:
        """Whether it is the complete reply of a device whose length field is one too high."""
        if len(buffer) != end - 1:
            return False
        start = _HEADER.pack(self._transaction, 0, end - 6, self._unit)
        function_and_size = bytes([self._function, self._size & 0xFF])
        is_exception = (
            len(buffer) == _HEADER.size + 2 and buffer[_HEADER.size] == self._function | 0x80
        )
        is_reply = len(buffer) == self._reply_bytes and buffer.startswith(
            function_and_size, _HEADER.size
        )
        if not buffer.startswith(start) or not (is_reply or is_exception):
            return False
        self._link.count("long_length")
        return True

    def _skip_noise(self, buffer: bytearray) -> None:
        """Skip noise in front of the reply's head. Raises ProtocolError where there is no head."""
        start = (
            buffer.find(self._head, 1, _NOISE_BYTES_MAX + len(self._head))
            if self._reply_bytes > 0
            else -1
        )
        if start < 0:
            raise ProtocolError(
                _no_frame_text(self._request_text(), bytes(buffer)), code=LinkCode.BAD_FRAME
            )
        self._drop("noise", f"{start} bytes before the frame: {shown(buffer[:start])}")
        del buffer[:start]

    def _match(self, transaction: int, unit: int, pdu: bytes) -> bytes | None:
        if transaction == self._transaction:
            return self._registers(unit, pdu)
        self._drop("late_own" if self._link.expired(transaction) else "foreign_tid")
        return None


class SerialReply(ModbusReply):
    """Finds the reply among frames without transaction ids; `traffic` is the link's history.

    `frame` is the accepted frame, `at` the loop time when it was complete, and `unmatched` are
    complete frames that were no reply to this request.
    """

    FRAME_MIN_BYTES = 0

    __slots__ = ("at", "frame", "read", "traffic", "unmatched")

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
        self.unmatched: list[HeardFrame] = []

    def parse(self, buffer: bytearray) -> bytes | None:
        """The registers, once the frame is complete. Raises the device's exception."""
        while (raw := self._next(buffer)) is not None:
            content = self._evaluate(raw)
            if content is None:
                continue
            self.at = 0.0 if self.traffic is None else asyncio.get_running_loop().time()
            if (
                len(buffer) >= self.FRAME_MIN_BYTES
                and isinstance(content, bytes)
                and self._is_copy(raw, buffer)
            ):
                continue
            self.frame = raw
            if isinstance(content, DeviceError):
                raise content
            return content
        return None

    def collect(
        self, buffer: bytearray, replies: "list[tuple[bytes, float, ReplyContent]]"
    ) -> None:
        """Append each frame that fits the request: bytes, loop time, registers or exception."""
        while (raw := self._next(buffer)) is not None:
            if (content := self._evaluate(raw)) is not None:
                replies.append((raw, asyncio.get_running_loop().time(), content))

    def _noise(self, data: bytes | bytearray, size: int) -> None:
        """Count `data`, which begins no frame, as noise; `size` bytes of it are skipped."""
        if not self._input_text and _is_mbap_header(bytes(data)):
            self._hint = _MBAP_HINT
        self._drop(
            "noise", f"bytes that are no frame: {shown(data)}" if not self._input_text else ""
        )

    def has_rival_request(self) -> bool:
        """Whether another master's request was heard whose reply would fit this one, too."""
        count = self._size if self._function <= 2 else self._size // 2
        own_shape = (self._unit, self._function, count)
        return any(
            frame.is_request
            and (self.traffic is None or frame.raw != self.traffic.request)
            and (frame.unit, frame.function, frame.count) == own_shape
            for frame in self.unmatched
        )

    def _evaluate(self, raw: bytes) -> ReplyContent | None:
        """The reply in a complete frame; None if it is none, which is counted and kept."""
        unit, pdu = unit_and_pdu(raw)
        try:
            registers = self._registers(unit, pdu)
        except DeviceError as exception:
            return exception
        if registers is None:
            self.unmatched.append(heard_frame(raw, unit, pdu))
        return registers

    def _is_copy(self, raw: bytes, rest: bytearray) -> bool:
        """Whether `raw` is a copy of an earlier reply, so that the reply is in `rest`.

        One request has one reply: with a second frame behind it neither can be trusted (raises
        ProtocolError), unless the second equals the first on a link that sends all frames twice.
        """
        traffic = self.traffic
        if traffic is not None and traffic.may_be_copy(raw, self.read, self.at):
            traffic.copied(raw, self.at)
            return True
        if traffic is not None and rest == raw:
            traffic.pairs += 1
            if traffic.sends_pairs:
                traffic.keep(raw, self.read, self.at)
                traffic.copied(raw, self.at)
                rest.clear()
                return False
        raise ProtocolError("two replies to one request", code=LinkCode.TWO_REPLIES)

    def _next(self, buffer: bytearray) -> bytes | None:
        """Take the next complete frame out of the buffer; drops noise and requests before it."""
        raise NotImplementedError


class RtuReply(SerialReply):
    """Finds the reply in RTU bytes, which may hold noise and frames of other masters."""

    FRAME_MIN_BYTES = _RTU_MIN_BYTES

    __slots__ = ()

    def _next(self, buffer: bytearray) -> bytes | None:
        while len(buffer) >= _RTU_MIN_BYTES:
            size = _rtu_size(buffer)
            if size and len(buffer) >= size and RTU.decode(bytes(buffer[:size]))[3]:
                return _take(buffer, size)
            if (request := _request(buffer)) is not None:
                self.unmatched.append(request)
                self._drop("foreign_request")
                del buffer[:_RTU_REQUEST_BYTES]
                continue
            start = 1
            if size > len(buffer):
                start = self._reply_start(buffer)
                if not start:
                    return None
            self._noise(buffer, start)
            del buffer[:start]
        return None

    def _reply_start(self, buffer: bytearray) -> int:
        """Where a complete reply begins behind noise that looks like a long frame; 0 if none."""
        head = bytes([self._unit, self._function, self._size & 0xFF])
        exception = bytes([self._unit, self._function | 0x80])
        for start in (buffer.find(head, 1), buffer.find(exception, 1)):
            size = 0 if start < 0 else _rtu_size(buffer[start:])
            if size and RTU.decode(bytes(buffer[start : start + size]))[3]:
                return start
        return 0


class AsciiReply(SerialReply):
    """Finds the reply in a stream of ASCII frames."""

    FRAME_MIN_BYTES = _ASCII_MIN_BYTES

    __slots__ = ()

    def _next(self, buffer: bytearray) -> bytes | None:
        while (end := buffer.find(_ASCII_END)) >= 0:
            line = _take(buffer, end + len(_ASCII_END))
            if _ascii_frame(line)[1]:
                return line
            self._noise(line, len(line))
        return None


def unit_and_pdu(raw: bytes) -> tuple[int, bytes]:
    """Unit and PDU of a complete RTU or ASCII frame."""
    return (
        _ascii_frame(raw) if raw.endswith(_ASCII_END) and raw[:1] == b":" else (raw[0], raw[1:-2])
    )


def shown(data: bytes | bytearray) -> str:
    """The first bytes in hexadecimal, for error texts."""
    return bytes(data[:_QUOTED_BYTES_MAX]).hex(" ") + (
        " …" if len(data) > _QUOTED_BYTES_MAX else ""
    )


def _framing_hint(data: bytes) -> str:
    """Hint for bytes received in place of an MBAP frame; empty if they are no serial frame."""
    if next(split_rtu(data), None) is not None:
        return _RTU_HINT
    return _ASCII_HINT if next(split_ascii(data), None) is not None else ""


def _no_frame_text(request: str, data: bytes) -> str:
    hint_text = _framing_hint(data) or _NO_FRAME_HINT
    return f"bytes that are no Modbus TCP frame: {request}; got {shown(data)}{MARK}{hint_text}"


def _incomplete_text(data: bytearray) -> str:
    return f"{len(data)} bytes that are no whole frame: {shown(data)}"


def _is_mbap_header(data: bytes) -> bool:
    """Whether bytes received in place of a serial frame begin with a valid MBAP header."""
    if len(data) < _HEADER.size:
        return False
    _, protocol, length, _ = _HEADER.unpack_from(data)
    return not protocol and length in _MBAP_LENGTHS


def heard_frame(raw: bytes, unit: int, pdu: bytes) -> HeardFrame:
    """Classifies a complete frame: a reply, or the request of another master."""
    if (request := _request(raw)) is not None:
        return request
    function = pdu[0]
    count = pdu[1] if len(pdu) > 1 and not function & 0x80 else 0
    return HeardFrame(raw, unit, function, count if function <= 2 else count // 2)


def split_rtu(data: bytes) -> Iterator[HeardFrame]:
    """The complete RTU frames among these bytes."""
    start = 0
    while len(data) - start >= _RTU_MIN_BYTES:
        rest = data[start : start + _RTU_MAX_BYTES]
        size = _rtu_size(rest)
        if size and len(rest) >= size and (pdu := RTU.decode(rest[:size])[3]):
            yield heard_frame(rest[:size], rest[0], pdu)
            start += size
        elif (request := _request(rest)) is not None:
            yield request
            start += _RTU_REQUEST_BYTES
        else:
            start += 1


def split_ascii(data: bytes) -> Iterator[HeardFrame]:
    """The complete ASCII frames among these bytes."""
    for line in data.split(_ASCII_END)[:-1]:
        unit, pdu = _ascii_frame(line + _ASCII_END)
        if pdu:
            yield heard_frame(line + _ASCII_END, unit, pdu)


def _take(buffer: bytearray, size: int) -> bytes:
    frame = bytes(buffer[:size])
    del buffer[:size]
    return frame


def _request(data: bytes | bytearray) -> HeardFrame | None:
    """The read request that these bytes begin with (RTU) or consist of (ASCII line), if any."""
    if data[:1] == b":":
        unit, pdu = _ascii_frame(bytes(data))
        body = bytes([unit]) + pdu
        if len(body) != _RTU_REQUEST_BYTES - 2:
            return None
        raw = bytes(data)
    else:
        raw = body = bytes(data[:_RTU_REQUEST_BYTES])
        if len(raw) < _RTU_REQUEST_BYTES:
            return None
    function, count = body[1], int.from_bytes(body[4:6], "big")
    if function not in (1, 2, 3, 4) or not 0 < count <= _READ_COUNT_MAX[function <= 2]:
        return None
    if raw is body and RTU.compute_CRC(raw[:-2]) != int.from_bytes(raw[-2:], "big"):
        return None
    return HeardFrame(raw, body[0], function, shape(function, count), is_request=True)


def _ascii_frame(line: bytes) -> tuple[int, bytes]:
    """Unit and PDU of the last frame of a line; the PDU is empty where there is none."""
    frame = line[max(line.rfind(b":"), 0) :]
    # pymodbus' framer is lenient: it accepts blanks as digits.
    if not _ASCII_LINE.fullmatch(frame):
        return 0, b""
    _, unit, _, pdu = ASCII.decode(frame)
    return unit, pdu


def _rtu_size(data: bytes | bytearray) -> int:
    """Length in bytes of the RTU frame that begins here; 0 where none can."""
    function = data[1]
    if function & 0x80:
        return _RTU_EXCEPTION_BYTES
    if function in (5, 6, 15, 16):
        return _RTU_WRITE_BYTES
    if function in (1, 2, 3, 4):
        return 5 + data[2]
    return 0
