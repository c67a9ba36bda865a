"""Modbus TCP frames, server's side: decodes requests from a stream, encodes replies.

MBAP    | transaction | protocol 0 | length | unit | function | address | count |
answer  | transaction | protocol 0 | length | unit | function | bytes | registers … |
refusal | transaction | protocol 0 | length | unit | function + 0x80 | code |
"""

import struct
from asyncio import StreamReader
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct(">HHHB")
_READ: Final = struct.Struct(">BHH")
# Of the MBAP header: unit id and function at least, unit id and a PDU of 253 bytes at most.
_LENGTHS: Final = range(2, 255)
_ADDRESS_SPACE: Final = 0x10000

READ_FUNCTIONS: Final = (1, 2, 3, 4)
WRITE_FUNCTIONS: Final = (5, 6, 15, 16, 21, 22, 23)
BITS_MAX: Final = 2000
REGISTERS_MAX: Final = 125

# Modbus Application Protocol V1.1b3, section 7.
ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
FAILURE: Final = 4
BUSY: Final = 6
NO_PATH: Final = 10
NO_RESPONSE: Final = 11


class NoModbusFrame(Exception):  # noqa: N818 (the stream is at fault, no code)
    """The stream is no Modbus TCP, so the start of the next frame is unknown."""


class ProxyRefusal(Exception):  # noqa: N818 (a reply, no failure)
    """The client gets exception `code`; `cause` is the counter's name."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(f"exception {code}: {cause}")
        self.code = code
        self.cause = cause


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """One request frame; `pdu` begins with the function code."""

    transaction: int
    unit: int
    pdu: bytes

    def answer(self, data: bytes) -> bytes:
        """The reply frame with these bytes of registers or bits."""
        return self._frame(bytes([self.pdu[0], len(data)]) + data)

    def refusal(self, code: int) -> bytes:
        """The reply frame with an exception code."""
        return self._frame(bytes([self.pdu[0] | 0x80, code]))

    def _frame(self, pdu: bytes) -> bytes:
        return _HEADER.pack(self.transaction, 0, len(pdu) + 1, self.unit) + pdu


@dataclass(frozen=True, slots=True)
class RegisterSpan:
    """The range of a read: registers, or bits with functions 1 and 2."""

    function: int
    address: int
    count: int

    @property
    def end(self) -> int:
        return self.address + self.count


async def next_request(reader: StreamReader, header: bytes) -> ProxyRequest:
    """Read the rest of the frame that begins with `header`, 7 bytes.

    Raises NoModbusFrame, or asyncio's IncompleteReadError where the client closes within a frame.
    """
    transaction, protocol, length, unit = _HEADER.unpack(header)
    if protocol or length not in _LENGTHS:
        raise NoModbusFrame(f"protocol id {protocol}, length {length}")
    return ProxyRequest(transaction, unit, await reader.readexactly(length - 1))


HEADER_SIZE: Final = _HEADER.size


def span_of(pdu: bytes) -> RegisterSpan:
    """Decode a read request. Raises ProxyRefusal for writes and malformed requests."""
    if pdu[0] in WRITE_FUNCTIONS:
        raise ProxyRefusal(ILLEGAL_FUNCTION, "writes")
    if pdu[0] not in READ_FUNCTIONS:
        raise ProxyRefusal(ILLEGAL_FUNCTION, "other_functions")
    if len(pdu) != _READ.size:
        raise ProxyRefusal(ILLEGAL_VALUE, "malformed")
    span = RegisterSpan(*_READ.unpack(pdu))
    if not 1 <= span.count <= (BITS_MAX if span.function <= 2 else REGISTERS_MAX):
        raise ProxyRefusal(ILLEGAL_VALUE, "malformed")
    if span.end > _ADDRESS_SPACE:
        raise ProxyRefusal(ILLEGAL_ADDRESS, "malformed")
    return span


def payload_bytes(span: RegisterSpan) -> int:
    """The number of data bytes in the reply."""
    return -(-span.count // 8) if span.function <= 2 else 2 * span.count
