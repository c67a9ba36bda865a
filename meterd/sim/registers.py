"""Values to register words: the other way round than drivers/, and written without it.

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
"""A number in its canonical unit, a text, or None: the meter does not have it."""

# What a row holds that nobody has a value for: 1 is plausible for nearly everything, and
# unlike 0 it shows a wrong word order.
UNKNOWN = 1.0

_PREFIXES = {"m": 0.001, "k": 1_000.0, "M": 1_000_000.0, "G": 1_000_000_000.0}
_BASES = frozenset({"V", "A", "W", "var", "VA", "Hz", "Wh", "varh", "VAh", "s"})
_TIMES = {"min": 60.0, "h": 3_600.0}
_FLOATS = {"f16": "e", "f32": "f", "f64": "d"}
_DECADES = ("e8u24", "e8s24", "u24e8", "s24e8")
_EXPONENTS = range(-10, 11)
# A raw number with a scale register leaves this much of its type free, as real meters do.
_HEADROOM = 2.0
# A quotient that is whole but for its rounding counts as whole.
_HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Image:
    """What a meter's registers hold at one time.

    `words[function][address]` is a register (or a coil: 0 or 1). `alone` has the words of
    registers that lie inside another value and show only in a request of exactly their size.
    """

    words: Mapping[int, Mapping[int, int]]
    alone: Mapping[tuple[int, int, int], tuple[int, ...]] = field(default_factory=dict)


def encode(register_map: RegisterMap, values: Mapping[str, Value]) -> Image:
    """The registers of this map, for `values` by quantity in their canonical units."""
    words: dict[int, dict[int, int]] = {}
    alone = {}
    exponents = _exponents(register_map.rows, values)
    for row in register_map.rows:
        exponent = exponents.get((row.function, row.scale_register))
        if row.terms:
            for function, address, word in _composed(row, _value(row, values), exponent or 0):
                words.setdefault(function, {})[address] = word
            continue
        encoded = encode_row(row, _value(row, values), exponent or 0)
        if row.alone:
            alone[row.function, row.address, row.words] = encoded
            continue
        bank = words.setdefault(row.function, {})
        if row.bit is not None:
            # Several rows share a status word, each its bit.
            field = _field(row, _value(row, values)) << row.bit
            parts = _ordered(row, field.to_bytes(2 * row.words, "big"))
            for address, word in enumerate(parts, row.address):
                bank[address] = bank.get(address, 0) | word
            continue
        bank.update(enumerate(encoded, row.address))
    for (function, register), exponent in exponents.items():
        if register is not None:
            words.setdefault(function, {})[register] = exponent & 0xFFFF
    return Image(words, alone)


def encode_row(row: Row, value: Value, exponent: int = 0) -> tuple[int, ...]:
    """The words of one row, in the order of their addresses.

    `exponent` is what its scale register holds. None becomes the row's "not available" word.
    """
    if row.type == "str":
        return _ordered(row, _text("" if value is None else str(value), row.words))
    number = value if isinstance(value, int | float) else None
    if row.function in (1, 2):
        return tuple(int(bool(number)) for _ in range(row.words))
    if row.type == "bcd":
        return _ordered(row, _digits(_raw(row, number, exponent), row.words))
    if row.type == "m10k":
        return _ordered(row, _groups(_raw(row, number, exponent), row.words))
    if row.type in ("m16", "m32") and number is not None:
        return _ordered(row, _sign_and_size(row, number, exponent))
    if row.type in _FLOATS:
        return _ordered(row, _floating(row, number, exponent))
    if row.type in _DECADES and number is not None:
        return _ordered(row, _decade(row, number, exponent))
    return _ordered(row, _whole(row, number, exponent).to_bytes(2 * row.words, "big"))


def _composed(row: Row, value: Value, exponent: int) -> Iterator[tuple[int, int, int]]:
    """Function, address and word of each register of a value that is made of several numbers.

    Ratios are as if nothing was set: 1 in each register, whatever that is scaled by.
    """
    number = _raw(row, value, exponent) if isinstance(value, int | float) else None
    for term in row.terms:
        form, held = term.form, UNKNOWN
        if term.role is Role.SUM:
            continue
        if term.role is Role.SIGN:
            held = float(term.negative if (number or 0.0) < 0 else term.positive)
            number = None if number is None else abs(number)
        elif number is not None:
            number = number / form.scale if term.role is Role.MULTIPLY else number * form.scale
        yield from _placed(term, _held(replace(form, scale=1.0), held))
    parts = [term for term in row.terms if term.role is Role.SUM]
    parts.sort(key=lambda term: -abs(term.form.scale))
    for term in parts:
        form, share = term.form, number
        if form.type == "str":
            yield from _placed(term, encode_row(form, value))
            continue
        if number is not None and term is not parts[-1]:
            share = math.trunc(number / form.scale + _HAIR) * form.scale
            number -= share
        yield from _placed(term, encode_row(form, share))


def _held(form: Row, value: float) -> tuple[int, ...]:
    if form.bit is None:
        return encode_row(form, value)
    field = _field(form, value) << form.bit
    return _ordered(form, field.to_bytes(2 * form.words, "big"))


def _placed(term: Term, words: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    return ((*place, word) for place, word in zip(term.places, words, strict=True))


def _value(row: Row, values: Mapping[str, Value]) -> Value:
    if row.quantity in values:
        return values[row.quantity]
    if row.quantity.startswith("info."):
        return "" if row.type == "str" else UNKNOWN
    if row.enum:
        return float(next(iter(row.enum)))
    return UNKNOWN * _multiplier(row.unit)


def _multiplier(unit: str) -> float:
    """Canonical units in one of `unit`: 1000 for kWh."""
    if unit in _TIMES:
        return _TIMES[unit]
    return _PREFIXES[unit[0]] if unit[:1] in _PREFIXES and unit[1:] in _BASES else 1.0


def _raw(row: Row, value: float | None, exponent: int) -> float:
    """The number that the registers hold, before it is cut to its type."""
    scale = row.scale if row.scale_register is None else row.scale_factor * 10.0**exponent
    return ((value or 0.0) / _multiplier(row.unit) - row.offset) / scale


def _floating(row: Row, value: float | None, exponent: int) -> bytes:
    if value is None:
        if row.na:
            return row.na[0].to_bytes(2 * row.words, "big")
        return struct.pack(f">{_FLOATS[row.type]}", math.nan)
    return struct.pack(f">{_FLOATS[row.type]}", _raw(row, value, exponent))


def _limits(row: Row) -> tuple[int, int]:
    bits = 16 * row.words
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if row.type[0] == "s" else (0, (1 << bits) - 1)


def _whole(row: Row, value: float | None, exponent: int) -> int:
    """An integer as its unsigned bits: counters roll over, everything else stops at its limits."""
    mask = (1 << 16 * row.words) - 1
    if value is None:
        return (*row.na, *row.absent, 0)[0] & mask
    low, high = _limits(row)
    raw = round(_raw(row, value, exponent))
    known = describe(row.quantity, row.unit)
    if known is not None and known.kind is Kind.COUNTER and raw >= 0:
        raw %= row.wrap or high + 1
    raw = max(low, min(raw, high))
    while raw & mask in row.na or raw & mask in row.absent:
        raw -= 1 if raw > low else -1
    return raw & mask


def _field(row: Row, value: Value) -> int:
    """What the bits of a row hold: a flag's 1 for whatever is not 0."""
    if row.bits == 1:
        return int(bool(value))
    number = value if isinstance(value, int | float) else 0.0
    return max(0, min(round(_raw(row, number, 0)), (1 << row.bits) - 1))


def _sign_and_size(row: Row, value: float, exponent: int) -> bytes:
    top = 1 << 16 * row.words - 1
    raw = max(1 - top, min(round(_raw(row, value, exponent)), top - 1))
    return (abs(raw) | (top if raw < 0 else 0)).to_bytes(2 * row.words, "big")


def _decade(row: Row, value: float, exponent: int) -> bytes:
    """The power of ten with as many digits as 24 bits hold, and at least thousandths."""
    raw, signed = _raw(row, value, exponent), row.type in ("e8s24", "s24e8")
    most = (1 << 23) - 1 if signed else (1 << 24) - 1
    power = next((n for n in range(-3, 11) if abs(raw) / 10.0**n <= most), 10)
    number = max(-most if signed else 0, min(round(raw / 10.0**power), most))
    mantissa, decade = (number & 0xFFFFFF).to_bytes(3, "big"), (power & 0xFF).to_bytes(1, "big")
    return decade + mantissa if row.type[0] == "e" else mantissa + decade


def _groups(raw: float, words: int) -> bytes:
    """Four decimals to a word, as a number."""
    number = round(abs(raw)) % 10_000**words
    found = [number // 10_000**place % 10_000 for place in reversed(range(words))]
    return b"".join(group.to_bytes(2, "big") for group in found)


def _digits(raw: float, words: int) -> bytes:
    """Binary coded decimals, four to a word."""
    count = 4 * words
    return bytes.fromhex(f"{round(abs(raw)) % 10**count:0{count}d}")


def _text(text: str, words: int) -> bytes:
    """Two characters a word, filled up with NULs."""
    return text.encode("ascii", "replace")[: 2 * words].ljust(2 * words, b"\0")


def _ordered(row: Row, data: bytes) -> tuple[int, ...]:
    """Big-endian bytes to words, in the row's orders."""
    order = "little" if row.byte_order == "little" else "big"
    words = [int.from_bytes(data[i : i + 2], order) for i in range(0, len(data), 2)]  # type: ignore[arg-type]
    if row.order:
        words = [words[place - 1] for place in row.order]
    elif row.word_order == "little" and row.type != "str":
        words.reverse()
    return tuple(words)


def _exponents(
    rows: Iterable[Row], values: Mapping[str, Value]
) -> dict[tuple[int, int | None], int]:
    """What each scale register has to hold so that all its rows fit, as finely as possible."""
    found: dict[tuple[int, int | None], int] = {}
    for row in rows:
        if row.scale_register is None:
            continue
        key = (row.function, row.scale_register)
        found[key] = max(found.get(key, _EXPONENTS[0]), _exponent(row, _value(row, values)))
    return found


def _exponent(row: Row, value: Value) -> int:
    if not isinstance(value, int | float) or row.type not in ("u16", "s16", "u32", "s32"):
        return 0
    room = _limits(row)[1] / _HEADROOM
    fitting = (n for n in _EXPONENTS if abs(_raw(row, value, n)) <= room)
    # Finer than a thousandth is no meter's habit.
    return max(next(fitting, _EXPONENTS[-1]), -3)
