"""Parser of map files: YAML to RegisterMap, with line and column of every mistake."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from meterd.drivers import map_header, map_hints, map_rows
from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.map_nodes import number, whole
from meterd.drivers.registers import BRIDGE, PROTOCOL_LIMIT, RegisterMap, Row
from meterd.drivers.wide_registers import NORMAL, WIDE, widened
from meterd.errors import ConfigError, Problem
from meterd.model.duration import seconds

CONFIDENCES = ("high", "medium", "low")
KEYS = (
    *"source confidence maker model aliases defaults limits remark wiring rows".split(),  # noqa: SIM905
    *map_header.KEYS,
)
LIMITS = ("max_registers", "unreadable", "bridge", "align", "words")
# Defaults of keys that users' own maps may omit; `meterd maps --check` asks for them.
DEFAULT_TEXTS = {"maker": "unknown maker", "model": "unknown model", "source": "no source named"}
TIMES = ("gap", "unit_gap", "connect_delay", "timeout")
DEFAULTS = ("unit", "serial", "tcp", *TIMES)
# Hints for keys at the wrong level, and for other names of keys.
_MISPLACED_KEYS = (
    (("unit", "serial", "tcp", *TIMES), "it belongs below defaults:"),
    (LIMITS, "it belongs below limits:"),
    (("baud", "baudrate", "parity", "stop", "stopbits", "bytes"), "defaults: {serial: 9600 8N1}"),
    (("registers", "values", "points", "quantities"), "the values stand below rows:"),
)
# Part of ruamel's message about a duplicate key that quotes both values; it is cut.
_DUPLICATE_VALUE = re.compile(r" with value .*")
_SERIAL = re.compile(r"(\d+) ([78])([NEO])([12])")


def parse(text: str, name: str, file: str, *, own: bool = True) -> RegisterMap:
    """A map from its text; `file` names it in mistakes. Raises ConfigError with all of them.

    `own` maps (users', not shipped ones) without `bridge` have 0: many meters refuse requests over
    registers that the map does not have, and nobody has tested this one.
    """
    return _MapReader(_yaml(text, file), name, file).map(0 if own else BRIDGE)


def places(text: str, file: str) -> dict[str, tuple[int, int]]:
    """Line and column, counted from 1, of each row of a map that parses."""
    rows = _yaml(text, file)["rows"]
    positions = {str(name): rows.lc.key(name) for name in rows}
    return {name: (line + 1, column + 1) for name, (line, column) in positions.items()}


def _yaml(text: str, file: str) -> Any:
    try:
        return YAML(typ="rt", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        what = _DUPLICATE_VALUE.sub("", what)
        problem = Problem(file, line, column, "M001", f"no YAML: {what}", map_hints.of_yaml(what))
        raise ConfigError([problem]) from error
    except TypeError as error:  # a list in a list as a key: the loader's own check misses it
        raise ConfigError([Problem(file, 1, 1, "M001", f"a key is a word: {error}")]) from error
    except RecursionError as error:
        what = "no YAML: brackets are nested too deep"
        raise ConfigError([Problem(file, 1, 1, "M001", what)]) from error
    except Exception as error:  # tags, such as !!set before a word, break it in ways of their own
        what = f"no YAML: {type(error).__name__}: {error}"
        hint = "a map is plain data: names, numbers, texts and lists, without tags (!!…)"
        raise ConfigError([Problem(file, 1, 1, "M001", what, hint)]) from error


class _MapReader:
    """Converts the YAML of one map to a RegisterMap, and collects all mistakes."""

    def __init__(self, data: Any, name: str, file: str) -> None:
        self._data = data
        self._name = name
        self._file = file
        self._problems: list[Problem] = []

    def map(self, bridge: int) -> RegisterMap:
        """The map; `bridge` is the default of that limit."""
        data = self._data
        if not isinstance(data, dict) or not isinstance(data.get("rows"), dict):
            raise ConfigError([_no_rows(data, self._file)])
        self._keys(data, KEYS)
        limits = self._section("limits", LIMITS)
        defaults = self._section("defaults", DEFAULTS)
        tell = self._problem
        header = map_header.HeaderReader(tell, data)
        register_map = RegisterMap(
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
            bridge=number(tell, limits, "bridge", bridge, 0, PROTOCOL_LIMIT),
            align=number(tell, limits, "align", 1, 1, 2),
            unreadable=self._ranges(limits),
            aliases=self._aliases(),
            remark=str(data.get("remark", "")),
            times=self._times(defaults),
            max_power=header.max_power(),
            turned=header.turned(),
            instances=header.instances(),
            wake=header.wake(),
        )
        words = limits.get("words", NORMAL)
        if words not in (NORMAL, WIDE):
            self._problem(limits, "words", f"words is {words!r}, allowed normal or wide")
        if self._problems:
            raise ConfigError(self._problems)
        register_map = widened(register_map) if words == WIDE else register_map
        return replace(register_map, rows=_with_remote_rows(register_map))

    def _problem(self, node: Any, key: Any, what: str, hint: str = "", code: str = "M003") -> None:
        try:
            line, column = node.lc.key(key)
        except (AttributeError, KeyError, TypeError):
            line, column = (node.lc.line, node.lc.col) if hasattr(node, "lc") else (0, 0)
        self._problems.append(Problem(self._file, line + 1, column + 1, code, what, hint))

    def _keys(self, node: Mapping[str, Any], allowed: Any) -> None:
        for key in node:
            if key not in allowed:
                elsewhere = next((hint for keys, hint in _MISPLACED_KEYS if key in keys), "")
                hint = map_hints.of_key(key, allowed, elsewhere)
                self._problem(node, key, f"unknown key {key!r}", hint)

    def _section(self, key: str, allowed: tuple[str, ...]) -> Mapping[str, Any]:
        node = self._data.get(key) or {}
        if not isinstance(node, dict):
            self._problem(self._data, key, f"{key} has keys: {', '.join(allowed)}")
            return {}
        self._keys(node, allowed)
        return node

    def _times(self, defaults: Mapping[str, Any]) -> Mapping[str, str]:
        times = {}
        for key in TIMES:
            if key in defaults:
                times[key] = str(defaults[key])
                if seconds(times[key]) is None:
                    self._problem(defaults, key, f"{key} is a duration such as 50ms")
        return times

    def _text(self, key: str) -> str:
        """A text at the top level of the map, or its default."""
        value = self._data.get(key, DEFAULT_TEXTS.get(key))
        if isinstance(value, float) or whole(value):  # a model such as 3000
            value = str(value)
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
        match = _SERIAL.fullmatch(str(defaults["serial"]))
        if match is None:
            self._problem(defaults, "serial", "serial is written like 9600 8N1")
            return None
        return dict(zip(("baud", "bytes", "parity", "stop"), match.groups(), strict=True))

    def _ranges(self, limits: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
        ranges = []
        pairs = limits.get("unreadable", [])
        for pair in pairs if isinstance(pairs, list) else [pairs]:
            ends = [register for register in pair if whole(register)] if _is_pair(pair) else []
            if len(ends) == 2 and ends[0] <= ends[1]:
                ranges.append((ends[0], ends[1]))
                continue
            hint = "ranges are written unreadable: [[20, 20], [31, 48]]"
            self._problem(limits, "unreadable", f"{pair!r} is no [first, last]", hint)
        return tuple(ranges)

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
            mistakes = len(self._problems)
            self._keys(node, map_rows.KEYS)
            row = map_rows.RowReader(self._problem, rows, name).row()
            if len(self._problems) == mistakes:
                yield row


def _with_remote_rows(register_map: RegisterMap) -> tuple[Row, ...]:
    """The rows, with `apart` set where no single request within the limits has all their registers.

    Composed rows are read in one request only if all registers between theirs are in the map, or
    within its `bridge`.
    """
    rows = [replace(row, apart=True) if row.terms else row for row in register_map.rows]
    constraints = AddressConstraints(replace(register_map, rows=tuple(rows)))

    def is_apart(row: Row) -> bool:
        if row.terms:
            return not _fits_request(constraints, replace(row, apart=False))
        if row.scale_register is None or constraints.fits(row.function, row.first, row.last):
            return False
        remote = replace(row, apart=True)
        spans = [(row.function, remote.first, remote.last), *remote.remote_runs()]
        return all(constraints.fits(*span) for span in spans)

    return tuple(replace(row, apart=True) if is_apart(row) else row for row in register_map.rows)


def _fits_request(constraints: AddressConstraints, row: Row) -> bool:
    """Whether all registers of a composed row fit one request."""
    if any(function != row.function for function, _ in row.places()):
        return False
    if not constraints.fits(row.function, row.first, row.last):
        return False
    ordered = sorted(register for _, register in row.places())
    gaps = (constraints.gap(row.function, a + 1, b - 1) for a, b in pairwise(ordered))
    return max(gaps, default=0) <= constraints.map.bridge


def _no_rows(data: Any, file: str) -> Problem:
    """The mistake of a file without rows."""
    hint = "below rows: stands a line a value, voltage.l1: {function: 4, address: 0, …}"
    what, key = "a map has keys, and `rows` with rows", ""
    if isinstance(data, dict) and "rows" in data:
        kind = "nothing" if data["rows"] is None else "values without names"
        what, key = f"rows has {kind}", "rows"
    elif isinstance(data, dict) and (key := map_hints.instead_of_rows(data)):
        what = f"there is {key}, but no rows"
    line, column = data.lc.key(key) if key else (0, 0)
    return Problem(file, line + 1, column + 1, "M002", what, hint)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2
