"""Arithmetic on many words at once: they are one long integer, and each is a lane of it.

A dozen operations on the whole replace two on each word. No lane may carry into the next one.
"""

from functools import lru_cache

_BITS = 64


def zigzag(words: bytes, width: int) -> bytes:
    """Two's complement, lowest byte first, with the sign moved to the lowest bit."""
    bits = 8 * width
    lanes = int.from_bytes(words, "little")
    signs = lanes >> (bits - 1) & _ones(len(words) // width, width)
    mixed = (lanes ^ signs << (bits - 1)) << 1 ^ (signs << bits) - signs
    return mixed.to_bytes(len(words), "little")


def zagzig(words: bytes, width: int) -> bytes:
    """The opposite of `zigzag`."""
    bits = 8 * width
    mixed = int.from_bytes(words, "little")
    signs = mixed & _ones(len(words) // width, width)
    lanes = (mixed ^ signs) >> 1 ^ (signs << bits) - signs
    return lanes.to_bytes(len(words), "little")


def differences(later: bytes, earlier: bytes) -> bytes:
    """Of equally many words of 64 bits, all below 2**63: later less earlier, zigzagged."""
    tops = _ones(len(later) // 8, 8) << (_BITS - 1)
    # With the highest bit lent to each lane, none has to borrow from the next one. Where the
    # bit is gone afterwards, the difference is negative.
    lent = (int.from_bytes(later, "little") | tops) - int.from_bytes(earlier, "little")
    signs = (lent & tops ^ tops) >> (_BITS - 1)
    mixed = (lent & ~tops) << 1 ^ (signs << _BITS) - signs
    return mixed.to_bytes(len(later), "little")


@lru_cache(maxsize=16)
def _ones(count: int, width: int) -> int:
    """A one in each lane."""
    return int.from_bytes((b"\1" + bytes(width - 1)) * count, "little")
