"""Encodes values as register words: the inverse of the drivers' decoding, implemented separately.

A value of 1234.5 W in a row `{type: s32, unit: kW, scale: 0.0001}` is the raw number 12345,
which is 0x00003039, which is the words 0x0000 0x3039 (or 0x3039 0x0000 in little word order).
"""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from meterd.drivers.registers import RegisterMap, Role, Row, Term
from meterd.model.quantity import Kind, describe

Value = float | str | None
"""A number in its canonical unit, a text, or None: not available."""

# The value of rows that the simulation has none for: 1 is plausible for nearly everything, and
# unlike 0 it reveals a wrong word order.
UNKNOWN = 1.0

_PREFIXES = {"m": 0.001, "k": 1_000.0, "M": 1_000_000.0, "G": 1_000_000_000.0}
_PREFIXED_UNITS = frozenset({"V", "A", "W", "var", "VA", "Hz", "Wh", "varh", "VAh", "s"})
_TIME_UNITS_S = {"min": 60.0, "h": 3_600.0}
_FLOAT_FORMATS = {"f16": "e", "f32": "f", "f64": "d"}
_DECADE_TYPES = ("e8u24", "e8s24", "u24e8", "s24e8")
_EXPONENTS = range(-10, 11)
# A raw number with a scale register is at most the range of its type divided by this.
_SCALE_HEADROOM = 2.0
# A quotient this close below an integer is that integer.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Image:
    """The registers of a meter at one time.

    `words[function][address]` is a register (or a coil: 0 or 1). `alone` maps (function, address,
    count) to registers that overlap another value and are read only by exactly that request.
    """

    words: Mapping[int, Mapping[int, int]]
    alone: Mapping[tuple[int, int, int], tuple[int, ...]] = field(default_factory=dict)


def encode(register_map: RegisterMap, values: Mapping[str, Value]) -> Image:
    """Encode the values, by quantity and in canonical units, as registers of this map."""
    words: dict[int, dict[int, int]] = {}
    alone = {}
    exponents = _exponents(register_map.rows, values)
    for row in register_map.rows:
        exponent = exponents.get((row.function, row.scale_register))
        if row.terms:
            for function, address, word in _encode_terms(row, _value(row, values), exponent or 0):
                words.setdefault(function, {})[address] = word
            continue
        encoded = encode_row(row, _value(row, values), exponent or 0)
        if row.alone:
            alone[row.function, row.address, row.words] = encoded
            continue
        bank = words.setdefault(row.function, {})
        if row.bit is not None:
            # Several rows may share a status word, each with its bits.
            field = _bit_field(row, _value(row, values)) << row.bit
            parts = _in_order(row, field.to_bytes(2 * row.words, "big"))
            for address, word in enumerate(parts, row.address):
                bank[address] = bank.get(address, 0) | word
            continue
        bank.update(enumerate(encoded, row.address))
    for (function, register), exponent in exponents.items():
        if register is not None:
            words.setdefault(function, {})[register] = exponent & 0xFFFF
    return Image(words, alone)


def encode_row(row: Row, value: Value, exponent: int = 0) -> tuple[int, ...]:
    """Encode one row as words in the order of their addresses.

    `exponent` is the content of its scale register. None becomes the row's "not available" word.
    """
    if row.type == "str":
        return _in_order(row, _text_bytes("" if value is None else str(value), row.words))
    number = value if isinstance(value, int | float) else None
    if row.function in (1, 2):
        return tuple(int(bool(number)) for _ in range(row.words))
    if row.type == "bcd":
        return _in_order(row, _bcd_bytes(_raw_number(row, number, exponent), row.words))
    if row.type == "m10k":
        return _in_order(row, _decimal_groups(_raw_number(row, number, exponent), row.words))
    if row.type in ("m16", "m32") and number is not None:
        return _in_order(row, _sign_magnitude_bytes(row, number, exponent))
    if row.type in _FLOAT_FORMATS:
        return _in_order(row, _float_bytes(row, number, exponent))
    if row.type in _DECADE_TYPES and number is not None:
        return _in_order(row, _decade_bytes(row, number, exponent))
    return _in_order(row, _integer(row, number, exponent).to_bytes(2 * row.words, "big"))


def _encode_terms(row: Row, value: Value, exponent: int) -> Iterator[tuple[int, int, int]]:
    """Function, address and word of each register of a row with terms.

    Ratio terms (CT, VT) have 1 in their registers, whatever their scale.
    """
    number = _raw_number(row, value, exponent) if isinstance(value, int | float) else None
    for term in row.terms:
        form, content = term.form, UNKNOWN
        if term.role is Role.SUM:
            continue
        if term.role is Role.SIGN:
            content = float(term.negative if (number or 0.0) < 0 else term.positive)
            number = None if number is None else abs(number)
        elif number is not None:
            number = number / form.scale if term.role is Role.MULTIPLY else number * form.scale
        yield from _with_addresses(term, _encode_form(replace(form, scale=1.0), content))
    parts = [term for term in row.terms if term.role is Role.SUM]
    parts.sort(key=lambda term: -abs(term.form.scale))
    for term in parts:
        form, share = term.form, number
        if form.type == "str":
            yield from _with_addresses(term, encode_row(form, value))
            continue
        if number is not None and term is not parts[-1]:
            share = math.trunc(number / form.scale + _ROUNDING) * form.scale
            number -= share
        yield from _with_addresses(term, encode_row(form, share))


def _encode_form(form: Row, value: float) -> tuple[int, ...]:
    if form.bit is None:
        return encode_row(form, value)
    field = _bit_field(form, value) << form.bit
    return _in_order(form, field.to_bytes(2 * form.words, "big"))


def _with_addresses(term: Term, words: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    return ((*address, word) for address, word in zip(term.places, words, strict=True))


def _value(row: Row, values: Mapping[str, Value]) -> Value:
    if row.quantity in values:
        return values[row.quantity]
    if row.quantity.startswith("info."):
        return "" if row.type == "str" else UNKNOWN
    if row.enum:
        return float(next(iter(row.enum)))
    return UNKNOWN * _multiplier(row.unit)


def _multiplier(unit: str) -> float:
    """The factor from `unit` to its canonical unit: 1000 for kWh."""
    if unit in _TIME_UNITS_S:
        return _TIME_UNITS_S[unit]
    return _PREFIXES[unit[0]] if unit[:1] in _PREFIXES and unit[1:] in _PREFIXED_UNITS else 1.0


def _raw_number(row: Row, value: float | None, exponent: int) -> float:
    """The raw number of the registers, before rounding to their type."""
    scale = row.scale if row.scale_register is None else row.scale_factor * 10.0**exponent
    return ((value or 0.0) / _multiplier(row.unit) - row.offset) / scale


def _float_bytes(row: Row, value: float | None, exponent: int) -> bytes:
    if value is None:
        if row.na:
            return row.na[0].to_bytes(2 * row.words, "big")
        return struct.pack(f">{_FLOAT_FORMATS[row.type]}", math.nan)
    return struct.pack(f">{_FLOAT_FORMATS[row.type]}", _raw_number(row, value, exponent))


def _limits(row: Row) -> tuple[int, int]:
    bits = 16 * row.words
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if row.type[0] == "s" else (0, (1 << bits) - 1)


def _integer(row: Row, value: float | None, exponent: int) -> int:
    """An integer as unsigned bits: counters roll over, other values are clamped to the range."""
    mask = (1 << 16 * row.words) - 1
    if value is None:
        return (*row.na, *row.absent, 0)[0] & mask
    low, high = _limits(row)
    raw = round(_raw_number(row, value, exponent))
    quantity = describe(row.quantity, row.unit)
    if quantity is not None and quantity.kind is Kind.COUNTER and raw >= 0:
        raw %= row.wrap or high + 1
    raw = max(low, min(raw, high))
    while raw & mask in row.na or raw & mask in row.absent:
        raw -= 1 if raw > low else -1
    return raw & mask


def _bit_field(row: Row, value: Value) -> int:
    """The content of a row's bits; of a single bit 1 for any value but 0."""
    if row.bits == 1:
        return int(bool(value))
    number = value if isinstance(value, int | float) else 0.0
    return max(0, min(round(_raw_number(row, number, 0)), (1 << row.bits) - 1))


def _sign_magnitude_bytes(row: Row, value: float, exponent: int) -> bytes:
    top = 1 << 16 * row.words - 1
    raw = max(1 - top, min(round(_raw_number(row, value, exponent)), top - 1))
    return (abs(raw) | (top if raw < 0 else 0)).to_bytes(2 * row.words, "big")


def _decade_bytes(row: Row, value: float, exponent: int) -> bytes:
    """A decade type: 24-bit mantissa with the finest power of ten that fits, from 10^-3 on."""
    raw, signed = _raw_number(row, value, exponent), row.type in ("e8s24", "s24e8")
    mantissa_max = (1 << 23) - 1 if signed else (1 << 24) - 1
    power = next((n for n in range(-3, 11) if abs(raw) / 10.0**n <= mantissa_max), 10)
    number = max(-mantissa_max if signed else 0, min(round(raw / 10.0**power), mantissa_max))
    mantissa, decade = (number & 0xFFFFFF).to_bytes(3, "big"), (power & 0xFF).to_bytes(1, "big")
    return decade + mantissa if row.type[0] == "e" else mantissa + decade


def _decimal_groups(raw: float, words: int) -> bytes:
    """Encode four decimal digits in each word, as a binary number."""
    number = round(abs(raw)) % 10_000**words
    groups = [number // 10_000**index % 10_000 for index in reversed(range(words))]
    return b"".join(group.to_bytes(2, "big") for group in groups)


def _bcd_bytes(raw: float, words: int) -> bytes:
    """Encode BCD, four digits in each word."""
    count = 4 * words
    return bytes.fromhex(f"{round(abs(raw)) % 10**count:0{count}d}")


def _text_bytes(text: str, words: int) -> bytes:
    """Encode ASCII, two characters in each word, padded with NUL."""
    return text.encode("ascii", "replace")[: 2 * words].ljust(2 * words, b"\0")


def _in_order(row: Row, data: bytes) -> tuple[int, ...]:
    """Big-endian bytes as words, in the row's byte and word order."""
    order = "little" if row.byte_order == "little" else "big"
    words = [int.from_bytes(data[i : i + 2], order) for i in range(0, len(data), 2)]  # type: ignore[arg-type]
    if row.order:
        words = [words[position - 1] for position in row.order]
    elif row.word_order == "little" and row.type != "str":
        words.reverse()
    return tuple(words)


def _exponents(
    rows: Iterable[Row], values: Mapping[str, Value]
) -> dict[tuple[int, int | None], int]:
    """The content of each scale register: the smallest exponent with which all its rows fit."""
    exponents: dict[tuple[int, int | None], int] = {}
    for row in rows:
        if row.scale_register is None:
            continue
        key = (row.function, row.scale_register)
        exponents[key] = max(exponents.get(key, _EXPONENTS[0]), _exponent(row, _value(row, values)))
    return exponents


def _exponent(row: Row, value: Value) -> int:
    if not isinstance(value, int | float) or row.type not in ("u16", "s16", "u32", "s32"):
        return 0
    raw_max = _limits(row)[1] / _SCALE_HEADROOM
    fitting = (n for n in _EXPONENTS if abs(_raw_number(row, value, n)) <= raw_max)
    # No meter has a resolution below a thousandth.
    return max(next(fitting, _EXPONENTS[-1]), -3)
