"""Checks of a map that parses: rows that cannot be read, warnings, and the plan of its requests."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from meterd.drivers import map_omissions, planner, remote_registers, values
from meterd.drivers.blocks import Block
from meterd.drivers.map_file import DEFAULT_TEXTS
from meterd.drivers.registers import BRIDGE, RegisterMap, Row
from meterd.drivers.values import DECADES
from meterd.errors import Problem
from meterd.model import units
from meterd.model.quantity import INFO, describe

_WarningFactory = Callable[..., "MapWarning"]
Places = Mapping[str, tuple[int, int]]
"""Line and column of each row, by its quantity."""


# Reference number of register 0 in manuals, less 1, by function.
_REFERENCES = {3: 40000, 4: 30000}
# Sentinels of single registers.
_WORD_SENTINELS = {0xFFFF, 0x8000, 0x7FFF}


@dataclass(frozen=True, slots=True)
class MapWarning:
    """A part of a map that may be right, but often is a mistake. `code` is W and a number."""

    file: str
    line: int
    column: int
    code: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"; hint: {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: warning[{self.code}]: {self.what}{hint}"


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request of the plan. `when` is "poll", or "once" for static rows."""

    when: str
    function: int
    first: int
    last: int
    rows: tuple[str, ...]

    @property
    def registers(self) -> int:
        """Number of registers."""
        return self.last - self.first + 1


def problems(register_map: RegisterMap, file: str, places: Places) -> list[Problem]:
    """Rows that no request within the map's limits can fetch."""
    return [
        Problem(file, *places[row.quantity], "M006", f"{row.quantity} {why}", _unreadable_hint(row))
        for row, why in planner.unplannable(register_map)
    ]


def _unreadable_hint(row: Row) -> str:
    if row.terms:
        return "none of a row's registers may lie in a range that is unreadable; see limits"
    if row.scale_register is None:
        return "all registers of a row are read in one request; see limits"
    return "neither a row nor its scale may lie in a range that is unreadable; see limits"


def requests(register_map: RegisterMap) -> list[PlannedRequest]:
    """The requests of a poll with all rows, and those that are sent once."""
    return [
        PlannedRequest(
            when,
            block.function,
            block.address,
            block.address + block.words - 1,
            tuple(row.quantity for row in block.rows),
        )
        for when, block in _blocks(register_map)
    ]


def requests_with_bridge(register_map: RegisterMap) -> int:
    """Number of requests if they might span gaps of BRIDGE registers without a row."""
    return len(list(_blocks(replace(register_map, bridge=max(register_map.bridge, BRIDGE)))))


def map_warnings(register_map: RegisterMap, file: str, places: Places) -> list[MapWarning]:
    """Every warning, in the order of the file."""

    def warning(row: Row, code: str, what: str, hint: str = "") -> MapWarning:
        return MapWarning(file, *places[row.quantity], code, f"{row.quantity} {what}", hint)

    warnings = [
        *_overlaps(register_map, warning),
        *_implausible(register_map, warning),
        *_gaps(register_map, warning),
        *_references(register_map, warning),
        *_halves(register_map, warning),
        *_texts(register_map, warning),
        *_remote_registers(register_map, warning),
    ]
    for row, code, what, hint in map_omissions.map_warnings(register_map):
        warnings.append(
            warning(row, code, what, hint) if row else MapWarning(file, 1, 1, code, what, hint)
        )
    if register_map.serial is None and register_map.tcp is None:
        what = "no defaults for a serial line: each link's URL must give baud and parity"
        warnings.append(MapWarning(file, 1, 1, "W104", what, "defaults: {serial: 9600 8N1}"))
    if missing := [
        key for key, text in DEFAULT_TEXTS.items() if getattr(register_map, key) == text
    ]:
        what = f"nothing is said of {', '.join(missing)}: the next owner will want to know"
        warnings.append(MapWarning(file, 1, 1, "W106", what))
    if register_map.confidence == "low":
        what = "confidence is low: each start warns until values were compared with the meter"
        warnings.append(MapWarning(file, 1, 1, "W105", what))
    return sorted(warnings, key=lambda entry: (entry.line, entry.column, entry.code))


def _blocks(register_map: RegisterMap) -> Iterator[tuple[str, Block]]:
    polled = [row for row in register_map.rows if row.tier != "static"]
    once = [row for row in register_map.rows if row.tier == "static"]
    yield from (("poll", block) for block in planner.plan(register_map, polled))
    yield from (("poll", block) for block in remote_registers.requests(register_map))
    yield from (("once", block) for block in planner.plan(register_map, once))


def _overlaps(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Rows that share registers: rarely intended, except for bits of one word."""
    rows = [row for row in register_map.rows if row.bit is None and not row.alone]
    ordered = sorted(rows, key=lambda row: (row.function, row.address))
    for first, second in pairwise(ordered):
        if first.function == second.function and second.address < first.address + first.words:
            yield warning(second, "W101", f"shares register {second.address} with {first.quantity}")


def _implausible(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Rows whose type and scale allow no plausible value."""
    for row in register_map.rows:
        quantity = describe(row.quantity, row.unit)
        if row.quantity in INFO or quantity is None or row.scale_register is not None:
            continue
        grain = values.grain(row) or row.scale
        step = abs(grain) * (units.factor(row.unit, quantity.unit) or 1.0)
        largest = abs(row.scale) * (units.factor(row.unit, quantity.unit) or 1.0) * _largest(row)
        if not quantity.low <= largest or (row.type[0] in "us" and step > quantity.high):
            what = f"is never plausible: {step:g} to {largest:g} {quantity.unit} is what it can be"
            hint = (
                f"plausible is {quantity.low:g} to {quantity.high:g} {quantity.unit}: "
                "check scale and unit"
            )
            yield warning(row, "W102", what, hint)


def _references(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Addresses that look like the reference numbers of a manual, 40001 for register 0."""
    for function, first in _REFERENCES.items():
        rows = [row for row in register_map.rows if row.function == function]
        if rows and all(first < row.address < first + 10000 for row in rows):
            lowest = min(rows, key=lambda row: row.address)
            what = f"is sent as register {lowest.address}, as all of function {function} are"
            number = lowest.address - first - 1
            hint = f"if the manual counts its first register as {first + 1}, this one is {number}"
            yield warning(lowest, "W107", what, hint)


def _halves(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Sentinels of several registers that were written for a single word."""
    for row in register_map.rows:
        if row.words > 1 and row.type != "str" and row.na and set(row.na) <= _WORD_SENTINELS:
            whole = f"{row.na[0]:#06X}".replace("X", "x") + f"{row.na[0]:04X}" * (row.words - 1)
            what = f"has na {row.na[0]:#x}, which is a value like others in {row.words} registers"
            yield warning(row, "W108", what, f"all registers count as one number: {whole}")


def _texts(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Texts with unusual names."""
    for row in register_map.rows:
        if row.quantity.startswith("info.") and row.quantity not in INFO:
            near = difflib.get_close_matches(row.quantity, INFO, n=1)
            hint = f"did you mean {near[0]}?" if near else f"usual are {', '.join(INFO)}"
            yield warning(row, "W109", "is a text that no other meter has", hint)


def _remote_registers(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Remote registers: often a wrong address, and each costs a request."""
    scaled = [row for row in register_map.rows if row.apart and not row.terms]
    if scaled:
        what = f"lies far from its scale, @{scaled[0].scale_register}, which is read by itself"
        hint = (
            "that is one request more a poll; where nobody changes the meter's scale, "
            "read it with `meterd probe` and write it as a number, scale: 0.1"
        )
        yield warning(scaled[0], "W110", what, hint)
    for row in register_map.rows:
        if row.apart and row.terms:
            yield warning(row, "W110", *_remote_terms(row))


def _remote_terms(row: Row) -> tuple[str, str]:
    registers = ", ".join(str(register) for _, register in sorted(row.remote_places()))
    what = (
        f"is read at {row.address} and, in requests of their own before and behind it, "
        f"at {registers}"
    )
    if any(function != row.function for function, _ in row.remote_places()):
        return what, "registers of two functions are never read in one request"
    ordered = sorted(register for _, register in row.places())
    gap = max(b - a - 1 for a, b in pairwise(ordered))
    return what, f"limits: {{bridge: {gap}}} makes it one request, if the meter answers to that"


def _largest(row: Row) -> float:
    if row.terms or row.type in DECADES:
        return float("inf")
    if row.type[0] == "u":
        return float(2 ** (16 * row.words) - 1)
    if row.type[0] == "s" and row.type != "str":
        return float(2 ** (16 * row.words - 1) - 1)
    return float("inf")


def _gaps(register_map: RegisterMap, warning: _WarningFactory) -> Iterator[MapWarning]:
    """Registers without a row that the plan's requests span."""
    for _, block in _blocks(register_map):
        named = {register for row in block.rows for register in range(row.first, row.last + 1)}
        ordered = sorted(named)
        gaps = [(a + 1, b - 1) for a, b in pairwise(ordered) if b - a > 1]
        if gaps:
            ranges = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in gaps)
            what = f"begins a read of function {block.function} over registers of no row: {ranges}"
            hint = "limits: {bridge: 0} where the meter refuses that"
            # Remote registers have no row of their own: name the first row that needs them.
            rows = remote_registers.owners(register_map, block) or block.rows
            first = min(rows, key=lambda row: row.first)
            what = what if first in block.rows else f"needs what is apart from it, and {what}"
            yield warning(first, "W103", what, hint)
