"""Parser of numbers in map files: type, registers, word and byte order, scale, sentinels.

A row is one number or composed of several; all of them have these keys.
"""

import math
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from meterd.drivers import map_hints, sentinels
from meterd.drivers.map_nodes import Tell, number, whole
from meterd.drivers.registers import Row
from meterd.drivers.values import DECADES, WHOLES

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
    **dict.fromkeys(DECADES, 2),
}
COUNTED = {"str": 16, "bits": 1, "bcd": 2, "m10k": 2}
_GROUPS_MAX = 4
# Functions whose registers are single bits.
BITS = (1, 2)
# Digits of the whole number in a decade float, before its power of ten.
_DECADE_BITS = 24
_SCALE = re.compile(r"@(\d{1,5}|0x[0-9a-fA-F]{1,4})(?:\*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?")
_FLOATS = {"f16": ">e", "f32": ">f", "f64": ">d"}
_ORDERS = ("big", "little")
# In place of a raw value of `na`: the type has no sentinels.
NONE = "none"


class NumberReader:
    """Reads one number from its YAML node; mistakes go to `tell`."""

    def __init__(self, tell: Tell, node: Mapping[str, Any], of: str) -> None:
        """`of` names the row in the mistakes."""
        self._tell = tell
        self._node = node
        self._of = of

    def number(self, quantity: str, unit: str) -> tuple[Row, tuple[int, ...]]:
        """The number, as a row, and its registers in the order of `words`.

        Neither may be used if there were mistakes.
        """
        node, tell, of = self._node, self._tell, self._of
        function = number(tell, node, "function", 0, 1, 4, of, map_hints.FUNCTIONS)
        kind = self._type(function)
        scale, register, factor = self._scale(kind)
        listed = self._listed(function, kind)
        words = len(listed) or self._words(kind)
        bit, bits = self._bit(kind, words)
        address = listed[0] if listed else self._address(words)
        if function in BITS:  # each bit is a register there
            address, words, bit = self._coil(address, words, bit)
        na = self._na(kind, words)
        word_order, order = self._word_order(kind, words)
        row = Row(
            quantity=quantity,
            function=function,
            address=address,
            type=kind,
            words=words,
            unit=unit,
            word_order=word_order,
            byte_order=self._one_of("byte_order", "big", _ORDERS),
            scale=scale,
            scale_register=register,
            scale_factor=factor,
            na=tuple(sentinel for sentinel in na if isinstance(sentinel, int)),
            na_ranges=tuple(sentinel for sentinel in na if not isinstance(sentinel, int)),
            wrap=self._wrap(kind, words),
            bit=bit,
            bits=bits,
            offset=self._offset(kind),
            order=order,
        )
        return row, tuple(listed) or tuple(range(address, address + words))

    def absent(self, row: Row) -> tuple[int, ...]:
        """Sentinels of the row's type, unless `na` is empty or `none`."""
        value = self._node.get("na", ())
        if "na" in self._node and (value == [] or NONE in (value, *_values(value))):
            return ()
        return sentinels.unavailable(row)

    def _listed(self, function: int, kind: str) -> Sequence[int]:
        """The registers of `words`; empty without this key: they follow the address then."""
        if "words" not in self._node:
            return ()
        node, value, of = self._node, self._node["words"], self._of
        registers = value if isinstance(value, list) else []
        wanted = WORDS.get(kind, len(registers))
        invalid = [
            register for register in registers if not whole(register) or not 0 <= register <= 0xFFFF
        ]
        what = hint = ""
        if not registers:
            what = f"words is a list of the registers of one number, not {value!r}"
            hint = map_hints.WORDS
        elif invalid:
            what, hint = (
                f"words has {invalid[0]!r}, allowed 0..65535",
                map_hints.of_address(invalid[0]),
            )
        elif len(set(registers)) < len(registers):
            what = "words names a register twice"
        elif function in BITS:
            what = f"function {function} reads single bits, no words"
        elif len(registers) != wanted:
            what = f"words has {len(registers)} registers, but {kind} has always {wanted}"
            hint = map_hints.of_words(registers, wanted)
        elif len(registers) > 1 and kind != "str" and "word_order" not in node:
            what = f"words does not tell which of {registers} is the high word"
            hint = (
                f"word_order: little if the low word is at {registers[0]}, "
                "word_order: big if the high word is"
            )
        if what:
            self._tell(node, "words", f"{of}{what}", hint)
        if "address" in node:
            what = f"{of}words names all registers of the number, address none besides"
            self._tell(node, "address", what, "leave address out")
        return registers if registers and not invalid else range(max(1, wanted))

    def _word_order(self, kind: str, words: int) -> tuple[str, tuple[int, ...]]:
        """`word_order`, and for other orders the word of the number in each register."""
        value = self._node.get("word_order", "big")
        if not isinstance(value, list):
            return self._one_of("word_order", "big", _ORDERS, map_hints.ORDERS), ()
        if "words" in self._node:
            what = f"{self._of}words may have any order: word_order is big or little there"
            self._tell(self._node, "word_order", what)
        elif kind == "str":
            self._tell(self._node, "word_order", f"{self._of}a text has no word_order")
        elif not all(map(whole, value)) or sorted(value) != list(range(1, words + 1)):
            what = f"{self._of}word_order is {value!r}, but {kind} has the words 1 to {words}"
            self._tell(self._node, "word_order", what, map_hints.ORDERS)
        else:
            return "big", tuple(map(int, value))
        return "big", ()

    def _type(self, function: int) -> str:
        node, types = self._node, (*WORDS, *COUNTED)
        kind = str(node.get("type"))
        if kind not in types:
            problem = f"type {kind!r}" if "type" in node else "type is missing"
            hint = map_hints.of_type(kind) if "type" in node else ""
            self._tell(node, "type", f"{self._of}{problem}, allowed {', '.join(types)}", hint)
            return "u16"  # no other mistake comes of it
        if function in BITS and kind != "u16":  # a single bit counts as 0 or 1 in both
            if kind != "bits":
                what = f"{self._of}function {function} reads single bits, not {kind}"
                self._tell(node, "type", what, "type: bits")
        elif function in BITS:
            return "bits"
        return kind

    def _address(self, words: int) -> int:
        node, of = self._node, self._of
        hint = map_hints.of_address(node.get("address"))
        address = number(self._tell, node, "address", -1, 0, 0xFFFF, of, hint)
        if address + words > 0x10000:
            self._tell(node, "address", f"{of}ends behind register 65535")
        return address

    def _words(self, kind: str) -> int:
        if kind in COUNTED:
            most = _GROUPS_MAX if kind == "m10k" else 125
            return number(self._tell, self._node, "count", COUNTED[kind], 1, most, self._of)
        words = WORDS.get(kind, 1)
        if kind in WORDS and self._node.get("count", words) != words:
            count = self._node["count"]
            what = f"{self._of}count is {count!r}, but {kind} has always {words}"
            self._tell(self._node, "count", what, f"count belongs to {', '.join(COUNTED)}")
        return words

    def _coil(self, address: int, count: int, bit: int | None) -> tuple[int, int, int | None]:
        """Address, count (always 1) and bit of a row of functions 1 and 2."""
        if isinstance(self._node.get("bit"), list):
            self._tell(self._node, "bit", f"{self._of}a row of functions 1 and 2 is one bit")
        if count > 1 and bit is None and "count" in self._node:
            what = f"{self._of}count is {count}, but a row of functions 1 and 2 is one bit"
            self._tell(self._node, "count", what, "one row for each")
        return address + (bit or 0), 1, None

    def _bit(self, kind: str, words: int) -> tuple[int | None, int]:
        """The first bit of the value, and the number of bits."""
        if "bit" not in self._node:
            return None, 1
        if kind != "bits":
            self._tell(self._node, "bit", f"{self._of}bit goes with type bits, not {kind}")
        value = self._node["bit"]
        if not isinstance(value, list):
            return number(self._tell, self._node, "bit", 0, 0, 16 * words - 1, self._of), 1
        ends = [end for end in value if whole(end)]
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
        most = 1 << _DECADE_BITS if kind in DECADES else most
        hint = f"the raw count at which it starts again; {kind} holds less than {most}"
        return number(self._tell, self._node, "wrap", 0, 1, most, self._of, hint)

    def _scale(self, kind: str) -> tuple[float, int | None, float]:
        value = self._node.get("scale", 1)
        plain = kind == "bits" and not isinstance(self._node.get("bit"), list)
        if (kind == "str" or plain) and "scale" in self._node and value != 1:
            self._tell(self._node, "scale", f"{self._of}{kind} has no scale")
            return 1.0, None, 1.0
        if isinstance(value, int | float) and not isinstance(value, bool):
            if value != 0 and math.isfinite(value):
                return float(value), None, 1.0
        elif match := _SCALE.fullmatch(str(value).replace(" ", "")):
            register, factor = _register(match[1]), float(match[2] or 1)
            if register <= 0xFFFF and factor != 0 and math.isfinite(factor):
                return 1.0, register, factor
        what = f'{self._of}scale is a number that is not 0, or "@ADDRESS", not {value!r}'
        self._tell(self._node, "scale", what, map_hints.of_scale(value))
        return 1.0, None, 1.0

    def _one_of(self, key: str, default: str, allowed: Sequence[str], hint: str = "") -> str:
        value = str(self._node.get(key, default))
        if value not in allowed:
            what = f"{self._of}{key} is one of {', '.join(allowed)}, not {value!r}"
            self._tell(self._node, key, what, hint)
        return value

    def _na(self, kind: str, words: int) -> list[int | tuple[int, int]]:
        """The sentinels of `na`: raw values, and (first, last) ranges of them."""
        values: list[int | tuple[int, int]] = []
        for item in _values(self._node.get("na", ())):
            if item == NONE:
                continue
            ends = [_raw(raw, kind) for raw in (item if isinstance(item, list) else [item, item])]
            pair = [raw for raw in ends if whole(raw)]
            if not len(pair) == len(ends) == 2:
                what = (
                    f"{self._of}na is a raw value such as 0xFFFF, a list of them, "
                    f"or none, not {item!r}"
                )
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
            values.append((first, last) if isinstance(item, list) else first)
        return values


def _values(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _raw(value: object, kind: str) -> object:
    """A float sentinel such as 1e20 as its raw words; other values unchanged."""
    if not isinstance(value, float) or kind not in _FLOATS:
        return value
    try:
        return int.from_bytes(struct.pack(_FLOATS[kind], value), "big")
    except OverflowError:
        return value


def _register(text: str) -> int:
    return int(text, 16) if text.startswith("0x") else int(text)
