"""`meterd probe`: decodes registers in every type, word and byte order, with a guess of each value.

ABCD  first word first          CDAB  last word first
BADC  bytes of each word turned DCBA  both
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from meterd.drivers.values import CODES, shortest

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
_SINGLE = ("u16", "s16")
_MULTIPLE = {2: ("u32", "s32", "f32"), 3: ("u48", "s48"), 4: ("u64", "s64", "f64")}
# Words of values in groups of four decimals; types with a sign bit and a magnitude, by words.
_GROUPED_WORDS = (2, 4)
_SIGN_BIT_TYPES = {1: "m16", 2: "m32"}

# Usual divisors of integers.
_SCALES = (1, 10, 100, 1000)
_FREQUENCIES = ((49, 51), (59, 61))
_VOLTAGES = ((100, 130), (207, 253), (360, 440))
_FLOAT_VOLTAGE = (80, 300)
# Magnitudes of plausible floats; random bits rarely have them. Integers have no such range.
_FLOAT_RANGE = (1e-3, 1e9)
_SHORTEST_TEXT = 3


@dataclass(frozen=True, slots=True)
class Decoding:
    """One decoding of the registers; `order` is "" for single registers and texts."""

    type: str
    order: str
    value: float | str | None
    looks_like: str


def decodings(data: bytes) -> Iterator[Decoding]:
    """All decodings of registers (2 bytes each), of 1, 2, 3 and 4 as far as they suffice."""
    word = data[:2]
    yield Decoding("hex", "", word.hex(), "")
    for kind in _SINGLE:
        yield _number(kind, "", word)
    for words, kinds in _MULTIPLE.items():
        if len(data) < 2 * words:
            continue
        for kind in kinds:
            for order in ORDERS:
                yield _number(kind, order, _ordered(data[: 2 * words], order))
    yield from _rare_decodings(data)
    digits = data[:4].hex()
    yield Decoding("bcd", "", digits.lstrip("0") or "0" if digits.isdecimal() else None, "")
    text = _text(data)
    yield Decoding("str", "", text, "text" if text and len(text) >= _SHORTEST_TEXT else "")


def _rare_decodings(data: bytes) -> Iterator[Decoding]:
    """Rare types, only where they differ from the usual ones."""
    for words, kind in _SIGN_BIT_TYPES.items():
        top = 1 << 16 * words - 1
        for order in ("ABCD", "CDAB")[:words] if len(data) >= 2 * words else ():
            raw = int.from_bytes(_ordered(data[: 2 * words], order), "big")
            if raw > top:
                value = top - raw
                yield Decoding(kind, order if words > 1 else "", value, _integer_guess(value))
    for words in _GROUPED_WORDS:
        groups = struct.unpack(f">{words}H", data[: 2 * words]) if len(data) >= 2 * words else ()
        if groups and max(groups) < 10_000:
            for order, ordered in (("ABCD", groups), ("CDAB", groups[::-1])):
                text = "".join(f"{group:04d}" for group in ordered)
                yield Decoding(f"m10k {words}", order, int(text), _integer_guess(int(text)))


def _ordered(data: bytes, order: str) -> bytes:
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


def _number(kind: str, order: str, data: bytes) -> Decoding:
    if kind not in CODES:
        integer = int.from_bytes(data, "big", signed=kind[0] == "s")
        return Decoding(kind, order, integer, _integer_guess(integer))
    (raw,) = struct.unpack(f">{CODES[kind]}", data)
    if not isinstance(raw, float):
        return Decoding(kind, order, raw, _integer_guess(raw))
    if not math.isfinite(raw):
        return Decoding(kind, order, None, "not available")
    value = shortest(raw) if kind == "f32" else raw
    return Decoding(kind, order, value, _float_guess(value))


def _float_guess(value: float) -> str:
    """A guess of a float's quantity; empty for implausible magnitudes."""
    magnitude = abs(value)
    if any(low <= magnitude <= high for low, high in _FREQUENCIES):
        return "frequency"
    if _FLOAT_VOLTAGE[0] <= magnitude <= _FLOAT_VOLTAGE[1] or _VOLTAGES[-1][0] <= magnitude <= 440:
        return "voltage"
    if 0.05 <= magnitude <= 1:
        return "power factor"
    return "a value" if _FLOAT_RANGE[0] <= magnitude <= _FLOAT_RANGE[1] else ""


def _integer_guess(value: int) -> str:
    """A guess of an integer's quantity, with its scale."""
    for scale in _SCALES:
        magnitude = abs(value) / scale
        if scale > 1 and any(low <= magnitude <= high for low, high in _FREQUENCIES):
            return f"frequency, scale {1 / scale:g}"
        if any(low <= magnitude <= high for low, high in _VOLTAGES):
            return "voltage" if scale == 1 else f"voltage, scale {1 / scale:g}"
    return ""


def _text(data: bytes) -> str | None:
    """The printable text up to the first NUL; None if it is none."""
    raw = data.split(b"\0")[0].strip(b" \xff")
    text = raw.decode("latin-1")
    return text if text and text.isascii() and text.isprintable() else None
