"""Which register map a Modbus unit has: by what it says of itself, and by what values would mean.

round 1   the one telling row of every map        (frequency, else a voltage)
round 2   more rows of the maps that were not absurd
verdict   right, empty (0 or not available), refused, absurd
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from meterd.drivers.address_constraints import AddressConstraints
from meterd.drivers.planner import block
from meterd.drivers.registers import RegisterMap, Row
from meterd.model import units
from meterd.model.quantity import describe
from meterd.model.sample import Reading

Request = tuple[int, int, int]
Read = Callable[[int, int, int], Awaitable[bytes | None]]
"""function, address, count -> registers, or None for a refusal; raises TimeoutError at silence."""

# A unit that stays silent instead of refusing costs a timeout a request: then that is it.
SILENCES = 8
# So many guesses are shown.
MOST = 5

SUNSPEC = "sunspec"
_SUNSPEC_PLACES = (40000, 50000, 0)
_SUNSPEC_MARK = b"SunS"
# The common model: 4 words on from the mark, 16 words of maker and 16 of model.
_COMMON = (4, 32)

# Magnitudes in the catalogue's units that an installation on the public grid has.
_RANGES = (
    ("frequency", 45, 65),
    ("voltage.l12", 130, 520),
    ("voltage.l23", 130, 520),
    ("voltage.l31", 130, 520),
    ("voltage.n", 1e-4, 300),
    ("voltage.dc", 5, 1500),
    ("voltage", 80, 300),
    ("power_factor", 1e-3, 1.001),
    ("current", 1e-4, 1e4),
    ("active_power", 1e-3, 1e8),
    ("reactive_power", 1e-3, 1e8),
    ("apparent_power", 1e-3, 1e8),
    ("active_energy", 1e-3, 1e12),
    ("temperature", 1, 120),
    ("input.voltage", 80, 300),
    ("output.voltage", 80, 300),
    ("input.frequency", 45, 65),
    ("output.frequency", 45, 65),
    ("battery.charge", 1, 100),
)
_TELLING = (
    "frequency",
    "voltage.l1",
    "voltage",
    "voltage.avg",
    "voltage.l12",
    "voltage.dc",
    "input.voltage",
)
_ASKED = (
    *_TELLING,
    "voltage.l2",
    "voltage.l3",
    "current.l1",
    "current",
    "active_power",
    "active_power.l1",
    "apparent_power",
    "power_factor",
    "power_factor.l1",
    "active_energy.import",
    "active_energy.total",
    "temperature",
    "output.voltage",
    "input.frequency",
    "battery.charge",
)
_CONFIDENCES = ("high", "medium", "low")
_NAMES = ("info.manufacturer", "info.model", "info.name")

Verdict = Literal["right", "empty", "refused", "absurd", "named", "unnamed"]
# What a row counts for. Energy and power look right in many wrong places.
_WEIGHT = {"frequency": 3.0, "voltage": 2.0}
_PART: dict[Verdict, float] = {
    "right": 1.0,
    "empty": -0.25,
    "refused": -0.75,
    "absurd": -2.0,
    "named": 10.0,
    "unnamed": -1.0,
}
# Of the best guess' score: from here on another one is likely too, or at least possible.
_LIKELY, _POSSIBLE = 0.85, 0.5
_ENOUGH = 6.0
_LEAST = 2.0


@dataclass(frozen=True, slots=True)
class Guess:
    """A map that a unit may have, in words, with the values that speak for it."""

    map: str
    word: Literal["likely", "possible"]
    score: float
    because: tuple[str, ...]


@dataclass(slots=True)
class _Candidate:
    map: RegisterMap
    score: float = 0.0
    right: set[str] = field(default_factory=set)
    because: list[str] = field(default_factory=list)
    named: bool = False
    absurd: bool = False


class Registers:
    """What a unit's registers hold, each request sent once; `silent` counts unanswered ones."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[Request, bytes | None] = {}
        self.silent = 0

    @property
    def sent(self) -> int:
        return len(self._known)

    async def get(self, request: Request) -> bytes | None:
        """The registers; None where they were refused, or the unit stays silent."""
        if request in self._known:
            return self._known[request]
        if self.silent >= SILENCES:
            return None
        try:
            self._known[request] = await self._read(*request)
        except TimeoutError:
            self.silent += 1
            self._known[request] = None
        return self._known[request]


async def identify(registers: Registers, maps: Iterable[RegisterMap]) -> list[Guess]:
    """The maps that fit what the unit answers, best first; at most MOST."""
    found = await _sunspec(registers)
    candidates = [_Candidate(register_map) for register_map in maps]
    for candidate in candidates:
        for row in _first(candidate.map):
            await _judge(registers, candidate, row)
    remaining = [one for one in candidates if not one.absurd and (one.right or one.named)]
    for candidate in remaining:
        for row in _more(candidate.map):
            await _judge(registers, candidate, row)
    return ([found] if found else []) + _ranked(remaining)


def telling(register_map: RegisterMap) -> list[Request]:
    """The requests that a unit with this map answers, for finding units at all."""
    return [_request(register_map, row) for row in _first(register_map)][:1]


def _first(register_map: RegisterMap) -> Iterator[Row]:
    """The row that tells most, and the names that the unit gives itself."""
    rows = _by_quantity(register_map)
    named = (rows[name] for name in _TELLING if name in rows)
    fallback = (row for row in rows.values() if _range(row.quantity))
    if (row := next(named, None) or next(fallback, None)) is not None:
        yield row
    yield from (rows[name] for name in _NAMES if name in rows and rows[name].type == "str")


def _more(register_map: RegisterMap) -> Iterator[Row]:
    first = {row.quantity for row in _first(register_map)}
    rows = _by_quantity(register_map)
    yield from (rows[name] for name in _ASKED if name in rows and name not in first)


def _by_quantity(register_map: RegisterMap) -> dict[str, Row]:
    """Rows that tell something by themselves: not those whose scale is elsewhere."""
    return {row.quantity: row for row in register_map.rows if not row.apart}


def _request(register_map: RegisterMap, row: Row) -> Request:
    part = block(AddressConstraints(register_map), [row])
    return part.function, part.address, part.words


async def _judge(registers: Registers, candidate: _Candidate, row: Row) -> None:
    data = await registers.get(_request(candidate.map, row))
    reading = (
        None if data is None else block(AddressConstraints(candidate.map), [row]).decode(data)[0]
    )
    verdict = _verdict(candidate.map, row, reading)
    family = row.quantity.split(".")[0]
    names = verdict in ("named", "unnamed")
    candidate.score += _PART[verdict] * (1.0 if names else _WEIGHT.get(family, 1.0))
    if verdict == "absurd" and family in _WEIGHT:
        candidate.absurd = True
    if verdict in ("right", "named") and reading is not None:
        candidate.right.add(row.quantity)
        candidate.because.append(f"{row.quantity} {_shown(reading)}")
    candidate.named = candidate.named or verdict == "named"


def _shown(reading: Reading) -> str:
    unit = "" if reading.unit == "1" else f" {reading.unit}"
    value = reading.value
    return f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}"


def _verdict(register_map: RegisterMap, row: Row, reading: Reading | None) -> Verdict:
    if reading is None:
        return "empty" if row.optional else "refused"
    if row.quantity.startswith("info."):
        return _name_verdict(register_map, reading)
    value = _canonical(row, reading)
    limits = _range(row.quantity)
    if value is None or value == 0 or limits is None:
        return "empty"
    return "right" if limits[0] <= abs(value) <= limits[1] else "absurd"


def _name_verdict(register_map: RegisterMap, reading: Reading) -> Verdict:
    """Whether maker or model of the map is in the text; the maker alone names no model."""
    if not isinstance(reading.value, str):
        return "empty"
    said = _plain(reading.value)
    words = re.split(r"[\s,;/()]+", register_map.model)
    if reading.quantity == "info.manufacturer":
        return "empty" if _plain(register_map.maker.split()[0]) in said else "unnamed"
    models = [plain for word in words if len(plain := _plain(word)) > 2]
    return "named" if any(model in said or said in model for model in models) else "unnamed"


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _canonical(row: Row, reading: Reading) -> float | None:
    """The value in the catalogue's unit; None where there is none."""
    quantity = describe(row.quantity, row.unit)
    factor = units.factor(row.unit, quantity.unit) if quantity else None
    if factor is None or not isinstance(reading.value, int | float):
        return None
    return reading.value * factor


def _range(quantity: str) -> tuple[float, float] | None:
    """By the longest beginning that is listed; demands and distortions are not."""
    for name, low, high in _RANGES:
        if quantity == name or quantity.startswith(f"{name}."):
            return low, high
    return None


def _ranked(candidates: list[_Candidate]) -> list[Guess]:
    ranked = sorted(candidates, key=_rank)
    best = ranked[0].score if ranked else 0.0
    guesses = []
    for one in ranked[:MOST]:
        if one.absurd or one.score < max(_LEAST, _POSSIBLE * best):
            continue
        sure = one.named or ("frequency" in one.right and one.score >= _ENOUGH)
        word: Literal["likely", "possible"] = "possible"
        if sure and one.score >= _LIKELY * best:
            word = "likely"
        guesses.append(Guess(one.map.name, word, round(one.score, 2), tuple(one.because)))
    return guesses


def _rank(candidate: _Candidate) -> tuple[float, int]:
    """The best first; of two that fit alike, the one whose document was better."""
    return -candidate.score, _CONFIDENCES.index(candidate.map.confidence)


async def _sunspec(registers: Registers) -> Guess | None:
    """SunSpec devices say so at one of three places."""
    for place in _SUNSPEC_PLACES:
        if await registers.get((3, place, 2)) != _SUNSPEC_MARK:
            continue
        names = await registers.get((3, place + _COMMON[0], _COMMON[1])) or b""
        texts = [_text(names[:32]), _text(names[32:])]
        because = (f"SunS at {place}", *(text for text in texts if text))
        return Guess(SUNSPEC, "likely", _PART["named"], because)
    return None


def _text(raw: bytes) -> str:
    text = raw.replace(b"\0", b"").strip().decode("latin-1")
    return text if text.isprintable() else ""
