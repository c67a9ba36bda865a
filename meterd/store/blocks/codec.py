"""One series' doubles as bytes and back, bit for bit.

    | form, and 0x80 where nulls follow | nulls | forms 1, 2: digits | first | planes of steps |
                                                | form 3: digits | first | first step | planes   |
                                                | form 0: planes of the doubles as they are      |

Form 1 holds meters' values: 230.1 is the whole number 2301 with one digit. Form 2 does so for
what went through a float32 elsewhere, 230.10000610351562. Both are decoded again after encoding;
where one bit differs, form 0 is used. Form 3 is form 1 for counters, which never fall: its planes
are of how much each step differs from the one before, where that is less. Nulls are kept apart as
runs: so many values, so many nulls, so many values, … up to the last null.
"""

from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate, groupby
from math import isnan, nan
from operator import le, sub
from typing import Final

from meterd.store.blocks import byte_planes, varint
from meterd.store.blocks.varint import Cursor, Damage
from meterd.store.blocks.word_lanes import differences

RAW: Final = 0
DECIMAL: Final = 1
WIDENED: Final = 2
STEEP: Final = 3
NULLS: Final = 0x80
POWERS = tuple(float(10**digits) for digits in range(10))
# Added to a double below 2**51, this leaves the nearest whole number in its lowest bits: a
# rounding without a call, of which the integer is read off.
MAGIC = 1.5 * 2**52
MAGIC_BITS = array("q", array("d", [MAGIC]).tobytes())[0]
# The two highest bytes of a double from 2**52 to 2**53.
_HIGH, _NEXT = b"\x43", bytes(range(0x30, 0x40))
_PROBES = 8
_LEAST_STEEP = 8  # values: below it nothing is gained


def encode(values: "array[float]") -> bytes:
    """Doubles, where NaN is a null. How many there are has to be kept elsewhere."""
    if isnan(sum(values)) and any(map(isnan, values)):
        runs = _packed_nulls(values)
        readings = array("d", [value for value in values if value == value])
        form, body = _encoded(readings)
        return bytes((form | NULLS,)) + varint.sized(runs) + body
    form, body = _encoded(values)
    return bytes((form,)) + body


def decode(body: bytes, count: int) -> "array[float]":
    """The doubles. Raises Damage or zlib.error."""
    cursor = Cursor(body)
    form = cursor.byte()
    if not form & NULLS:
        return _decoded(form, cursor, count)
    runs = null_runs(cursor.sized(), count)
    readings = _decoded(form & ~NULLS, cursor, count - sum(runs[1::2]))
    return _with_nulls(readings, runs)


def _encoded(values: "array[float]") -> tuple[int, bytes]:
    if not values:
        return DECIMAL, b""
    expected = values.tobytes()
    # A constant is coded like one value.
    constant = expected == expected[:8] * len(values)
    few, bits = (values[:1], expected[:8]) if constant else (values, expected)
    if (encoded := _decimal(DECIMAL, few, bits)) is not None:
        steep = None if constant else _steep(values, encoded[0])
        shorter = steep is not None and len(steep) < len(encoded)
        return (STEEP, steep) if steep is not None and shorter else (DECIMAL, encoded)
    if _shaped(WIDENED, few).tobytes() == bits:
        encoded = _decimal(WIDENED, few, bits)
    return (
        (RAW, byte_planes.compressed(byte_planes.doubles(values)))
        if encoded is None
        else (WIDENED, encoded)
    )


def _shaped(form: int, values: Iterable[float]) -> "array[float]":
    return array("d", array("f", values) if form == WIDENED else values)


def _decimal(form: int, values: "array[float]", expected: bytes) -> bytes | None:
    """With as few digits as give back every bit; None where nine are too few."""
    probes = values[:: len(values) // _PROBES + 1]
    digits = 0
    while (exact_digits := _digits(form, probes, digits)) is not None:
        body = _steps(values, exact_digits)
        back = values[:0] if body is None else _decoded(form, Cursor(body), len(values))
        if body is not None and back.tobytes() == expected:
            return body
        probes = _first_difference(values, back)
        digits = exact_digits + 1
    return None


def _digits(form: int, probes: "array[float]", least: int) -> int | None:
    """The fewest digits that name the probes exactly."""
    for digits in range(least, len(POWERS)):
        power = POWERS[digits]
        back = [(probe * power + MAGIC - MAGIC) / power for probe in probes]
        if _shaped(form, back) == probes:
            return digits
    return None


def _first_difference(values: "array[float]", back: "array[float]") -> "array[float]":
    pairs = zip(values, back, strict=False)
    return array("d", [next((value for value, other in pairs if value != other), values[0])])


def _steps(values: "array[float]", digits: int) -> bytes | None:
    """How many digits, the first value, and by how much each differs from the one before."""
    power = POWERS[digits]
    words = byte_planes.words_of(array("d", [value * power + MAGIC for value in values]))
    if not whole(words):
        return None
    first = int.from_bytes(words[:8], "little") - MAGIC_BITS
    steps = byte_planes.narrowed(differences(words[8:], words[:-8]))
    return bytes((digits,)) + varint.signed(first) + byte_planes.compressed(steps)


def _steep(values: "array[float]", digits: int) -> bytes | None:
    """A counter that never falls; None for anything else. Every bit comes back by these digits."""
    if len(values) < _LEAST_STEEP or not all(map(le, values, values[1:])):
        return None
    power = POWERS[digits]
    numbers = [round(value * power) for value in values]
    steps = list(map(sub, numbers[1:], numbers))
    bends = byte_planes.pack(list(map(sub, steps[1:], steps)))
    return bytes((digits,)) + varint.signed(numbers[0]) + varint.signed(steps[0]) + bends


def whole(words: bytes) -> bool:
    """Whether doubles to which MAGIC was added have its exponent: their bits count then."""
    high, next_high = words[7::8], words[6::8]
    return high == _HIGH * len(high) and not next_high.translate(None, _NEXT)


def _decoded(form: int, cursor: Cursor, count: int) -> "array[float]":
    known_form(form)
    if count == 0:
        cursor.end()
        return array("d")
    if form == RAW:
        return byte_planes.undoubled(cursor.rest(), count)
    return _numbers(form, cursor, count)


def _numbers(form: int, cursor: Cursor, count: int) -> "array[float]":
    digits, first = decimal_header(cursor)
    if form == STEEP:
        start = cursor.signed()
        bends = byte_planes.unpack(cursor.rest(), count - 2)
        power = POWERS[digits]
        line = accumulate(accumulate(bends, initial=start), initial=first)
        return array("d", [number / power for number in line])
    steps, power = cursor.rest(), POWERS[digits]
    if steps == byte_planes.ZEROS:
        return _shaped(form, [first / power]) * count
    numbers = accumulate(byte_planes.unpack(steps, count - 1), initial=first)
    return _shaped(form, [number / power for number in numbers])


def known_form(form: int) -> None:
    if form not in (RAW, DECIMAL, WIDENED, STEEP):
        raise Damage(f"form {form} of a series is not known")


def decimal_header(cursor: Cursor) -> tuple[int, int]:
    """How many digits a decimal series has, and its first number."""
    digits, first = cursor.byte(), cursor.signed()
    if digits >= len(POWERS):
        raise Damage(f"{digits} digits")
    return digits, first


def _packed_nulls(values: "array[float]") -> bytes:
    lengths = [len(list(same)) for _, same in groupby(_until_last_null(values))]
    # The runs begin with values, of which there may be none.
    return packed_numbers([0, *lengths] if isnan(values[0]) else lengths)


def _until_last_null(values: "array[float]") -> Iterator[bool]:
    nulls = list(map(isnan, values))
    return iter(nulls[: len(nulls) - nulls[::-1].index(True)])


def null_runs(body: bytes, count: int) -> list[int]:
    """The lengths of runs of values and of nulls in turn. Raises Damage where they exceed the
    count.
    """
    runs = unpacked_numbers(body)
    if sum(runs) > count:
        raise Damage(f"{sum(runs)} rows of values and nulls where there are {count}")
    return runs


def _with_nulls(readings: "array[float]", runs: list[int]) -> "array[float]":
    values, used = array("d"), 0
    for good, null in zip(runs[::2], runs[1::2], strict=True):
        values.extend(readings[used : used + good])
        values.extend(array("d", [nan]) * null)
        used += good
    values.extend(readings[used:])
    return values


def packed_numbers(numbers: list[int]) -> bytes:
    """Encodes numbers from 0 on: their length where they are deflated, else 0, then the bytes."""
    plain = varint.numbers(numbers)
    small = byte_planes.deflate(plain)
    if len(small) + 1 < len(plain):
        return varint.number(len(plain)) + small
    return b"\0" + plain


def unpacked_numbers(body: bytes) -> list[int]:
    """The opposite of `packed_numbers`. Raises Damage or zlib.error."""
    cursor = Cursor(body)
    size = cursor.number()
    if size > 1100 * len(body):
        raise Damage(f"{len(body)} bytes cannot hold {size}")
    return varint.listed(byte_planes.inflate(cursor.rest(), size) if size else cursor.rest())
