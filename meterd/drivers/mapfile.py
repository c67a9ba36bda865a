"""Map files: from YAML to a RegisterMap, with every mistake at its line and column."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from meterd.drivers.registers import BRIDGE, PROTOCOL_LIMIT, RegisterMap, Row
from meterd.errors import ConfigError, Problem
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
CONFIDENCES = ("high", "medium", "low")

_TOP_KEYS = (
    "source confidence maker model aliases defaults limits remark wiring rows".split()  # noqa: SIM905
)
_ROW_KEYS = (
    "function address type count word_order byte_order scale unit na wrap enum tier optional"  # noqa: SIM905
    " alone note".split()
)
_SCALE = re.compile(r"@(\d+)(?:\*([0-9.eE+-]+))?")
_SERIAL = re.compile(r"(\d+) ([78])([NEO])([12])")


def parse(text: str, name: str, file: str) -> RegisterMap:
    """A map from its text; `file` is named in the mistakes."""
    try:
        data = YAML(typ="rt", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError([Problem(file, line, column, "M001", f"no YAML: {what}")]) from error
    return _Reader(data, name, file).map()


class _Reader:
    """Turns the YAML of one map into a RegisterMap, collecting mistakes with their places."""

    def __init__(self, data: Any, name: str, file: str) -> None:
        self._data = data
        self._name = name
        self._file = file
        self._problems: list[Problem] = []

    def map(self) -> RegisterMap:
        data = self._data
        if not isinstance(data, dict) or not isinstance(data.get("rows"), dict):
            problem = Problem(self._file, 1, 1, "M002", "a map has keys, and `rows` with rows")
            raise ConfigError([problem])
        self._keys(data, _TOP_KEYS)
        limits = self._section("limits", ("max_registers", "unreadable", "bridge", "align"))
        defaults = self._section("defaults", ("unit", "serial", "tcp"))
        found = RegisterMap(
            name=self._name,
            maker=self._text("maker"),
            model=self._text("model"),
            source=self._text("source"),
            confidence=self._confidence(),
            rows=tuple(self._rows(data["rows"])),
            unit=self._number(defaults, "unit", 1, 0, 255),
            serial=self._serial(defaults),
            max_registers=self._number(limits, "max_registers", PROTOCOL_LIMIT, 1, PROTOCOL_LIMIT),
            bridge=self._number(limits, "bridge", BRIDGE, 0, PROTOCOL_LIMIT),
            align=self._number(limits, "align", 1, 1, 2),
            unreadable=self._ranges(limits),
            aliases=tuple(map(str, data.get("aliases", ()))),
            remark=str(data.get("remark", "")),
        )
        if self._problems:
            raise ConfigError(self._problems)
        return found

    def _problem(self, node: Any, key: Any, what: str, hint: str = "", code: str = "M003") -> None:
        try:
            line, column = node.lc.key(key)
        except (AttributeError, KeyError, TypeError):
            line, column = (node.lc.line, node.lc.col) if hasattr(node, "lc") else (0, 0)
        self._problems.append(Problem(self._file, line + 1, column + 1, code, what, hint))

    def _keys(self, node: Mapping[str, Any], known: Any) -> None:
        for key in node:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
                self._problem(node, key, f"unknown key {key!r}", hint)

    def _section(self, key: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        node = self._data.get(key) or {}
        if not isinstance(node, dict):
            self._problem(self._data, key, f"{key} has keys: {', '.join(known)}")
            return {}
        self._keys(node, known)
        return node

    def _text(self, key: str) -> str:
        value = self._data.get(key)
        if not isinstance(value, str) or not value.strip():
            self._problem(self._data, key, f"{key} is missing, or no text")
            return ""
        return value

    def _confidence(self) -> str:
        value = self._text("confidence")
        if value and value not in CONFIDENCES:
            self._problem(
                self._data, "confidence", f"confidence is one of {', '.join(CONFIDENCES)}"
            )
        return value

    def _number(self, node: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
        value = node.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._problem(node, key, f"{key} is {value!r}, allowed {low}..{high}")
            return default
        return value

    def _serial(self, defaults: Mapping[str, Any]) -> Mapping[str, str] | None:
        if "serial" not in defaults:
            return None
        found = _SERIAL.fullmatch(str(defaults["serial"]))
        if found is None:
            self._problem(defaults, "serial", "serial is written like 9600 8N1")
            return None
        return dict(zip(("baud", "bytes", "parity", "stop"), found.groups(), strict=True))

    def _ranges(self, limits: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        found = []
        for pair in limits.get("unreadable") or ():
            if not (isinstance(pair, list) and len(pair) == 2 and pair[0] <= pair[1]):
                self._problem(limits, "unreadable", f"{pair!r} is no [first, last]")
                continue
            found.append((int(pair[0]), int(pair[1])))
        return tuple(found)

    def _rows(self, rows: Mapping[str, Any]) -> Iterator[Row]:
        for name, node in rows.items():
            if not isinstance(node, dict):
                self._problem(rows, name, f"row {name} has keys: function, address, type, …")
                continue
            self._keys(node, _ROW_KEYS)
            known = len(self._problems)
            row = self._row(rows, str(name), node)
            if len(self._problems) == known:
                yield row

    def _row(self, rows: Any, name: str, node: Any) -> Row:
        kind = str(node.get("type"))
        if kind not in WORDS and kind not in COUNTED:
            allowed = ", ".join((*WORDS, *COUNTED))
            self._problem(node, "type", f"{name}: type {kind!r}, allowed {allowed}")
        scale, register, factor = self._scale(name, node)
        unit = str(node.get("unit", "1"))
        self._known(rows, name, node, unit)
        default = WORDS.get(kind) or COUNTED.get(kind, 1)
        address = self._number(node, "address", -1, 0, 0xFFFF)
        words = default if kind in WORDS else self._number(node, "count", default, 1, 125)
        if address + words > 0x10000:
            self._problem(node, "address", f"{name}: ends behind register 65535")
        return Row(
            quantity=name,
            function=self._number(node, "function", 0, 1, 4),
            address=address,
            type=kind,
            words=words,
            unit=unit,
            word_order=self._order(name, node, "word_order"),
            byte_order=self._order(name, node, "byte_order"),
            scale=scale,
            scale_register=register,
            scale_factor=factor,
            na=tuple(one for one in self._na(name, node) if isinstance(one, int)),
            na_ranges=tuple(one for one in self._na(name, node) if not isinstance(one, int)),
            wrap=self._number(node, "wrap", 0, 1, 2**64) if "wrap" in node else None,
            enum={int(k): str(v) for k, v in (node.get("enum") or {}).items()} or None,
            tier=self._tier(name, node),
            optional=bool(node.get("optional", False)),
            alone=bool(node.get("alone", False)),
        )

    def _known(self, rows: Any, name: str, node: Any, unit: str) -> None:
        """The quantity is in the catalogue, and its unit converts."""
        if name in catalogue.INFO:
            return
        known = catalogue.describe(name, unit)
        if known is None:
            self._problem(rows, name, f"unknown quantity {name}", catalogue.suggest(name), "M004")
        elif not name.startswith("x.") and units.factor(unit, known.unit) is None:
            what = f"{name}: unit {unit!r} does not convert to {known.unit}"
            self._problem(node, "unit", what, code="M005")

    def _scale(self, name: str, node: Any) -> tuple[float, int | None, float]:
        value = node.get("scale", 1)
        if isinstance(value, int | float) and not isinstance(value, bool) and value != 0:
            return float(value), None, 1.0
        found = _SCALE.fullmatch(str(value))
        if found is None:
            self._problem(node, "scale", f'{name}: scale is a number or "@ADDRESS", not {value!r}')
            return 1.0, None, 1.0
        return 1.0, int(found[1]), float(found[2] or 1)

    def _order(self, name: str, node: Any, key: str) -> str:
        value = str(node.get(key, "big"))
        if value not in ("big", "little"):
            self._problem(node, key, f"{name}: {key} is big or little, not {value!r}")
        return value

    def _na(self, name: str, node: Any) -> list[int | tuple[int, int]]:
        """Raw values, and [first, last] ranges of them."""
        value = node.get("na", ())
        found: list[int | tuple[int, int]] = []
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, int):
                found.append(int(one))
            elif isinstance(one, list) and len(one) == 2 and all(isinstance(x, int) for x in one):
                found.append((int(one[0]), int(one[1])))
            else:
                what = f"{name}: na is a raw value such as 0xFFFF, or a list of them"
                self._problem(node, "na", what, "a range of raw values is [0x7FFF0000, 0x7FFFFFFF]")
                return []
        return found

    def _tier(self, name: str, node: Any) -> str:
        value = str(node.get("tier", "fast"))
        if value not in TIERS:
            self._problem(node, "tier", f"{name}: tier is one of {', '.join(TIERS)}")
        return value
