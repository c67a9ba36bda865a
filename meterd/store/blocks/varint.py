"""Whole numbers as bytes: seven bits each, the lowest first, the top bit says that more follow.

300  ->  1 0101100   0 0000010
"""

from collections.abc import Iterable

_MOST_BYTES = 10  # of 64 bits; more is damage


class Damage(ValueError):  # noqa: N818 (it is a state of bytes, not a mishap)
    """Bytes that no encoder wrote. Turned into a StoreError where a body is decoded."""


def number(value: int) -> bytes:
    """A number from 0 on."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def numbers(values: Iterable[int]) -> bytes:
    return b"".join(map(number, values))


def zigzag(value: int) -> int:
    """0, -1, 1, -2, … become 0, 1, 2, 3, …"""
    return value << 1 if value >= 0 else ~(value << 1)


def zagzig(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def signed(value: int) -> bytes:
    return number(zigzag(value))


def sized(body: bytes) -> bytes:
    """Bytes with their length before them."""
    return number(len(body)) + body


class Cursor:
    """Reads bytes from front to back. Raises Damage where they end too early."""

    __slots__ = ("_body", "_place")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._place = 0

    def number(self) -> int:
        body, place, value = self._body, self._place, 0
        for shift in range(0, 7 * _MOST_BYTES, 7):
            if place >= len(body):
                raise Damage("a number is cut off")
            byte = body[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._place = place
                return value
        raise Damage("a number has no end")

    def signed(self) -> int:
        return zagzig(self.number())

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        """The next bytes."""
        end = self._place + size
        if end > len(self._body):
            raise Damage(f"{end - len(self._body)} bytes are missing")
        taken = self._body[self._place : end]
        self._place = end
        return taken

    def sized(self) -> bytes:
        """Bytes that have their length before them."""
        return self.take(self.number())

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._place)

    @property
    def place(self) -> int:
        """How many bytes are read."""
        return self._place

    def go_back(self, place: int) -> None:
        """Reads again from there."""
        self._place = place

    @property
    def done(self) -> bool:
        return self._place == len(self._body)

    def end(self) -> None:
        """Nothing may be left."""
        if left := len(self._body) - self._place:
            raise Damage(f"{left} bytes are left over")


def listed(body: bytes) -> list[int]:
    """All numbers of bytes that hold nothing else."""
    found: list[int] = []
    value = shift = 0
    for byte in body:
        if byte < 0x80:
            found.append(value | byte << shift)
            value = shift = 0
        else:
            value |= (byte & 0x7F) << shift
            shift += 7
    if shift:
        raise Damage("a number is cut off")
    return found


class Numbers:
    """Takes numbers off a list, front to back. Raises Damage where they end too early."""

    __slots__ = ("_numbers", "_place")

    def __init__(self, numbers: list[int]) -> None:
        self._numbers = numbers
        self._place = 0

    def one(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> list[int]:
        end = self._place + count
        if end > len(self._numbers):
            raise Damage(f"{end - len(self._numbers)} numbers are missing")
        taken = self._numbers[self._place : end]
        self._place = end
        return taken

    def end(self) -> None:
        """Nothing may be left."""
        if left := len(self._numbers) - self._place:
            raise Damage(f"{left} numbers are left over")
