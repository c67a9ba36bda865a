"""Few whole numbers from 0 on as Rice codes: less than deflate needs, which begins with tables.

    number = quotient << k | low bits          k is one for all of them

    | k | low bits of all, k each | quotients: so many 0 bits and a 1 each |   highest bits first
    | 0x40 |                        all are 0
    | 0x41 | planes |               byte_planes.pack, where that is smaller

Golomb coding with a power of two: R. F. Rice, "Some Practical Universal Noiseless Coding
Techniques", JPL Publication 79-22 (1979).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from meterd.store.blocks import byte_planes
from meterd.store.blocks.varint import Damage

ZEROS: Final = 0x40
PLANES: Final = 0x41
MOST_BITS: Final = 56  # that `k` may have


class RiceCode(NamedTuple):
    """A body taken apart: `k` may also be ZEROS (nothing follows) or PLANES (in `low`)."""

    k: int
    low: bytes
    quotients: bytes


def encode(numbers: Sequence[int]) -> bytes:
    """Numbers below 2**63. How many there are has to be kept elsewhere.

    Raises OverflowError for larger ones.
    """
    if not any(numbers):
        return bytes((ZEROS,))
    planes = byte_planes.pack(numbers)
    k, bits = _best(numbers)
    if k > MOST_BITS or bits // 8 >= len(planes):
        return bytes((PLANES,)) + planes
    body = bytes((k,)) + _low(numbers, k) + _unary(numbers, k)
    return body if len(body) <= len(planes) else bytes((PLANES,)) + planes


def cut(body: bytes, count: int) -> RiceCode:
    """Raises Damage."""
    if not body:
        raise Damage("no bytes of Rice codes")
    k = body[0]
    if k == ZEROS and len(body) == 1:
        return RiceCode(k, b"", b"")
    if k == PLANES:
        return RiceCode(k, body[1:], b"")
    if k > MOST_BITS:
        raise Damage(f"Rice codes of {k} bits")
    size = low_size(k, count)
    if len(body) <= 1 + size:
        raise Damage(f"{len(body)} bytes of Rice codes for {count} numbers")
    return RiceCode(k, body[1 : 1 + size], body[1 + size :])


def decode(body: bytes, count: int) -> list[int]:
    """The numbers. Raises Damage or zlib.error."""
    code = cut(body, count)
    if code.k == ZEROS:
        return [0] * count
    if code.k == PLANES:
        return byte_planes.unpack(code.low, count).tolist()
    zeros = _bits(code.quotients).split("1")
    if len(zeros) != count + 1:
        raise Damage(f"{len(zeros) - 1} Rice codes where {count} are due")
    quotients = map(len, zeros[:count])
    if not code.k:
        return list(quotients)
    bits, k = _bits(code.low), code.k
    low = [int(bits[at : at + k], 2) for at in range(0, k * count, k)]
    return [quotient << k | rest for quotient, rest in zip(quotients, low, strict=True)]


def low_size(k: int, count: int) -> int:
    """Bytes of the low bits of so many numbers."""
    return (k * count + 7) // 8


def _best(numbers: Sequence[int]) -> tuple[int, int]:
    """The k that needs the fewest bits, and these."""
    likely = (sum(numbers) // len(numbers)).bit_length()
    bits, k = min(
        (sum([number >> k for number in numbers]) + (k + 1) * len(numbers), k)
        for k in range(max(0, likely - 2), likely + 2)
    )
    return k, bits


def _low(numbers: Sequence[int], k: int) -> bytes:
    if not k:
        return b""
    mask = (1 << k) - 1
    return _packed("".join([f"{number & mask:0{k}b}" for number in numbers]))


def _unary(numbers: Sequence[int], k: int) -> bytes:
    return _packed("".join(["0" * (number >> k) + "1" for number in numbers]))


def _packed(bits: str) -> bytes:
    size = (len(bits) + 7) // 8
    return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


def _bits(body: bytes) -> str:
    return f"{int.from_bytes(body, 'big'):0{8 * len(body)}b}" if body else ""
