"""Map files: from YAML to a RegisterMap, with every mistake at its line and column."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from meterd.drivers import maprows
from meterd.drivers.maprows import number, whole
from meterd.drivers.registers import BRIDGE, PROTOCOL_LIMIT, RegisterMap, Row
from meterd.errors import ConfigError, Problem
from meterd.model.duration import seconds

CONFIDENCES = ("high", "medium", "low")
KEYS = tuple(
    "source confidence maker model aliases defaults limits remark wiring rows".split()  # noqa: SIM905
)
LIMITS = ("max_registers", "unreadable", "bridge", "align")
# What a map of one's own need not say.
UNSAID = {"maker": "unknown maker", "model": "unknown model", "source": "no source named"}
TIMES = ("gap", "unit_gap", "connect_delay", "timeout")
DEFAULTS = ("unit", "serial", "tcp", *TIMES)
_SERIAL = re.compile(r"(\d+) ([78])([NEO])([12])")


def parse(text: str, name: str, file: str) -> RegisterMap:
    """A map from its text; `file` is named in the mistakes."""
    return _Reader(_yaml(text, file), name, file).map()


def places(text: str, file: str) -> dict[str, tuple[int, int]]:
    """Line and column, counted from 1, of each row of a map that parses."""
    rows = _yaml(text, file)["rows"]
    found = {str(name): rows.lc.key(name) for name in rows}
    return {name: (line + 1, column + 1) for name, (line, column) in found.items()}


def _yaml(text: str, file: str) -> Any:
    try:
        return YAML(typ="rt", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError([Problem(file, line, column, "M001", f"no YAML: {what}")]) from error
    except TypeError as error:  # a list in a list as a key: the loader's own check misses it
        raise ConfigError([Problem(file, 1, 1, "M001", f"a key is a word: {error}")]) from error


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
        self._keys(data, KEYS)
        limits = self._section("limits", LIMITS)
        defaults = self._section("defaults", DEFAULTS)
        tell = self._problem
        found = RegisterMap(
            name=self._name,
            maker=self._text("maker"),
            model=self._text("model"),
            source=self._text("source"),
            confidence=self._confidence(),
            rows=tuple(self._rows(data["rows"])),
            unit=number(tell, defaults, "unit", 1, 0, 255),
            serial=self._serial(defaults),
            tcp=number(tell, defaults, "tcp", 502, 1, 65535) if "tcp" in defaults else None,
            max_registers=number(tell, limits, "max_registers", PROTOCOL_LIMIT, 1, PROTOCOL_LIMIT),
            bridge=number(tell, limits, "bridge", BRIDGE, 0, PROTOCOL_LIMIT),
            align=number(tell, limits, "align", 1, 1, 2),
            unreadable=self._ranges(limits),
            aliases=self._aliases(),
            remark=str(data.get("remark", "")),
            times=self._times(defaults),
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

    def _times(self, defaults: Mapping[str, Any]) -> Mapping[str, str]:
        found = {}
        for key in TIMES:
            if key in defaults:
                found[key] = str(defaults[key])
                if seconds(found[key]) is None:
                    self._problem(defaults, key, f"{key} is a duration such as 50ms")
        return found

    def _text(self, key: str) -> str:
        """What a map says of itself; `meterd maps --check` misses it where it is not there."""
        value = self._data.get(key, UNSAID.get(key))
        if not isinstance(value, str) or not value.strip():
            self._problem(self._data, key, f"{key} is missing, or no text")
            return ""
        return value

    def _confidence(self) -> str:
        value = str(self._data.get("confidence", "medium"))
        if value and value not in CONFIDENCES:
            self._problem(
                self._data, "confidence", f"confidence is one of {', '.join(CONFIDENCES)}"
            )
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
        pairs = limits.get("unreadable", [])
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            ends = [register for register in pair if whole(register)] if _is_pair(pair) else []
            if len(ends) == 2 and ends[0] <= ends[1]:
                found.append((ends[0], ends[1]))
                continue
            hint = "ranges are written unreadable: [[20, 20], [31, 48]]"
            self._problem(limits, "unreadable", f"{pair!r} is no [first, last]", hint)
        return tuple(found)

    def _aliases(self) -> tuple[str, ...]:
        value = self._data.get("aliases", ())
        if not isinstance(value, list | tuple):
            self._problem(self._data, "aliases", "aliases is a list: [maker_model, …]")
            return ()
        return tuple(map(str, value))

    def _rows(self, rows: Any) -> Iterator[Row]:
        if not rows:
            self._problem(self._data, "rows", "rows has no rows", code="M002")
        for name, node in rows.items():
            if not isinstance(node, dict):
                self._problem(rows, name, f"row {name} has keys: function, address, type, …")
                continue
            if not isinstance(name, str):
                self._problem(rows, name, f"a row is named by a quantity, not {name!r}")
                continue
            known = len(self._problems)
            self._keys(node, maprows.KEYS)
            row = maprows.RowReader(self._problem, rows, name).row()
            if len(self._problems) == known:
                yield row


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2
