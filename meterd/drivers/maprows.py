"""One row of a map file: from its YAML keys to a Row, each mistake told at its key."""

import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from meterd.drivers import maphints
from meterd.drivers.mapnodes import Tell, flag, number, whole
from meterd.drivers.registers import Row
from meterd.drivers.values import WHOLES
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
    **WHOLES,
}
COUNTED = {"str": 16, "bits": 1, "bcd": 2, "m10k": 2}
_MOST_GROUPS = 4
TIERS = ("fast", "slow", "static")
# In which users' own counters may count.
COUNTER_UNITS = (*catalogue.COUNTED_UNITS, "J", "m³", "l", "1")
KEYS = tuple(
    "function address type count word_order byte_order scale offset unit na wrap enum bit tier"  # noqa: SIM905
    " optional alone note kind max_rate".split()
)
# Functions whose registers are single bits.
BITS = (1, 2)
_SCALE = re.compile(r"@(\d{1,5}|0x[0-9a-fA-F]{1,4})(?:\*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?")
# Texts that name a device; those of the catalogue's INFO are the usual ones.
_TEXT = re.compile(r"info(\.[a-z0-9_]+)+")
_FLOATS = {"f16": ">e", "f32": ">f", "f64": ">d"}


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
        function = number(tell, node, "function", 0, 1, 4, of, maphints.FUNCTIONS)
        kind = self._type(function)
        scale, register, factor = self._scale(kind)
        unit = "" if node.get("unit", "1") is None else str(node.get("unit", "1"))
        self._known(unit, kind)
        words = self._words(kind)
        bit, bits = self._bit(kind, words)
        address = self._address(words)
        if function in BITS:  # each bit is a register there
            address, words, bit = self._coil(address, words, bit)
        na = self._na(kind, words)
        return Row(
            quantity=self._name,
            function=function,
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
            wrap=self._wrap(kind, words),
            enum=self._enum(),
            tier=self._one_of("tier", "fast", TIERS),
            optional=flag(tell, node, "optional", of),
            alone=flag(tell, node, "alone", of),
            bit=bit,
            bits=bits,
            offset=self._offset(kind),
            kind=self._kind(unit),
            max_rate=self._max_rate(),
        )

    def _type(self, function: int) -> str:
        node, known = self._node, (*WORDS, *COUNTED)
        kind = str(node.get("type"))
        if kind not in known:
            told = f"type {kind!r}" if "type" in node else "type is missing"
            hint = maphints.of_type(kind) if "type" in node else ""
            self._tell(node, "type", f"{self._of}{told}, allowed {', '.join(known)}", hint)
        elif function in BITS and kind != "u16":  # a single bit counts as 0 or 1 in both
            if kind != "bits":
                what = f"{self._of}function {function} reads single bits, not {kind}"
                self._tell(node, "type", what, "type: bits")
        elif function in BITS:
            return "bits"
        return kind

    def _address(self, words: int) -> int:
        node, of = self._node, self._of
        hint = maphints.of_address(node.get("address"))
        address = number(self._tell, node, "address", -1, 0, 0xFFFF, of, hint)
        if address + words > 0x10000:
            self._tell(node, "address", f"{of}ends behind register 65535")
        return address

    def _words(self, kind: str) -> int:
        if kind in COUNTED:
            most = _MOST_GROUPS if kind == "m10k" else 125
            return number(self._tell, self._node, "count", COUNTED[kind], 1, most, self._of)
        words = WORDS.get(kind, 1)
        if kind in WORDS and self._node.get("count", words) != words:
            count = self._node["count"]
            what = f"{self._of}count is {count!r}, but {kind} has always {words}"
            self._tell(self._node, "count", what, f"count belongs to {', '.join(COUNTED)}")
        return words

    def _coil(self, address: int, count: int, bit: int | None) -> tuple[int, int, int | None]:
        """Address, count and bit of a row of functions 1 and 2: always one."""
        if isinstance(self._node.get("bit"), list):
            self._tell(self._node, "bit", f"{self._of}a row of functions 1 and 2 is one bit")
        if count > 1 and bit is None and "count" in self._node:
            what = f"{self._of}count is {count}, but a row of functions 1 and 2 is one bit"
            self._tell(self._node, "count", what, "one row for each")
        return address + (bit or 0), 1, None

    def _bit(self, kind: str, words: int) -> tuple[int | None, int]:
        """The first bit of the value, and how many they are."""
        if "bit" not in self._node:
            return None, 1
        if kind != "bits":
            self._tell(self._node, "bit", f"{self._of}bit goes with type bits, not {kind}")
        value = self._node["bit"]
        if not isinstance(value, list):
            return number(self._tell, self._node, "bit", 0, 0, 16 * words - 1, self._of), 1
        ends = [one for one in value if whole(one)]
        if len(value) == len(ends) == 2 and 0 <= ends[0] <= ends[1] < 16 * words:
            return ends[0], ends[1] - ends[0] + 1
        what = f"{self._of}bit is {value!r}, allowed one, or [first, last], of 0..{16 * words - 1}"
        self._tell(
            self._node, "bit", what, "the low byte is bit: [0, 7], the high one bit: [8, 15]"
        )
        return 0, 1

    def _offset(self, kind: str) -> float:
        value = self._node.get("offset", 0)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            hint = "in the unit of the row: the value is the raw number times scale, plus offset"
            self._tell(self._node, "offset", f"{self._of}offset is no number: {value!r}", hint)
            return 0.0
        if value and kind == "str":
            self._tell(self._node, "offset", f"{self._of}a text has no offset")
        return float(value)

    def _wrap(self, kind: str, words: int) -> int | None:
        if "wrap" not in self._node:
            return None
        most = 10 ** (4 * words) if kind in ("bcd", "m10k") else 1 << 16 * words
        most = 1 << 64 if kind in _FLOATS else most
        hint = f"the raw count at which it starts again; {kind} holds less than {most}"
        return number(self._tell, self._node, "wrap", 0, 1, most, self._of, hint)

    def _known(self, unit: str, kind: str) -> None:
        """The quantity is in the catalogue, its type is one of a number, its unit converts."""
        name = self._name
        if _TEXT.fullmatch(name):
            return
        ours = name == catalogue.DEVICE_UP or name.startswith(catalogue.GUARDED)
        known = None if ours else catalogue.describe(name, unit)
        if known is None:
            what = f"{name} is meterd's own" if ours else f"unknown quantity {name}"
            self._tell(self._rows, name, what, maphints.of_quantity(name), "M004")
            return
        if kind == "str":
            self._tell(
                self._node, "type", f"{self._of}a text is no number", "texts are named info.model …"
            )
        if not name.startswith("x.") and units.factor(unit, known.unit) is None:
            told = (
                f"unit {unit!r} does not" if "unit" in self._node else "unit is missing: 1 does not"
            )
            what = f"{self._of}{told} convert to {known.unit}"
            self._tell(self._node, "unit", what, maphints.of_unit(unit, known.unit), "M005")

    def _scale(self, kind: str) -> tuple[float, int | None, float]:
        value = self._node.get("scale", 1)
        plain = kind == "bits" and not isinstance(self._node.get("bit"), list)
        if (kind == "str" or plain) and "scale" in self._node and value != 1:
            self._tell(self._node, "scale", f"{self._of}{kind} has no scale")
            return 1.0, None, 1.0
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value != 0 and math.isfinite(value):
                return float(value), None, 1.0
        elif found := _SCALE.fullmatch(str(value).replace(" ", "")):
            register, factor = _register(found[1]), float(found[2] or 1)
            if register <= 0xFFFF and factor != 0 and math.isfinite(factor):
                return 1.0, register, factor
        what = f'{self._of}scale is a number that is not 0, or "@ADDRESS", not {value!r}'
        self._tell(self._node, "scale", what, maphints.of_scale(value))
        return 1.0, None, 1.0

    def _one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = str(self._node.get(key, default))
        if value not in allowed:
            self._tell(
                self._node, key, f"{self._of}{key} is one of {', '.join(allowed)}, not {value!r}"
            )
        return value

    def _kind(self, unit: str) -> catalogue.Kind:
        """How it counts: of the catalogue's quantities that is known, of users' own it is said."""
        node, of = self._node, self._of
        known = catalogue.CATALOGUE.get(self._name)
        said = node.get("kind")
        if said is None:
            return known.kind if known else catalogue.Kind.GAUGE
        if said not in tuple(catalogue.Kind):
            self._tell(node, "kind", f"{of}kind is gauge or counter, not {said!r}")
        elif known is not None and said != known.kind:
            self._tell(node, "kind", f"{of}it is a {known.kind}, and no {said}")
        elif said == catalogue.Kind.COUNTER and units.base_of(unit) not in COUNTER_UNITS:
            what = f"{of}a counter's unit is one of Wh varh VAh J m³ l 1, or what becomes it"
            self._tell(node, "unit" if "unit" in node else "kind", f"{what}, not {unit!r}")
        else:
            return catalogue.Kind(said)
        return catalogue.Kind.GAUGE

    def _max_rate(self) -> float | None:
        """The most that a counter of one's own rises by in an hour, in the unit of the row."""
        value = self._node.get("max_rate")
        if value is None:
            return None
        hint = "the most that it rises by in an hour, in the unit of the row"
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            what = f"{self._of}max_rate is a number above 0, not {value!r}"
            self._tell(self._node, "max_rate", what, hint)
        elif not catalogue.is_own(self._name) or self._node.get("kind") != "counter":
            what = f"{self._of}max_rate is for counters of your own: write kind: counter"
            self._tell(self._node, "max_rate", what, "energy is bounded by the device's max_power")
        else:
            return float(value)
        return None

    def _enum(self) -> Mapping[int, str] | None:
        value = self._node.get("enum")
        if value is None:
            return None
        if not isinstance(value, dict) or not all(whole(key) for key in value):
            hint = "the number stands in front of its text"
            self._tell(self._node, "enum", f"{self._of}enum is written {{0: text, 1: text}}", hint)
            return None
        return {int(key): str(text) for key, text in value.items()} or None

    def _na(self, kind: str, words: int) -> list[int | tuple[int, int]]:
        """Raw values, and [first, last] ranges of them, that fit the row's registers."""
        value = self._node.get("na", ())
        found: list[int | tuple[int, int]] = []
        for one in value if isinstance(value, list | tuple) else (value,):
            ends = [_raw(raw, kind) for raw in (one if isinstance(one, list) else [one, one])]
            pair = [raw for raw in ends if whole(raw)]
            if not len(pair) == len(ends) == 2:
                what = f"{self._of}na is a raw value such as 0xFFFF, or a list of them, not {one!r}"
                hint = "without quotes; a range of raw values is [[0x7FFF0000, 0x7FFFFFFF]]"
                self._tell(self._node, "na", what, hint)
                return []
            size = 1 << 16 * words
            first, last = (raw + size if -size // 2 <= raw < 0 else raw for raw in pair)
            if not 0 <= first <= last < size:
                what = f"{self._of}na: {first:#x} to {last:#x} is no range of {words} registers"
                hint = "raw words count as one number without a sign, the highest word first"
                self._tell(self._node, "na", what, hint)
                return []
            found.append((first, last) if isinstance(one, list) else first)
        return found


def _raw(value: object, kind: str) -> object:
    """A float such as 1e20 that a meter of floats gives, as the raw words that it travels in."""
    if not isinstance(value, float) or kind not in _FLOATS:
        return value
    try:
        return int.from_bytes(struct.pack(_FLOATS[kind], value), "big")
    except OverflowError:
        return value


def _register(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text)
