"""Many short series of equal length as one matrix, for WAL rows.

    | digits of each series, or 15: as it is | nulls or nothing | first numbers | steps | doubles |

The first numbers are coded as steps from one series to the next; so the caller puts series of
the same quantity side by side. A whole fleet is coded in a few passes: single series
of three values would cost more in calls than in work.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, compress
from math import isnan, nan
from operator import add, truediv
from typing import Final

from meterd.store.blocks import byte_planes
from meterd.store.blocks.codec import MAGIC, POWERS, whole
from meterd.store.blocks.varint import Cursor, Damage
from meterd.store.blocks.word_lanes import differences

AS_IS: Final = 15
MAGIC_WORD = byte_planes.words_of(array("d", [MAGIC]))
_Polls = Sequence["array[float]"]


def write(series: Sequence["array[float]"], length: int, digits: bytearray) -> bytes:
    """Series of that length each, which is 1 or more; NaN is a null.

    `digits` is what to try first, one for each series, and is set to what it came to.
    """
    flat = array("d", b"".join([values.tobytes() for values in series]))
    nulls = b""
    if isnan(sum(flat)) and any(map(isnan, flat)):
        nulls = bytes(map(isnan, flat))
        flat = array("d", [0.0 if isnan(value) else value for value in flat])
    return _written([flat[place::length] for place in range(length)], nulls, digits)


def write_polls(polls: _Polls, digits: bytearray) -> bytes:
    """The same of series that have no nulls, poll by poll."""
    return _written(polls, b"", digits)


def _written(polls: _Polls, nulls: bytes, digits: bytearray) -> bytes:
    words, wrong = _tried(polls, digits)
    wide = b""
    if wrong:
        _search(polls, digits, wrong)
        words = _mended(words, polls, digits, wrong)
        others = [number == AS_IS for number in digits]
        rest = array("d", chain.from_iterable(compress(poll, others) for poll in polls))
        wide = byte_planes.doubles(rest) if rest else b""
    return bytes(digits) + bytes((bool(nulls),)) + nulls + _numbers(words) + wide


def _mended(words: list[bytes], polls: _Polls, digits: bytearray, wrong: list[int]) -> list[bytes]:
    """Those series anew, with the digits that were found; without what stays as it is.

    They are few in each commit: a value had one digit more than those before.
    """
    part = [array("d", map(poll.__getitem__, wrong)) for poll in polls]
    fresh, _ = _tried(part, bytes(digits[place] % AS_IS for place in wrong))
    chosen = [number != AS_IS for number in digits]
    lanes_ = []
    for old, new in zip(words, fresh, strict=True):
        lanes = array("q", old)
        for place, word in zip(wrong, array("q", new), strict=True):
            lanes[place] = word
        lanes_.append(array("q", compress(lanes, chosen)).tobytes())
    return lanes_


def _search(polls: _Polls, digits: bytearray, wrong: list[int]) -> None:
    """Sets the fewest digits of those series that give back every bit; or AS_IS."""
    for level in range(len(POWERS)):
        part = [array("d", map(poll.__getitem__, wrong)) for poll in polls]
        _, still = _tried(part, bytes((level,)) * len(wrong))
        for place in wrong:
            digits[place] = level
        wrong = [wrong[place] for place in still]
        if not wrong:
            return
    for place in wrong:
        digits[place] = AS_IS


def _tried(polls: _Polls, digits: bytes | bytearray) -> tuple[list[bytes], list[int]]:
    """Each poll's whole numbers, as words above MAGIC; and which series do not come back."""
    powers = [POWERS[number] for number in digits]
    packed: list[bytes] = []
    wrong: set[int] = set()
    for poll in polls:
        pairs = zip(poll, powers, strict=True)
        shifted = array("d", [value * power + MAGIC for value, power in pairs])
        words = byte_planes.words_of(shifted)
        pairs = zip(shifted, powers, strict=True)
        back = array("d", [(value - MAGIC) / power for value, power in pairs])
        if back.tobytes() != poll.tobytes() or not whole(words):
            wrong.update(_differing(poll, back, words))
        packed.append(words)
    return packed, sorted(wrong)


def _differing(poll: "array[float]", back: "array[float]", words: bytes) -> Iterator[int]:
    """Bit for bit: a negative zero differs from zero. And 2**51 is no whole number here."""
    ours, theirs = (array("q", values.tobytes()) for values in (poll, back))
    yield from [
        at for at, (mine, other) in enumerate(zip(ours, theirs, strict=True)) if mine != other
    ]
    if not whole(words):
        each = (words[at : at + 8] for at in range(0, len(words), 8))
        yield from (at for at, word in enumerate(each) if not whole(word))


def _numbers(words: Sequence[bytes]) -> bytes:
    """Each series' first number as a step from the one before, then all steps poll by poll."""
    first = MAGIC_WORD + words[0][:-8] if words[0] else b""
    steps = differences(b"".join(words[1:]), b"".join(words[:-1]))
    return byte_planes.narrowed(differences(words[0], first)) + byte_planes.narrowed(steps)


def read(cursor: Cursor, count: int, length: int) -> list["array[float]"]:
    """So many series. Raises Damage or OverflowError."""
    polls, nulls = read_polls(cursor, count, length)
    series = [array("d", values) for values in zip(*polls, strict=True)]
    return _with_nulls(series, nulls, length) if nulls else series


def read_polls(cursor: Cursor, count: int, length: int) -> tuple[list["array[float]"], bytes]:
    """So many series poll by poll; and which values are nulls, series by series, if any are.

    Raises Damage or OverflowError.
    """
    digits = cursor.take(count)
    nulls = cursor.take(count * length) if cursor.byte() else b""
    chosen = [number != AS_IS for number in digits]
    if any(number >= len(POWERS) for number in compress(digits, chosen)):
        raise Damage("a series has too many digits")
    powers = [POWERS[number] for number in compress(digits, chosen)]
    polls = _plain(cursor, powers, length)
    rest = count - len(powers)
    if not rest:
        return polls, nulls
    wide = laid_doubles(cursor, rest * length)
    mixed = []
    for place, poll in enumerate(polls):
        decimals, others = iter(poll), iter(wide[place * rest : (place + 1) * rest])
        mixed.append(array("d", [next(decimals) if yes else next(others) for yes in chosen]))
    return mixed, nulls


def _plain(cursor: Cursor, powers: Sequence[float], length: int) -> list["array[float]"]:
    count = len(powers)
    numbers = array("q", accumulate(laid(cursor, count)))
    steps = laid(cursor, count * (length - 1))
    polls = [array("d", map(truediv, numbers, powers))]
    for place in range(length - 1):
        step = steps[place * count : (place + 1) * count]
        numbers = array("q", map(add, numbers, step))
        polls.append(array("d", map(truediv, numbers, powers)))
    return polls


def _with_nulls(
    series: Sequence["array[float]"], nulls: bytes, length: int
) -> list["array[float]"]:
    flat = chain.from_iterable(series)
    values = array("d", [nan if null else value for value, null in zip(flat, nulls, strict=True)])
    return [values[at : at + length] for at in range(0, len(values), length)]


def laid(cursor: Cursor, count: int) -> "array[int]":
    """Numbers that `byte_planes.lay` wrote, and the cursor after them. Raises Damage."""
    return byte_planes.unpack(_planes(cursor, count), count)


def laid_doubles(cursor: Cursor, count: int) -> "array[float]":
    return byte_planes.undoubled(_planes(cursor, count), count)


def _planes(cursor: Cursor, count: int) -> bytes:
    width = cursor.byte()
    return bytes((width,)) + cursor.take(width * count)
