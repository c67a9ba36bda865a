"""A second decoder of register maps, for tests: reads the YAML itself and shares no code.

Slow and exact: integers and Decimal, one row at a time.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from ruamel.yaml import YAML

Words = Callable[[int, int, int], Sequence[int]]
"""Function, address and count to the registers' words."""

PREFIXES = {"m": Decimal("0.001"), "k": Decimal(1000), "M": Decimal(10**6)}
PREFIXED = ("V", "A", "W", "var", "VA", "Hz", "Wh", "varh", "VAh", "s")
TIMES = {"min": Decimal(60), "h": Decimal(3600)}
COUNTS = {"16": 1, "32": 2, "64": 4}


@cache
def rows(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a shipped map as the file has them."""
    text = (files("meterd.drivers") / "maps" / f"{name}.yaml").read_text("utf-8")
    found: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load(text)["rows"]
    return found


def count(row: Mapping[str, Any]) -> int:
    """The registers that a row takes."""
    if "count" in row or row["type"] == "bits":
        return int(row.get("count", 1))
    return COUNTS[row["type"][1:]]


def canonical(row: Mapping[str, Any], words: Words) -> Decimal | str | None:
    """The value in the unit that meterd keeps, a text, or None for "not available"."""
    if "sum" in row:
        parts = [canonical({**_shared(row), **part}, words) for part in row["sum"]]
        numbers = [part for part in parts if isinstance(part, Decimal)]
        step = _prefix(row["sum"][0]["unit"]) / _prefix(row["sum"][1]["unit"])
        whole_parts = len(numbers) == 2 and len(parts) == 2 and numbers[1] < step
        return sum(numbers, Decimal(0)) if whole_parts else None
    content = list(words(row["function"], row["address"], count(row)))
    if row["type"] == "str":
        characters = bytes(byte for word in content for byte in divmod(word, 256) if byte)
        return characters.decode("ascii").strip() or None
    if row.get("word_order") == "little":
        content.reverse()
    whole = int("".join(f"{word:04X}" for word in content), 16)
    for absent in row.get("na", ()):
        first, last = absent if isinstance(absent, list) else (absent, absent)
        if first <= whole <= last:
            return None
    if "bit" in row:
        return Decimal(f"{whole:0{16 * len(content)}b}"[::-1][row["bit"]])
    raw = _number(row["type"], whole, len(content))
    if raw is None or "unit" not in row:
        return None if raw is None else f"{raw:f}"
    return raw * _scale(row, words) * _prefix(row["unit"])


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of a sum have from the row: all sums so far are of a greater and a lower."""
    return {key: row[key] for key in ("function", "type", "word_order") if key in row}


def _number(kind: str, whole: int, size: int) -> Decimal | None:
    if kind.startswith("f"):
        code = {"f16": ">e", "f32": ">f", "f64": ">d"}[kind]
        number = struct.unpack(code, whole.to_bytes(2 * size, "big"))[0]
        return Decimal(number) if math.isfinite(number) else None
    if kind == "bcd":
        digits = f"{whole:X}"
        return Decimal(digits) if digits.isdecimal() else None
    negative = kind.startswith("s") and whole >> (16 * size - 1)
    return Decimal(whole - (1 << 16 * size) if negative else whole)


def _scale(row: Mapping[str, Any], words: Words) -> Decimal:
    scale = str(row.get("scale", 1))
    found = re.fullmatch(r"@(\d+)(?:\*(.+))?", scale)
    if found is None:
        return Decimal(scale)
    exponent = words(row["function"], int(found[1]), 1)[0]
    exponent -= 0x10000 * (exponent > 0x7FFF)
    return Decimal(10) ** exponent * Decimal(found[2] or 1)


def _prefix(unit: str) -> Decimal:
    if unit in TIMES:
        return TIMES[unit]
    if unit[0] in PREFIXES and unit[1:] in PREFIXED:
        return PREFIXES[unit[0]]
    return Decimal(1)
