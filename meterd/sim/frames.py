"""Modbus framing of the simulators: MBAP on TCP and RTU on serial lines, server's side.

MBAP | tid tid | 0 0 | length length | unit | function … |         length counts from unit on
RTU  | unit | function … | crc crc |                               crc low byte first
"""

import struct
from dataclasses import dataclass
from typing import Protocol

_MBAP = struct.Struct(">HHHB")
_PDU_MAX_BYTES = 253
_POLYNOMIAL = 0xA001
# Function -> length of a whole RTU request. 15 and 16 carry their own length at byte 6.
_REQUEST_BYTES = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8}
_WRITES = (15, 16)
_FRAME_MIN_BYTES, _FRAME_MAX_BYTES = 4, 256  # of RTU


@dataclass(frozen=True, slots=True)
class Adu:
    """One message: transaction id (0 on RTU), unit, and the PDU from the function code on."""

    tid: int
    unit: int
    pdu: bytes


class Framing(Protocol):
    """Decodes a stream into messages, and encodes messages. One object for each connection."""

    def feed(self, data: bytes) -> list[Adu]:
        """Add received bytes; the messages that are complete now."""

    def forget(self) -> None:
        """Drop an incomplete message, after a silence on the line."""

    def wrap(self, adu: Adu) -> bytes:
        """The bytes of one message."""


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_crc_of(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """The Modbus CRC: polynomial 0x8005 reflected, start 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def with_crc(body: bytes) -> bytes:
    """The body and its CRC, low byte first: 01 03 00 00 00 0A gets C5 CD."""
    return body + struct.pack("<H", crc16(body))


class SocketFraming:
    """MBAP framing: the header has the length of the message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Adu]:
        """As in Framing. Raises ValueError where the stream is no MBAP: a meter hangs up then."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= _MBAP.size:
            tid, protocol, length, unit = _MBAP.unpack_from(self._buffer)
            if protocol or not 2 <= length <= _PDU_MAX_BYTES + 1:
                raise ValueError(f"protocol id {protocol}, length {length}: no MBAP header")
            if len(self._buffer) < (end := _MBAP.size - 1 + length):
                break
            messages.append(Adu(tid, unit, bytes(self._buffer[_MBAP.size : end])))
            del self._buffer[:end]
        return messages

    def forget(self) -> None:
        """Nothing: TCP delivers the rest of a message, however late."""

    def wrap(self, adu: Adu) -> bytes:
        return _MBAP.pack(adu.tid, 0, len(adu.pdu) + 1, adu.unit) + adu.pdu


class RtuFraming:
    """RTU framing: the length follows from the function code, and the CRC must match."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Adu]:
        self._buffer += data
        messages = []
        while len(self._buffer) >= _FRAME_MIN_BYTES:
            end = self._end()
            if end is None:
                break
            frame = bytes(self._buffer[:end])
            if with_crc(frame[:-2]) != frame:
                # A meter that sees a bad CRC discards all until the next silence.
                self._buffer.clear()
                break
            messages.append(Adu(0, frame[0], frame[1:-2]))
            del self._buffer[:end]
        return messages

    def _end(self) -> int | None:
        """The end of the first request in the buffer; None while it is incomplete."""
        function, size = self._buffer[1], len(self._buffer)
        if function in _WRITES:
            end = 9 + self._buffer[6] if size > 6 else _FRAME_MAX_BYTES
        elif function in _REQUEST_BYTES:
            end = _REQUEST_BYTES[function]
        else:
            ends = (
                n
                for n in range(_FRAME_MIN_BYTES, min(size, _FRAME_MAX_BYTES) + 1)
                if self._has_valid_crc(n)
            )
            end = next(ends, _FRAME_MAX_BYTES)
        return end if size >= end else None

    def _has_valid_crc(self, end: int) -> bool:
        frame = bytes(self._buffer[:end])
        return with_crc(frame[:-2]) == frame

    def forget(self) -> None:
        self._buffer.clear()

    def wrap(self, adu: Adu) -> bytes:
        return with_crc(bytes([adu.unit]) + adu.pdu)


def framing(framer: str) -> Framing:
    """A new framing: `socket` or `rtu`."""
    return RtuFraming() if framer == "rtu" else SocketFraming()
