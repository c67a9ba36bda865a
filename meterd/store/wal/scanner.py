"""Scans a record log: yields sound records, and the ranges in which some cannot be read.

    record  | bytes of the body, 4 | number, 8 | CRC-32 of both and the body, 4 | body |

Numbers rise by one from 1. A record is on the disk before the next one is written, so what is
damaged with a sound record behind it was sound once: that is a flaw. What follows the last sound
record was broken off while it was written, which is no flaw: unless one wrong bit explains it.
"""

import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

MOST_BYTES = 1 << 26  # of one body
HEAD = Struct("<IQI")

_WINDOW = 1 << 20  # bytes that are searched at a time
# The upper half of a number is zero: no file has so many records.
_UPPER = bytes(4)
_ZEROS = re.compile(rb"\0*")
_UPPER_AT = 8  # bytes from the begin of a head
# What a wrong byte at the end does to a CRC-32; and by its first byte, which of them a value is.
_TABLE = tuple(zlib.crc32(bytes((byte,))) ^ zlib.crc32(b"\0") for byte in range(256))
_BYTE_OF = {value >> 24: byte for byte, value in enumerate(_TABLE)}
_ONE_BIT = frozenset(_TABLE[1 << bit] for bit in range(8))


@dataclass(frozen=True, slots=True)
class Record:
    """A sound record; `end` is the offset behind it."""

    number: int
    end: int
    body: bytes


@dataclass(frozen=True, slots=True)
class DamagedRange:
    """A damaged place from `start` to `stop` (offsets), which held records `first` to `last`.

    Where `first` is 0 it is the head of the file, which is there several times: no record is lost.
    """

    first: int
    last: int
    start: int
    stop: int
    raw: bytes

    def __str__(self) -> str:
        which = f"record {self.first}" if self.first == self.last else f"records {self.first} to "
        which += "" if self.first == self.last else str(self.last)
        where = f"bytes {self.start} to {self.stop}"
        return f"{which} ({where}) is damaged" if self.first else f"its head ({where}) is damaged"


def encode_record(number: int, body: bytes, seed: int = 0) -> bytes:
    """One record."""
    return HEAD.pack(len(body), number, _check(number, body, seed)) + body


def _check(number: int, body: bytes, seed: int) -> int:
    crc = zlib.crc32(HEAD.pack(len(body), number, 0), seed)
    return zlib.crc32(body, crc)


def scan(file: int, start: int, end: int, seed: int = 0) -> Iterator[Record | DamagedRange]:
    """Everything from `start` to `end` (offsets), in order. `seed` is what each CRC begins with.

    What is behind the last item is free, whatever it holds. Raises OSError.
    """
    expected = 1
    while True:
        place, record = start, _record(file, start, end, seed)
        if record is None or record.number != expected:
            found = _next(file, start, end, seed, expected)
            if found is None:
                break
            place, record = found
        if record.number > expected:
            yield _flaw(file, expected, record.number - 1, start, place)
        yield record
        start, expected = record.end, record.number + 1
    if (stop := _one_bit_off(file, start, end, seed, expected)) is not None:
        yield _flaw(file, expected, expected, start, stop)


def _flaw(file: int, first: int, last: int, start: int, stop: int) -> DamagedRange:
    return DamagedRange(first, last, start, stop, os.pread(file, stop - start, start))


def _record(file: int, start: int, end: int, seed: int, least: int = 1) -> Record | None:
    """The record at this offset, if it is sound and its number is `least` or more."""
    head = os.pread(file, HEAD.size, start) if start + HEAD.size <= end else b""
    if len(head) < HEAD.size:
        return None
    size, number, check = HEAD.unpack(head)
    stop = start + HEAD.size + size
    if size > MOST_BYTES or stop > end or not least <= number <= least + end:
        return None
    body = os.pread(file, size, start + HEAD.size)
    if len(body) < size or _check(number, body, seed) != check:
        return None
    return Record(number, stop, body)


def _next(file: int, start: int, end: int, seed: int, least: int) -> tuple[int, Record] | None:
    """The first sound record behind a damaged place, and its offset."""
    for place in _places(file, start, end):
        record = _record(file, place, end, seed, least)
        if record is not None:
            return place, record
    return None


def _places(file: int, start: int, end: int) -> Iterator[int]:
    """Offsets at which a head may stand: the upper half of its number is zero, the lower is not."""
    while start + HEAD.size <= end:
        data = os.pread(file, min(_WINDOW, end - start), start)
        for begin, stop in _runs_of_zeros(data):
            # The lower half is not all zero, so it begins before the run.
            for place in range(begin - _UPPER_AT, begin - _UPPER_AT + len(_UPPER)):
                if place >= 0 and place + _UPPER_AT + len(_UPPER) <= stop:
                    yield start + place
        if len(data) < _WINDOW:
            return
        # A head on the border is whole in the next window.
        start += _WINDOW - HEAD.size


def _runs_of_zeros(data: bytes) -> Iterator[tuple[int, int]]:
    """Where four of them or more begin, and end. Much quicker than a regular expression alone."""
    begin = data.find(_UPPER)
    while begin >= 0:
        run = _ZEROS.match(data, begin)
        stop = run.end() if run is not None else begin
        yield begin, stop
        begin = data.find(_UPPER, stop)


def _one_bit_off(file: int, start: int, end: int, seed: int, number: int) -> int | None:
    """The end of the record with this number, if it is sound but for one bit; else None."""
    head = os.pread(file, HEAD.size, start) if start + HEAD.size <= end else b""
    if len(head) < HEAD.size:
        return None
    as_it_is = int.from_bytes(head, "little")
    for flip in (0, *(1 << bit for bit in range(8 * HEAD.size))):
        size, told, check = HEAD.unpack((as_it_is ^ flip).to_bytes(HEAD.size, "little"))
        stop = start + HEAD.size + size
        if told != number or size > MOST_BYTES or stop > end:
            continue
        body = os.pread(file, size, start + HEAD.size)
        if len(body) < size:
            continue
        wrong = _check(number, body, seed) ^ check
        if (flip and not wrong) or (not flip and _is_one_bit(wrong, size)):
            return int(stop)
    return None


def _is_one_bit(wrong: int, size: int) -> bool:
    """Whether this difference of checksums is that of one flipped bit in so many bytes."""
    for _ in range(size):
        if wrong in _ONE_BIT:
            return True
        # As if what was wrong had been followed by one byte less.
        byte = _BYTE_OF[wrong >> 24]
        wrong = ((wrong ^ _TABLE[byte]) << 8 | byte) & 0xFFFFFFFF
    return False
