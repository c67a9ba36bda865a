"""Registers in every type, word order and byte order, and what such a number could be.

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
# Read as decimals in groups of four, and as a sign and a size, where they can be.
_GROUPED = (2, 4)
_SIGNED = {1: "m16", 2: "m32"}

# Integers carry their decimals as a power of ten.
_SCALES = (1, 10, 100, 1000)
_FREQUENCIES = ((49, 51), (59, 61))
_VOLTAGES = ((100, 130), (207, 253), (360, 440))
_BROAD_VOLTAGE = (80, 300)
# A float whose exponent makes sense is rare by accident; an integer always "makes sense".
_FLOAT_RANGE = (1e-3, 1e9)
_SHORTEST_TEXT = 3


@dataclass(frozen=True, slots=True)
class Decoding:
    """One way to read the registers; `order` is "" where there is none to choose."""

    type: str
    order: str
    value: float | str | None
    looks_like: str


def decodings(data: bytes) -> Iterator[Decoding]:
    """Every way to read registers (2 bytes each), as far as they reach: 2, 4 and 8 bytes."""
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
    yield from _unusual(data)
    digits = data[:4].hex()
    yield Decoding("bcd", "", digits.lstrip("0") or "0" if digits.isdecimal() else None, "")
    text = _text(data)
    yield Decoding("str", "", text, "text" if text and len(text) >= _SHORTEST_TEXT else "")


def _unusual(data: bytes) -> Iterator[Decoding]:
    """What few meters have, and only where it differs from what is there already."""
    for words, kind in _SIGNED.items():
        top = 1 << 16 * words - 1
        for order in ("ABCD", "CDAB")[:words] if len(data) >= 2 * words else ():
            raw = int.from_bytes(_ordered(data[: 2 * words], order), "big")
            if raw > top:
                value = top - raw
                yield Decoding(kind, order if words > 1 else "", value, _integer_mark(value))
    for words in _GROUPED:
        groups = struct.unpack(f">{words}H", data[: 2 * words]) if len(data) >= 2 * words else ()
        if groups and max(groups) < 10_000:
            for order, ordered in (("ABCD", groups), ("CDAB", groups[::-1])):
                text = "".join(f"{group:04d}" for group in ordered)
                yield Decoding(f"m10k {words}", order, int(text), _integer_mark(int(text)))


def _ordered(data: bytes, order: str) -> bytes:
    words = [data[i : i + 2] for i in range(0, len(data), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return b"".join(words)


def _number(kind: str, order: str, data: bytes) -> Decoding:
    if kind not in CODES:
        whole = int.from_bytes(data, "big", signed=kind[0] == "s")
        return Decoding(kind, order, whole, _integer_mark(whole))
    (raw,) = struct.unpack(f">{CODES[kind]}", data)
    if not isinstance(raw, float):
        return Decoding(kind, order, raw, _integer_mark(raw))
    if not math.isfinite(raw):
        return Decoding(kind, order, None, "not available")
    value = shortest(raw) if kind == "f32" else raw
    return Decoding(kind, order, value, _float_mark(value))


def _float_mark(value: float) -> str:
    """What a float could be: those that are no measurement have absurd exponents."""
    size = abs(value)
    if any(low <= size <= high for low, high in _FREQUENCIES):
        return "frequency"
    if _BROAD_VOLTAGE[0] <= size <= _BROAD_VOLTAGE[1] or _VOLTAGES[-1][0] <= size <= 440:
        return "voltage"
    if 0.05 <= size <= 1:
        return "power factor"
    return "a value" if _FLOAT_RANGE[0] <= size <= _FLOAT_RANGE[1] else ""


def _integer_mark(value: int) -> str:
    """What an integer could be, with the scale that makes it so."""
    for scale in _SCALES:
        size = abs(value) / scale
        if scale > 1 and any(low <= size <= high for low, high in _FREQUENCIES):
            return f"frequency, scale {1 / scale:g}"
        if any(low <= size <= high for low, high in _VOLTAGES):
            return "voltage" if scale == 1 else f"voltage, scale {1 / scale:g}"
    return ""


def _text(data: bytes) -> str | None:
    """Characters up to the first NUL; None where they are none."""
    raw = data.split(b"\0")[0].strip(b" \xff")
    text = raw.decode("latin-1")
    return text if text and text.isascii() and text.isprintable() else None
