"""Decoding of raw registers to values: types, word orders, sentinels, scales.

A multi-word value is brought into big-endian order first and then unpacked by a struct.
"""

import functools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from meterd.drivers.registers import Place, Role, Row, Term
from meterd.model.sample import Reading

CODES = {
    "u16": "H",
    "s16": "h",
    "u32": "I",
    "s32": "i",
    "u64": "Q",
    "s64": "q",
    "f16": "e",
    "f32": "f",
    "f64": "d",
}
# Words of integer types without a struct code; `m`: sign bit and magnitude.
WHOLES = {"u48": 3, "s48": 3, "m16": 1, "m32": 2}
# Decade floats of two registers: an integer of 24 bits, and a signed byte with its power of ten
# before or after it.
DECADES = ("e8u24", "e8s24", "u24e8", "s24e8")
# The type of a value that is a sum of numbers of different types.
SUM = "sum"
# Values of one group of decimals, where each register holds four of them.
_GROUP_VALUES = 10_000
# Reply of a sleeping or unprogrammed chip; no meter counts to exactly this.
_DEAD_CHIP = 0xDEADBEEF
_F32 = struct.Struct(">f")
# Doubles of this magnitude have no fraction: adding and subtracting it rounds numbers below 2**51
# to integers, half to even, in a third of round()'s time.
WHOLE = 1.5 * 2.0**52
# Valid contents of scale registers (SunSpec: -10 to 10).
_EXPONENTS = range(-10, 11)
_NOT_AVAILABLE = "the meter answers: not available"
# Reasons why raw bytes of a type are no number.
_NO_NUMBER = {"bcd": "no BCD digits", "m10k": "no groups of four decimals"}

Word = Callable[[Place], int | None]
"""Returns the value of a register; None where it could not be read."""


def code(row: Row) -> str:
    """The struct code of this row's bytes; for a composed row, of those at its address."""
    if row.terms:
        return f"{2 * row.words}s"
    return CODES.get(row.type) or f"{2 * row.words}s"


def ordered(row: Row, start: int) -> list[int]:
    """Positions of the row's bytes, from byte `start` on, in big-endian order."""
    words = [[start + 2 * i, start + 2 * i + 1] for i in range(row.words)]
    if row.terms:
        return [position for word in words for position in word]
    if row.order:
        words = [words[row.order.index(n + 1)] for n in range(row.words)]
    elif row.word_order == "little" and row.type != "str":
        words.reverse()
    if row.byte_order == "little":
        words = [word[::-1] for word in words]
    return [position for word in words for position in word]


def sentinels(row: Row) -> frozenset[float]:
    """The row's sentinels, as its struct code unpacks them."""
    if row.type not in CODES or row.terms:
        return frozenset()
    raw = (*row.na, *row.absent, *((_DEAD_CHIP,) if row.words == 2 else ()))
    return _unpacked(code(row), 2 * row.words, raw)


# Nearly all rows of all plans have the same few sentinels, so they share the sets.
@functools.lru_cache(maxsize=1024)
def _unpacked(code: str, size: int, raw: tuple[int, ...]) -> frozenset[float]:
    mask = (1 << 8 * size) - 1
    unpacked = [struct.unpack(f">{code}", (n & mask).to_bytes(size, "big"))[0] for n in raw]
    if code == "f":  # both as received and as shortened
        unpacked += [shortest(value) for value in unpacked]
    return frozenset(value for value in unpacked if not math.isnan(value))


def linear(row: Row) -> tuple[float, float] | None:
    """(factor, divisor) of a plain row, whose value is raw * factor / divisor.

    None for types without a struct code, for rows with a scale register, sentinel ranges, an offset
    or terms, and for integers that may have more digits than a float.
    """
    if (
        row.type not in CODES
        or row.terms
        or row.scale_register is not None
        or row.na_ranges
        or row.offset
        or (row.words == 4 and row.scale == 1 and row.type != "f64")
        or row.quantity.startswith("info.")
    ):
        return None
    inverse = _inverse(row.scale)
    return (1, inverse) if inverse else (row.scale, 1)


class _Scales(NamedTuple):
    """Powers of ten that bring the 7th, 8th, 9th digit of floats of one exponent to the ones.

    `half` is half the distance to the next float32. `below` is for magnitudes below `border`, a
    power of ten, `above` for the others.
    """

    half: float
    border: float
    below: tuple[float, float, float]
    above: tuple[float, float, float]


def _scales(exponent: int) -> _Scales:
    """For 2**(exponent - 1) <= value < 2**exponent, a range with at most one power of ten."""
    power = math.floor(math.log10(2.0 ** (exponent - 1)))
    border = float(f"1e{power + 1}")
    below, above = (
        (float(f"1e{digits}"), float(f"1e{digits + 1}"), float(f"1e{digits + 2}"))
        for digits in (6 - power, 5 - power)
    )
    return _Scales(2.0 ** (exponent - 25), border, below, above)


# For 0.00013 to 8,388,608, where a float32 times the scale of its ninth digit is exact: 24 bits and
# 12 powers of five. (0, NaN and infinities have the exponent 0, too, and are not changed.)
_SCALES = {n: _scales(n) for n in range(-12, 24)}


def shortest(value: float) -> float:
    """The shortest decimal that rounds to this float32: 230.1, not 230.10000610351562.

    It is the nearest one with 7 digits, else with 8, else with 9.
    """
    scales = _SCALES.get(math.frexp(value)[1])
    if scales is None:
        return _shortest_by_text(value)
    half, border, below, above = scales
    seven, eight, nine = below if -border < value < border else above
    # The product is exact, and the quotient of two integers is correctly rounded.
    decimal = (value * seven + WHOLE - WHOLE) / seven
    if -half < decimal - value < half:
        return decimal
    decimal = (value * eight + WHOLE - WHOLE) / eight
    if -half < decimal - value < half:
        return decimal
    return (value * nine + WHOLE - WHOLE) / nine


def _shortest_by_text(value: float) -> float:
    """`shortest` for any float32, by its text."""
    if not math.isfinite(value):
        return value
    for digits in (7, 8):
        decimal = float(f"{value:.{digits}g}")
        if abs(decimal) < 3.4e38 and _F32.unpack(_F32.pack(decimal))[0] == value:
            return decimal
    return float(f"{value:.9g}")


def _inverse(factor: float) -> int:
    """10 for 0.1, as division keeps decimals exact; 0 where the factor is no such fraction."""
    if 0 < factor < 1 and (inverse := round(1 / factor)) and 1 / inverse == factor:
        return inverse
    return 0


def scaled(row: Row, raw: float, exponent: int | None = None) -> float:
    """Converts raw to the row's unit. A scale of 0.1 divides by 10, to keep decimals exact."""
    if row.offset:
        # The sum of decimals has a rounding error, which rounding to nine decimals removes.
        bare = replace(row, offset=0.0)
        return round(scaled(bare, raw, exponent) + row.offset, 9)
    factor = row.scale if exponent is None else row.scale_factor
    if factor == 1 and not exponent:
        return raw
    power = exponent or 0
    inverse = _inverse(factor)
    value = raw / inverse if inverse else raw * factor
    if power < 0:
        return value / float(10**-power)
    return value * float(10**power)


def reading(row: Row, raw: float | bytes, absent: frozenset[float], exponent: object) -> Reading:
    """The reading of one row. `exponent` is the content of its scale register, if it has one."""
    if isinstance(raw, bytes):
        return _of_bytes(row, raw, exponent)
    if raw in absent or not math.isfinite(raw) or _in_ranges(row, raw):
        return Reading(row.quantity, None, row.unit, _NOT_AVAILABLE)
    if row.quantity.startswith("info."):
        value = scaled(row, raw)
        return Reading(row.quantity, f"{value:.9g}" if value != int(value) else str(int(value)), "")
    return _measured(row, raw, exponent)


def _measured(row: Row, raw: float, exponent: object) -> Reading:
    if row.scale_register is None:
        return Reading(row.quantity, scaled(row, raw), row.unit)
    if exponent not in _EXPONENTS:
        return Reading(row.quantity, None, row.unit, "the meter's scale factor is not available")
    assert isinstance(exponent, int)  # noqa: S101 (it is in a range)
    return Reading(row.quantity, scaled(row, raw, exponent), row.unit)


def _in_ranges(row: Row, raw: float) -> bool:
    """Whether the raw words, as an unsigned number, are in a range of sentinels."""
    if not row.na_ranges:
        return False
    if isinstance(raw, int):
        words = raw & ((1 << 16 * row.words) - 1)
    else:
        words = int.from_bytes(struct.pack(f">{code(row)}", raw), "big")
    return any(first <= words <= last for first, last in row.na_ranges)


def _of_bytes(row: Row, raw: bytes, exponent: object) -> Reading:
    if row.type == "str":
        return _text(row, raw)
    number = int.from_bytes(raw, "big")
    if number in row.na or number in row.absent or _in_ranges(row, number):
        return Reading(row.quantity, None, row.unit, _NOT_AVAILABLE)
    value = _integer(row, raw, number)
    if value is None:
        reason = _NO_NUMBER.get(row.type, "the power of ten in it is none that a meter has")
        return Reading(row.quantity, None, row.unit, reason)
    if row.quantity.startswith("info."):
        return Reading(row.quantity, str(value), "")
    return _measured(row, value, exponent)


def _integer(row: Row, raw: bytes, number: int) -> float | None:
    """The number in these bytes (`number` is their unsigned value); None if there is none."""
    top = 1 << 8 * len(raw) - 1
    match row.type:
        case "bits":
            return number if row.bit is None else number >> row.bit & (1 << row.bits) - 1
        case "bcd":
            return int(raw.hex()) if raw.hex().isdecimal() else None
        case "m10k":
            groups = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
            if max(groups) >= _GROUP_VALUES:
                return None
            return functools.reduce(lambda total, group: total * _GROUP_VALUES + group, groups)
        case "s48":
            return number - 2 * top if number >= top else number
        case "m16" | "m32":
            return top - number if number >= top else number
        case "e8u24" | "e8s24":
            return _decade(raw[1:], raw[:1], signed=row.type == "e8s24")
        case "u24e8" | "s24e8":
            return _decade(raw[:3], raw[3:], signed=row.type == "s24e8")
    return number


def _decade(mantissa: bytes, power: bytes, *, signed: bool) -> float | None:
    """mantissa * 10**power; None for an invalid power."""
    exponent = int.from_bytes(power, "big", signed=True)
    if exponent not in _EXPONENTS:
        return None
    number = int.from_bytes(mantissa, "big", signed=signed)
    return number * 10.0**exponent if exponent >= 0 else number / 10.0**-exponent


def _text(row: Row, raw: bytes) -> Reading:
    """Text of two characters per register, or one in its low byte; padding is NUL, blank, 0xFF."""
    text = raw.replace(b"\0", b"").strip(b" \xff").decode("latin-1")
    if not text or not text.isprintable():
        return Reading(row.quantity, None, "", "no text")
    return Reading(row.quantity, text, "")


# -- composed values -----------------------------------------------------------------------------


class _UnknownError(Exception):
    """A term of a composed value is not available; the message is the reason."""


class Composed:
    """Decoder of a composed row: sum of its parts, sign, ratios, scale."""

    __slots__ = ("_decoders", "_row")

    def __init__(self, row: Row) -> None:
        self._row = row
        self._decoders = [(term, decoder(term.form)) for term in row.terms]

    def reading(self, word: Word, exponent: object) -> Reading:
        """The reading. `exponent` is the content of its scale register, if it has one."""
        row = self._row
        total: Any = None
        parts: list[float | str] = []
        try:
            for term, decode_words in self._decoders:
                value = _term_value(term, decode_words, word)
                if term.role is Role.SUM:
                    parts.append(_part(term, value))
                    continue
                total = _total(parts) if total is None else total
                if term.role is Role.SIGN:
                    total *= _sign(term, value)
                else:
                    total = _proportional(total, _ratio(term, value), term.role)
        except _UnknownError as error:
            return Reading(row.quantity, None, row.unit, str(error))
        total = _total(parts) if total is None else total
        if isinstance(total, str):
            return Reading(row.quantity, total, "")
        if row.quantity.startswith("info."):
            return Reading(row.quantity, f"{scaled(row, total):.15g}", "")
        return _measured(row, total, exponent)


def _term_value(term: Term, decode_words: "Decoder", word: Word) -> float | str:
    """The number, or text, in a term's registers. Raises _UnknownError."""
    words = [word(place) for place in term.places]
    read = [content for content in words if content is not None]
    if len(read) < len(words):
        missing = term.registers[words.index(None)]
        raise _UnknownError(f"its register {missing} could not be read")
    value = decode_words(read)
    if value is None:
        raise _UnknownError(f"its register {term.registers[0]} is not available")
    return value


def _part(term: Term, value: float | str) -> float | str:
    if term.limit is not None and isinstance(value, int | float) and abs(value) >= term.limit:
        reason = f"holds {value:g}, and counts to {term.limit:g} only: is it a part of the sum?"
        raise _UnknownError(f"its register {term.registers[0]} {reason}")
    return value


def _total(parts: Sequence[float | str]) -> Any:
    """The sum of the parts; rounding to nine decimals removes the error of a sum of decimals."""
    if len(parts) == 1:
        return parts[0]
    total = sum(part for part in parts if not isinstance(part, str))
    return round(total, 9) if isinstance(total, float) else total


def _sign(term: Term, value: float | str) -> int:
    if value in (term.negative, term.positive):
        return -1 if value == term.negative else 1
    allowed = f"{term.negative} for minus and {term.positive} for plus"
    raise _UnknownError(
        f"its sign, register {term.registers[0]}, holds {value}; known are {allowed}"
    )


def _ratio(term: Term, value: float | str) -> float:
    """A ratio's value; 0 means that it was never set and raises _UnknownError."""
    if not value or isinstance(value, str):
        raise _UnknownError(f"its ratio, register {term.registers[0]}, holds {value}")
    return value


def _proportional(value: float, ratio: float, role: Role) -> float:
    """The value times or divided by a ratio, rounded to the 15 digits that a double has."""
    result = value * ratio if role is Role.MULTIPLY else value / ratio
    return result if isinstance(result, int) else float(f"{result:.15g}")


def grain(row: Row) -> float | None:
    """One step of the raw number in the row's unit; None where the meter can change it."""
    sums = [term for term in row.terms if term.role is Role.SUM]
    if row.scale_register is not None or row.offset or row.type in DECADES:
        return None
    if any(term.form.type in DECADES for term in sums):
        return None
    if any(term.role in (Role.MULTIPLY, Role.DIVIDE) for term in row.terms):
        return None
    return row.scale * min((abs(term.form.scale) for term in sums), default=1.0)


def wrap(row: Row) -> int | None:
    """The rollover value in steps of `grain`, where it does not follow from the row's type."""
    sums = [term.form for term in row.terms if term.role is Role.SUM]
    if row.wrap is not None or row.type != SUM or not sums:
        return row.wrap
    top = max(sums, key=lambda form: abs(form.scale))
    rollover = _rollover(top)
    if rollover is None or sum(form.scale == top.scale for form in sums) > 1:
        return None
    return round(rollover * abs(top.scale) / min(abs(form.scale) for form in sums))


def _rollover(form: Row) -> int | None:
    """The raw rollover value of a plain row; None where that is unknown."""
    if form.wrap is not None:
        return form.wrap
    if form.type in ("bcd", "m10k"):
        return int(10 ** (4 * form.words))
    if form.type in DECADES or form.type == "str" or form.type[0] not in "us":
        return None
    return 1 << 16 * form.words - (form.type[0] == "s")


Decoder = Callable[[Sequence[int]], float | str | None]
"""Converts a row's registers to its value in its own unit; None if it is not available."""


def decoder(row: Row) -> Decoder:
    """The decoder of a row without a scale register."""
    positions, unpack = ordered(row, 0), struct.Struct(f">{code(row)}").unpack
    pack, absent = struct.Struct(f">{row.words}H").pack, sentinels(row)

    def decoded(words: Sequence[int]) -> float | str | None:
        data = pack(*words)
        raw = unpack(bytes(data[i] for i in positions))[0]
        if row.type == "f32":
            raw = shortest(raw)
        return reading(row, raw, absent, None).value

    return decoded


def decode(row: Row, words: Sequence[int], exponent: int | None = None) -> float | str | None:
    """One row's value in its own unit from its registers; None if it is not available."""
    data = b"".join(word.to_bytes(2, "big") for word in words)
    raw = struct.unpack(f">{code(row)}", bytes(data[i] for i in ordered(row, 0)))[0]
    if row.type == "f32":
        raw = shortest(raw)
    return reading(row, raw, sentinels(row), exponent).value
