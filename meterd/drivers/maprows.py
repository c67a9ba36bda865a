"""One row of a map file: from its YAML keys to a Row, each mistake told at its key."""

import math
import re
from collections.abc import Mapping
from typing import Any, Protocol, TypeGuard

from meterd.drivers.registers import Row
from meterd.model import quantity as catalogue
from meterd.model import units

# Words (16 bits) of each type; those of str, bits and bcd are given by `count`.
WORDS = {
    "u16": 1,
    "s16": 1,
    "f16": 1,
    "u32": 2,
    "s32": 2,
    "f32": 2,
    "u64": 4,
    "s64": 4,
    "f64": 4,
}
COUNTED = {"str": 16, "bits": 1, "bcd": 2}
TIERS = ("fast", "slow", "static")
KEYS = tuple(
    "function address type count word_order byte_order scale unit na wrap enum bit tier"  # noqa: SIM905
    " optional alone note".split()
)
_SCALE = re.compile(r"@(\d{1,5})(?:\*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?")


class Tell(Protocol):
    """Notes a mistake at a key of a node of the file."""

    def __call__(
        self, node: Any, key: Any, what: str, hint: str = "", code: str = "M003"
    ) -> None: ...


def number(
    tell: Tell, node: Mapping[str, Any], key: str, default: int, low: int, high: int, of: str = ""
) -> int:
    """An integer between `low` and `high`; `of` names the row in the mistake."""
    value = node.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        told = f"is {value!r}" if key in node else "is missing"
        tell(node, key, f"{of}{key} {told}, allowed {low}..{high}")
        return default
    return int(value)


def flag(tell: Tell, node: Mapping[str, Any], key: str, of: str = "") -> bool:
    """True or false; YAML 1.2 reads yes and no as words, and a word must not pass as true."""
    value = node.get(key, False)
    if not isinstance(value, bool):
        tell(node, key, f"{of}{key} is true or false, not {value!r}")
        return False
    return value


class RowReader:
    """The keys of one row."""

    def __init__(self, tell: Tell, rows: Any, name: str) -> None:
        self._tell = tell
        self._rows = rows
        self._name = name
        self._node = rows[name]
        self._of = f"{name}: "

    def row(self) -> Row:
        """The row; where mistakes were told it is not to be used."""
        node, tell, of = self._node, self._tell, self._of
        kind = str(node.get("type"))
        if kind not in WORDS and kind not in COUNTED:
            told = f"type {kind!r}" if "type" in node else "type is missing"
            tell(node, "type", f"{of}{told}, allowed {', '.join((*WORDS, *COUNTED))}")
        scale, register, factor = self._scale()
        unit = str(node.get("unit", "1"))
        self._known(unit)
        words = self._words(kind)
        address = number(tell, node, "address", -1, 0, 0xFFFF, of)
        if address + words > 0x10000:
            tell(node, "address", f"{of}ends behind register 65535")
        na = self._na(words)
        return Row(
            quantity=self._name,
            function=number(tell, node, "function", 0, 1, 4, of),
            address=address,
            type=kind,
            words=words,
            unit=unit,
            word_order=self._one_of("word_order", "big", ("big", "little")),
            byte_order=self._one_of("byte_order", "big", ("big", "little")),
            scale=scale,
            scale_register=register,
            scale_factor=factor,
            na=tuple(one for one in na if isinstance(one, int)),
            na_ranges=tuple(one for one in na if not isinstance(one, int)),
            wrap=number(tell, node, "wrap", 0, 1, 2**64, of) if "wrap" in node else None,
            enum=self._enum(),
            tier=self._one_of("tier", "fast", TIERS),
            optional=flag(tell, node, "optional", of),
            alone=flag(tell, node, "alone", of),
            bit=self._bit(kind, words),
        )

    def _words(self, kind: str) -> int:
        if kind in WORDS:
            return WORDS[kind]
        default = COUNTED.get(kind, 1)
        return number(self._tell, self._node, "count", default, 1, 125, self._of)

    def _bit(self, kind: str, words: int) -> int | None:
        if "bit" not in self._node:
            return None
        if kind != "bits":
            self._tell(self._node, "bit", f"{self._of}bit goes with type bits, not {kind}")
        return number(self._tell, self._node, "bit", 0, 0, 16 * words - 1, self._of)

    def _known(self, unit: str) -> None:
        """The quantity is in the catalogue, and its unit converts."""
        name = self._name
        if name in catalogue.INFO:
            return
        ours = name.startswith(catalogue.GUARDED)
        known = None if ours else catalogue.describe(name, unit)
        if known is None:
            self._tell(
                self._rows, name, f"unknown quantity {name}", catalogue.suggest(name), "M004"
            )
        elif not name.startswith("x.") and units.factor(unit, known.unit) is None:
            what = f"{self._of}unit {unit!r} does not convert to {known.unit}"
            self._tell(self._node, "unit", what, code="M005")

    def _scale(self) -> tuple[float, int | None, float]:
        value = self._node.get("scale", 1)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value != 0 and math.isfinite(value):
                return float(value), None, 1.0
        elif found := _SCALE.fullmatch(str(value)):
            register, factor = int(found[1]), float(found[2] or 1)
            if register <= 0xFFFF and factor != 0 and math.isfinite(factor):
                return 1.0, register, factor
        what = f'{self._of}scale is a number that is not 0, or "@ADDRESS", not {value!r}'
        self._tell(self._node, "scale", what)
        return 1.0, None, 1.0

    def _one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = str(self._node.get(key, default))
        if value not in allowed:
            self._tell(
                self._node, key, f"{self._of}{key} is one of {', '.join(allowed)}, not {value!r}"
            )
        return value

    def _enum(self) -> Mapping[int, str] | None:
        value = self._node.get("enum")
        if value is None:
            return None
        if not isinstance(value, dict) or not all(whole(key) for key in value):
            self._tell(self._node, "enum", f"{self._of}enum is written {{0: text, 1: text}}")
            return None
        return {int(key): str(text) for key, text in value.items()} or None

    def _na(self, words: int) -> list[int | tuple[int, int]]:
        """Raw values, and [first, last] ranges of them, that fit the row's registers."""
        value = self._node.get("na", ())
        found: list[int | tuple[int, int]] = []
        for one in value if isinstance(value, list | tuple) else (value,):
            pair = one if isinstance(one, list) else [one, one]
            if len(pair) != 2 or not all(whole(raw) for raw in pair):
                what = f"{self._of}na is a raw value such as 0xFFFF, or a list of them"
                hint = "a range of raw values is [[0x7FFF0000, 0x7FFFFFFF]]"
                self._tell(self._node, "na", what, hint)
                return []
            size = 1 << 16 * words
            first, last = (raw + size if -size // 2 <= raw < 0 else raw for raw in map(int, pair))
            if not 0 <= first <= last < size:
                what = f"{self._of}na: {first:#x} to {last:#x} is no range of {words} registers"
                hint = "raw words count as one number without a sign, the highest word first"
                self._tell(self._node, "na", what, hint)
                return []
            found.append((first, last) if isinstance(one, list) else first)
        return found


def whole(value: object) -> TypeGuard[int]:
    """Whether it is an integer; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
