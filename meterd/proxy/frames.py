"""Modbus TCP from the server's side: requests cut out of a stream, and their answers.

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
# Unit and function at least; at most a PDU of 253 bytes behind the unit.
_LENGTHS: Final = range(2, 255)
_SPACE: Final = 0x10000

READS: Final = (1, 2, 3, 4)
WRITES: Final = (5, 6, 15, 16, 21, 22, 23)
MOST_BITS: Final = 2000
MOST_REGISTERS: Final = 125

# Modbus Application Protocol V1.1b3, section 7.
ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
FAILURE: Final = 4
BUSY: Final = 6
NO_PATH: Final = 10
NO_RESPONSE: Final = 11


class NoFrame(Exception):  # noqa: N818 (a verdict on a stream)
    """The stream is no Modbus TCP: where the next frame begins cannot be known."""


class ProxyRefusal(Exception):  # noqa: N818 (an answer, not a mishap)
    """The client gets exception `code`; `cause` is what is counted."""

    def __init__(self, code: int, cause: str) -> None:
        super().__init__(f"exception {code}: {cause}")
        self.code = code
        self.cause = cause


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """One frame of a client; `pdu` begins with the function."""

    transaction: int
    unit: int
    pdu: bytes

    def answer(self, data: bytes) -> bytes:
        """The frame that carries these registers."""
        return self._frame(bytes([self.pdu[0], len(data)]) + data)

    def refusal(self, code: int) -> bytes:
        """The frame that says no."""
        return self._frame(bytes([self.pdu[0] | 0x80, code]))

    def _frame(self, pdu: bytes) -> bytes:
        return _HEADER.pack(self.transaction, 0, len(pdu) + 1, self.unit) + pdu


@dataclass(frozen=True, slots=True)
class RegisterSpan:
    """What a client wants to read: registers, or bits for functions 1 and 2."""

    function: int
    address: int
    count: int

    @property
    def end(self) -> int:
        return self.address + self.count


async def next_request(reader: StreamReader, header: bytes) -> ProxyRequest:
    """The frame that begins with `header`, 7 bytes, when it is whole.

    Raises NoFrame, or asyncio's IncompleteReadError where the client hangs up in the middle.
    """
    transaction, protocol, length, unit = _HEADER.unpack(header)
    if protocol or length not in _LENGTHS:
        raise NoFrame(f"protocol id {protocol}, length {length}")
    return ProxyRequest(transaction, unit, await reader.readexactly(length - 1))


HEADER_SIZE: Final = _HEADER.size


def wanted(pdu: bytes) -> RegisterSpan:
    """What a request asks for. Raises ProxyRefusal for all that is no proper read."""
    if pdu[0] in WRITES:
        raise ProxyRefusal(ILLEGAL_FUNCTION, "writes")
    if pdu[0] not in READS:
        raise ProxyRefusal(ILLEGAL_FUNCTION, "other_functions")
    if len(pdu) != _READ.size:
        raise ProxyRefusal(ILLEGAL_VALUE, "malformed")
    span = RegisterSpan(*_READ.unpack(pdu))
    if not 1 <= span.count <= (MOST_BITS if span.function <= 2 else MOST_REGISTERS):
        raise ProxyRefusal(ILLEGAL_VALUE, "malformed")
    if span.end > _SPACE:
        raise ProxyRefusal(ILLEGAL_ADDRESS, "malformed")
    return span


def payload(span: RegisterSpan) -> int:
    """Bytes of values in the answer."""
    return -(-span.count // 8) if span.function <= 2 else 2 * span.count
