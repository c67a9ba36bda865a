"""What to say of a map that parses: rows that cannot be read, what is doubtful, and its plan."""

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

_Doubter = Callable[..., "MapWarning"]
Places = Mapping[str, tuple[int, int]]
"""Line and column of each row, by its quantity."""


# What manuals print for register 0 is one more than this, by function.
_REFERENCES = {3: 40000, 4: 30000}
# What single registers hold that mean "not available".
_HALVES = {0xFFFF, 0x8000, 0x7FFF}


@dataclass(frozen=True, slots=True)
class MapWarning:
    """Something that may be right, and often is not. `code` is W and a number."""

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
    """One read of the plan. `when` is poll, or once for texts."""

    when: str
    function: int
    first: int
    last: int
    rows: tuple[str, ...]

    @property
    def registers(self) -> int:
        """How many it asks for."""
        return self.last - self.first + 1


def problems(found: RegisterMap, file: str, places: Places) -> list[Problem]:
    """Rows that no request within the map's limits can fetch."""
    return [
        Problem(file, *places[row.quantity], "M006", f"{row.quantity} {why}", _way_out(row))
        for row, why in planner.unplannable(found)
    ]


def _way_out(row: Row) -> str:
    if row.terms:
        return "none of a row's registers may lie in a range that is unreadable; see limits"
    if row.scale_register is None:
        return "all registers of a row are read in one request; see limits"
    return "neither a row nor its scale may lie in a range that is unreadable; see limits"


def requests(found: RegisterMap) -> list[PlannedRequest]:
    """The reads of a poll that has all rows, and those that are made once."""
    return [
        PlannedRequest(
            when,
            block.function,
            block.address,
            block.address + block.words - 1,
            tuple(row.quantity for row in block.rows),
        )
        for when, block in _blocks(found)
    ]


def fewer(found: RegisterMap) -> int:
    """How many reads there would be if they might run over registers of no row."""
    return len(list(_blocks(replace(found, bridge=max(found.bridge, BRIDGE)))))


def doubts(found: RegisterMap, file: str, places: Places) -> list[MapWarning]:
    """Every warning, in the order of the file."""

    def doubt(row: Row, code: str, what: str, hint: str = "") -> MapWarning:
        return MapWarning(file, *places[row.quantity], code, f"{row.quantity} {what}", hint)

    told = [
        *_overlaps(found, doubt),
        *_implausible(found, doubt),
        *_holes(found, doubt),
        *_references(found, doubt),
        *_halves(found, doubt),
        *_texts(found, doubt),
        *_far_registers(found, doubt),
    ]
    for row, code, what, hint in map_omissions.map_warnings(found):
        told.append(
            doubt(row, code, what, hint) if row else MapWarning(file, 1, 1, code, what, hint)
        )
    if found.serial is None and found.tcp is None:
        what = "no defaults for a serial line: each link's URL must give baud and parity"
        told.append(MapWarning(file, 1, 1, "W104", what, "defaults: {serial: 9600 8N1}"))
    if missing := [key for key, text in DEFAULT_TEXTS.items() if getattr(found, key) == text]:
        what = f"nothing is said of {', '.join(missing)}: the next owner will want to know"
        told.append(MapWarning(file, 1, 1, "W106", what))
    if found.confidence == "low":
        what = "confidence is low: each start warns until values were compared with the meter"
        told.append(MapWarning(file, 1, 1, "W105", what))
    return sorted(told, key=lambda one: (one.line, one.column, one.code))


def _blocks(found: RegisterMap) -> Iterator[tuple[str, Block]]:
    polled = [row for row in found.rows if row.tier != "static"]
    once = [row for row in found.rows if row.tier == "static"]
    yield from (("poll", block) for block in planner.plan(found, polled))
    yield from (("poll", block) for block in remote_registers.requests(found))
    yield from (("once", block) for block in planner.plan(found, once))


def _overlaps(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Rows that share registers: seldom meant, but for the bits of one word."""
    plain = [row for row in found.rows if row.bit is None and not row.alone]
    ordered = sorted(plain, key=lambda row: (row.function, row.address))
    for one, other in pairwise(ordered):
        if one.function == other.function and other.address < one.address + one.words:
            yield doubt(other, "W101", f"shares register {other.address} with {one.quantity}")


def _implausible(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Rows whose type and scale cannot hold what a real installation has."""
    for row in found.rows:
        known = describe(row.quantity, row.unit)
        if row.quantity in INFO or known is None or row.scale_register is not None:
            continue
        grain = values.grain(row) or row.scale
        step = abs(grain) * (units.factor(row.unit, known.unit) or 1.0)
        largest = abs(row.scale) * (units.factor(row.unit, known.unit) or 1.0) * _largest(row)
        if not known.low <= largest or (row.type[0] in "us" and step > known.high):
            what = f"is never plausible: {step:g} to {largest:g} {known.unit} is what it can be"
            hint = (
                f"plausible is {known.low:g} to {known.high:g} {known.unit}: check scale and unit"
            )
            yield doubt(row, "W102", what, hint)


def _references(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Addresses that look like the reference numbers of a manual, 40001 for register 0."""
    for function, first in _REFERENCES.items():
        rows = [row for row in found.rows if row.function == function]
        if rows and all(first < row.address < first + 10000 for row in rows):
            lowest = min(rows, key=lambda row: row.address)
            what = f"is sent as register {lowest.address}, as all of function {function} are"
            number = lowest.address - first - 1
            hint = f"if the manual counts its first register as {first + 1}, this one is {number}"
            yield doubt(lowest, "W107", what, hint)


def _halves(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Raw values for "not available" that were written word by word."""
    for row in found.rows:
        if row.words > 1 and row.type != "str" and row.na and set(row.na) <= _HALVES:
            whole = f"{row.na[0]:#06X}".replace("X", "x") + f"{row.na[0]:04X}" * (row.words - 1)
            what = f"has na {row.na[0]:#x}, which is a value like others in {row.words} registers"
            yield doubt(row, "W108", what, f"all registers count as one number: {whole}")


def _texts(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Texts by names that nothing else has."""
    for row in found.rows:
        if row.quantity.startswith("info.") and row.quantity not in INFO:
            near = difflib.get_close_matches(row.quantity, INFO, n=1)
            hint = f"did you mean {near[0]}?" if near else f"usual are {', '.join(INFO)}"
            yield doubt(row, "W109", "is a text that no other meter has", hint)


def _far_registers(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Registers in requests of their own: often a wrong address, and not for nothing."""
    scaled = [row for row in found.rows if row.apart and not row.terms]
    if scaled:
        what = f"lies far from its scale, @{scaled[0].scale_register}, which is read by itself"
        hint = (
            "that is one request more a poll; where nobody changes the meter's scale, "
            "read it with `meterd probe` and write it as a number, scale: 0.1"
        )
        yield doubt(scaled[0], "W110", what, hint)
    for row in found.rows:
        if row.apart and row.terms:
            yield doubt(row, "W110", *_of_far_terms(row))


def _of_far_terms(row: Row) -> tuple[str, str]:
    far = ", ".join(str(register) for _, register in sorted(row.far_places()))
    what = f"is read at {row.address} and, in requests of their own before and behind it, at {far}"
    if any(function != row.function for function, _ in row.far_places()):
        return what, "registers of two functions are never read in one request"
    ordered = sorted(register for _, register in row.places())
    hole = max(b - a - 1 for a, b in pairwise(ordered))
    return what, f"limits: {{bridge: {hole}}} makes it one request, if the meter answers to that"


def _largest(row: Row) -> float:
    if row.terms or row.type in DECADES:
        return float("inf")
    if row.type[0] == "u":
        return float(2 ** (16 * row.words) - 1)
    if row.type[0] == "s" and row.type != "str":
        return float(2 ** (16 * row.words - 1) - 1)
    return float("inf")


def _holes(found: RegisterMap, doubt: _Doubter) -> Iterator[MapWarning]:
    """Registers that no row names and that the plan reads all the same."""
    for _, block in _blocks(found):
        named = {register for row in block.rows for register in range(row.first, row.last + 1)}
        ordered = sorted(named)
        holes = [(a + 1, b - 1) for a, b in pairwise(ordered) if b - a > 1]
        if holes:
            told = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in holes)
            what = f"begins a read of function {block.function} over registers of no row: {told}"
            hint = "limits: {bridge: 0} where the meter refuses that"
            # What is read apart has no row by itself: the first one that needs it is named.
            rows = remote_registers.owners(found, block) or block.rows
            first = min(rows, key=lambda row: row.first)
            what = what if first in block.rows else f"needs what is apart from it, and {what}"
            yield doubt(first, "W103", what, hint)
