"""Identification of a Modbus unit: scores register maps by its names and by plausible values.

round 1   one significant row of every map         (frequency, else a voltage)
round 2   more rows of the maps without absurd values
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
"""function, address, count -> registers, or None for an exception; TimeoutError for no reply."""

# Requests without reply after which no more are sent: each costs a timeout.
TIMEOUTS_MAX = 8
# Guesses returned at most.
GUESSES_MAX = 5

SUNSPEC = "sunspec"
_SUNSPEC_BASES = (40000, 50000, 0)
_SUNSPEC_MARKER = b"SunS"
# Common model (1): offset of the maker from the marker, and words of maker (16) and model (16).
_COMMON = (4, 32)

# Plausible magnitudes in canonical units of an installation on the public grid.
_PLAUSIBLE_RANGES = (
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
_FIRST_QUANTITIES = (
    "frequency",
    "voltage.l1",
    "voltage",
    "voltage.avg",
    "voltage.l12",
    "voltage.dc",
    "input.voltage",
)
_FURTHER_QUANTITIES = (
    *_FIRST_QUANTITIES,
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
# Weights of rows in the score, 1 for others: power and energy look right at many wrong registers.
_WEIGHT = {"frequency": 3.0, "voltage": 2.0}
_VERDICT_SCORES: dict[Verdict, float] = {
    "right": 1.0,
    "empty": -0.25,
    "refused": -0.75,
    "absurd": -2.0,
    "named": 10.0,
    "unnamed": -1.0,
}
# Parts of the best score from which another guess is likely, or possible.
_LIKELY, _POSSIBLE = 0.85, 0.5
_LIKELY_SCORE_MIN = 6.0
_SCORE_MIN = 2.0


@dataclass(frozen=True, slots=True)
class Guess:
    """A map that a unit may have, its likelihood, and the values that support it."""

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
    """Cache of a unit's registers: each request is sent once; `silent` counts missing replies."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._cache: dict[Request, bytes | None] = {}
        self.silent = 0

    @property
    def sent(self) -> int:
        return len(self._cache)

    async def get(self, request: Request) -> bytes | None:
        """The registers; None where they were refused, or there was no reply."""
        if request in self._cache:
            return self._cache[request]
        if self.silent >= TIMEOUTS_MAX:
            return None
        try:
            self._cache[request] = await self._read(*request)
        except TimeoutError:
            self.silent += 1
            self._cache[request] = None
        return self._cache[request]


async def identify(registers: Registers, maps: Iterable[RegisterMap]) -> list[Guess]:
    """The maps that fit the unit's replies, best first; at most GUESSES_MAX."""
    sunspec = await _sunspec(registers)
    candidates = [_Candidate(register_map) for register_map in maps]
    for candidate in candidates:
        for row in _first_rows(candidate.map):
            await _judge(registers, candidate, row)
    remaining = [
        candidate
        for candidate in candidates
        if not candidate.absurd and (candidate.right or candidate.named)
    ]
    for candidate in remaining:
        for row in _further_rows(candidate.map):
            await _judge(registers, candidate, row)
    return ([sunspec] if sunspec else []) + _ranked(remaining)


def probe_requests(register_map: RegisterMap) -> list[Request]:
    """Requests that a unit with this map answers, to find units with."""
    return [_request(register_map, row) for row in _first_rows(register_map)][:1]


def _first_rows(register_map: RegisterMap) -> Iterator[Row]:
    """The most significant row, and the rows with the unit's names."""
    rows = _by_quantity(register_map)
    named = (rows[name] for name in _FIRST_QUANTITIES if name in rows)
    fallback = (row for row in rows.values() if _range(row.quantity))
    if (row := next(named, None) or next(fallback, None)) is not None:
        yield row
    yield from (rows[name] for name in _NAMES if name in rows and rows[name].type == "str")


def _further_rows(register_map: RegisterMap) -> Iterator[Row]:
    first = {row.quantity for row in _first_rows(register_map)}
    rows = _by_quantity(register_map)
    yield from (rows[name] for name in _FURTHER_QUANTITIES if name in rows and name not in first)


def _by_quantity(register_map: RegisterMap) -> dict[str, Row]:
    """Rows by quantity, without those that need remote registers."""
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
    candidate.score += _VERDICT_SCORES[verdict] * (1.0 if names else _WEIGHT.get(family, 1.0))
    if verdict == "absurd" and family in _WEIGHT:
        candidate.absurd = True
    if verdict in ("right", "named") and reading is not None:
        candidate.right.add(row.quantity)
        candidate.because.append(f"{row.quantity} {_reading_text(reading)}")
    candidate.named = candidate.named or verdict == "named"


def _reading_text(reading: Reading) -> str:
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
    """Whether the map's maker or model is in the text; the maker alone is no match."""
    if not isinstance(reading.value, str):
        return "empty"
    text = _normalised(reading.value)
    words = re.split(r"[\s,;/()]+", register_map.model)
    if reading.quantity == "info.manufacturer":
        return "empty" if _normalised(register_map.maker.split()[0]) in text else "unnamed"
    models = [model for word in words if len(model := _normalised(word)) > 2]
    return "named" if any(model in text or text in model for model in models) else "unnamed"


def _normalised(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _canonical(row: Row, reading: Reading) -> float | None:
    """The value in its canonical unit; None where there is none."""
    quantity = describe(row.quantity, row.unit)
    factor = units.factor(row.unit, quantity.unit) if quantity else None
    if factor is None or not isinstance(reading.value, int | float):
        return None
    return reading.value * factor


def _range(quantity: str) -> tuple[float, float] | None:
    """The plausible range of a quantity and its phases; None if it is not listed."""
    for name, low, high in _PLAUSIBLE_RANGES:
        if quantity == name or quantity.startswith(f"{name}."):
            return low, high
    return None


def _ranked(candidates: list[_Candidate]) -> list[Guess]:
    ranked = sorted(candidates, key=_rank)
    best = ranked[0].score if ranked else 0.0
    guesses = []
    for candidate in ranked[:GUESSES_MAX]:
        if candidate.absurd or candidate.score < max(_SCORE_MIN, _POSSIBLE * best):
            continue
        certain = candidate.named or (
            "frequency" in candidate.right and candidate.score >= _LIKELY_SCORE_MIN
        )
        word: Literal["likely", "possible"] = "possible"
        if certain and candidate.score >= _LIKELY * best:
            word = "likely"
        guesses.append(
            Guess(candidate.map.name, word, round(candidate.score, 2), tuple(candidate.because))
        )
    return guesses


def _rank(candidate: _Candidate) -> tuple[float, int]:
    """Sort key: best score first, then the map's confidence."""
    return -candidate.score, _CONFIDENCES.index(candidate.map.confidence)


async def _sunspec(registers: Registers) -> Guess | None:
    """The guess of a SunSpec device, whose marker is at one of three registers."""
    for base in _SUNSPEC_BASES:
        if await registers.get((3, base, 2)) != _SUNSPEC_MARKER:
            continue
        names = await registers.get((3, base + _COMMON[0], _COMMON[1])) or b""
        texts = [_text(names[:32]), _text(names[32:])]
        because = (f"SunS at {base}", *(text for text in texts if text))
        return Guess(SUNSPEC, "likely", _VERDICT_SCORES["named"], because)
    return None


def _text(raw: bytes) -> str:
    text = raw.replace(b"\0", b"").strip().decode("latin-1")
    return text if text.isprintable() else ""
