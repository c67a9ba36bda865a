"""History from other systems: rows of a CSV file, checked one by one, become late polls.

time,device,quantity,unit,value,quality        one sample a row; unit and quality may lack
time,main/voltage.l1,main/active_power [kW]    or one row a time
"""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO

from meterd.errors import GeneralCode, MeterdError
from meterd.model.files import open_regular
from meterd.model.quantity import GUARDED, Kind, describe, suggest
from meterd.model.sample import LARGEST, Quality, finite
from meterd.model.text import from_spreadsheets, has_controls
from meterd.model.units import base_of, conversion

MOST_MISTAKES = 20
_LINE_LIMIT = 1 << 20  # characters: thousands of columns
_SHOWN = 40  # characters of a value in a message
_DAY = 86_400_000
_LONG = ("time", "device", "quantity", "value")
_ALSO = ("unit", "quality", "reason")
_DEVICE = re.compile(r"[a-z0-9][a-z0-9_-]*")
_WIDE = re.compile(r"(?P<device>[^/\[\]]+)/(?P<quantity>[^/\[\]\s]+)(?:\s*\[(?P<unit>[^\]]*)\])?")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
_UNIX = re.compile(r"\d{1,10}(\.\d{1,9})?|\d{12,14}", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class MistakesError(MeterdError):
    """The file has mistakes, which the text names by their lines; nothing was written."""


class ImportedSample(NamedTuple):
    """One sample in the house's unit: Unix ms; `value` None is a null."""

    time: int
    device: str
    quantity: str
    unit: str
    value: float | None
    quality: Quality
    reason: str


@dataclass(frozen=True, slots=True)
class _Target:
    """The series of a column or row; a value of the file times `times` plus `plus` is the stored
    one.
    """

    device: str
    quantity: str
    unit: str
    times: Decimal
    plus: Decimal


@dataclass(slots=True)
class Imported:
    """What came along; times are Unix ms of the oldest and newest row.

    `days`: device and UTC day (since 1970) of each row. `counters`: the times of the first and
    the last row of each counter of energy or of the user's own, by device and quantity; `totals`
    the same of guarded totals, as an export of meterd's has them, by their counter's quantity.
    """

    samples: int = 0
    first: int | None = None
    last: int | None = None
    days: set[tuple[str, int]] = field(default_factory=set)
    counters: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    totals: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    @property
    def devices(self) -> set[str]:
        return {device for device, _ in self.days}

    def call(self, former: Mapping[str, str]) -> None:
        """Devices by the names that they have now; `former`: names they had -> the names now."""
        self.days = {(former.get(device, device), day) for device, day in self.days}
        counters, self.counters = self.counters, {}
        for (device, quantity), (start, end) in counters.items():
            key = former.get(device, device), quantity
            first, last = self.counters.get(key, (start, end))
            self.counters[key] = min(first, start), max(last, end)

    def note(self, row: ImportedSample) -> None:
        self.samples += 1
        self.first = row.time if self.first is None else min(self.first, row.time)
        self.last = row.time if self.last is None else max(self.last, row.time)
        self.days.add((row.device, row.time // _DAY))
        if _counts(row.quantity, row.unit):
            chunks = self.totals if row.quantity.startswith(GUARDED) else self.counters
            key = row.device, row.quantity.removeprefix(GUARDED)
            first, last = chunks.get(key, (row.time, row.time))
            chunks[key] = min(first, row.time), max(last, row.time)

    def changed(self, device: str) -> dict[tuple[int, int], list[str]]:
        """The counters of a device by the times of the first and last row to be counted anew.

        Where the file has their guarded totals, these are as good as those of live polls: only
        where they end has to be known.
        """
        quantities: dict[tuple[int, int], list[str]] = {}
        for (name, quantity), (first, last) in self.counters.items():
            if name == device:
                begun, ended = self.totals.get((name, quantity), (last + 1, 0))
                since = last if begun <= first and last <= ended else first
                quantities.setdefault((since, last), []).append(quantity)
        return quantities


def _short(file: TextIO) -> Iterator[str]:
    """Its lines. Raises csv.Error for one that no CSV of samples has."""
    while line := file.readline(_LINE_LIMIT + 1):
        if len(line) > _LINE_LIMIT:
            raise csv.Error(f"a line is longer than {_LINE_LIMIT} characters")
        if "\0" in line:
            raise csv.Error("it holds a NUL: is this a text file?")
        yield line


class CsvFile:
    """A CSV file, which may be read more than once. `zone`: that of times without an offset."""

    def __init__(self, path: Path, zone: tzinfo | None, now: int) -> None:
        self.path = path
        self._zone = zone
        self._latest = now + _DAY

    def check(self) -> Imported:
        """Reads all of it. Raises MistakesError with the first mistakes, by line."""
        imported, mistakes = Imported(), list[str]()
        for line, parsed in self._read():
            if isinstance(parsed, str):
                mistakes.append(f"{self.path}:{line}: {parsed}")
                if len(mistakes) == MOST_MISTAKES:
                    mistakes.append(f"{self.path}: and perhaps more")
                    break
                continue
            for row in parsed:
                imported.note(row)
        if mistakes:
            raise MistakesError("\n".join(mistakes), code=GeneralCode.IMPORT)
        return imported

    def rows(self) -> Iterator[ImportedSample]:
        """Of a file that `check` found right."""
        return (row for _, row in self.numbered())

    def numbered(self) -> Iterator[tuple[int, ImportedSample]]:
        """The same with their lines."""
        for line, parsed in self._read():
            if isinstance(parsed, str):
                text = f"{self.path}:{line}: {parsed}; the file has changed meanwhile"
                raise MistakesError(text, code=GeneralCode.IMPORT)
            for row in parsed:
                yield line, row

    def _read(self) -> Iterator[tuple[int, list[ImportedSample] | str]]:
        """(line, samples or the text of a mistake) for each row."""
        try:
            # It is read twice, so a pipe will not do.
            with os.fdopen(open_regular(self.path), encoding="utf-8-sig", newline="") as file:
                yield from self._lines(_short(file))
        except OSError as error:
            raise MistakesError(
                f"{self.path}: {error.strerror}", code=GeneralCode.IMPORT
            ) from error
        except UnicodeDecodeError as error:
            text = f"{self.path} is no UTF-8: save it as such (byte {error.start})"
            raise MistakesError(text, code=GeneralCode.IMPORT) from error
        except csv.Error as error:
            raise MistakesError(
                f"{self.path} is no CSV: {error}", code=GeneralCode.IMPORT
            ) from error

    def _lines(self, file: Iterable[str]) -> Iterator[tuple[int, list[ImportedSample] | str]]:
        each = iter(file)
        head = next(each, "")
        mark = max(",;\t", key=head.count)
        names = [name.strip() for name in next(csv.reader([head], delimiter=mark), [])]
        try:
            parse = self._parser(names)
        except ValueError as error:
            yield 1, str(error)
            return
        reader = csv.reader(each, delimiter=mark)
        for cells in reader:
            line = reader.line_num + 1
            if not any(cells):
                continue
            try:
                if len(cells) != len(names):
                    raise ValueError(f"{len(cells)} columns where the header has {len(names)}")
                yield line, parse(cells)
            except ValueError as error:
                yield line, str(error)

    def _parser(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[ImportedSample]]:
        lower = [name.lower() for name in names]
        if len(set(lower)) != len(lower):
            raise ValueError("two columns have the same name")
        if all(name in lower for name in _LONG):
            if odd := [name for name in lower if name not in (*_LONG, *_ALSO)]:
                raise ValueError(f"column {odd[0]!r} is not known; known are {_column_names()}")
            return lambda cells: self._long(dict(zip(lower, cells, strict=True)))
        if "time" not in lower or any("/" not in name for name in lower if name != "time"):
            raise ValueError(
                f"the first line has to name the columns: {', '.join(_LONG)} (and unit, quality, "
                "reason), or time and one DEVICE/QUANTITY [UNIT] for each column of values"
            )
        place = lower.index("time")
        targets = [None if i == place else _wide(name) for i, name in enumerate(names)]
        return lambda cells: self._wide_row(cells, place, targets)

    def _long(self, cells: dict[str, str]) -> list[ImportedSample]:
        target = _target(
            cells["device"].strip(), cells["quantity"].strip(), cells.get("unit", "").strip()
        )
        value = _value(cells["value"], target)
        reason = from_spreadsheets(cells.get("reason", "").strip())
        if has_controls(reason):
            raise ValueError(f"reason {reason!a} holds control characters: take them out")
        return [
            ImportedSample(
                self._time(cells["time"].strip()),
                target.device,
                target.quantity,
                target.unit,
                value,
                _quality(cells.get("quality", ""), value),
                reason or ("" if value is not None else "imported empty"),
            )
        ]

    def _wide_row(
        self, cells: Sequence[str], place: int, targets: Sequence[_Target | None]
    ) -> list[ImportedSample]:
        """An empty cell is no sample."""
        time = self._time(cells[place].strip())
        return [
            ImportedSample(
                time,
                target.device,
                target.quantity,
                target.unit,
                _value(cell, target),
                Quality.GOOD,
                "",
            )
            for cell, target in zip(cells, targets, strict=True)
            if target is not None and cell.strip()
        ]

    def _time(self, text: str) -> int:
        ms = _unix(text) if _UNIX.fullmatch(text) else self._moment(text)
        if not 0 <= ms <= self._latest:
            raise ValueError(f"time {text!r} lies before 1970 or in the future")
        return ms

    def _moment(self, text: str) -> int:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            hint = "write 2026-11-21T10:00:00Z, Unix seconds or Unix ms"
            raise ValueError(f"time {text!r} is none; {hint}") from error
        if moment.tzinfo is None:
            moment = self._local(text, moment)
        return round((moment - _EPOCH) / _MS)

    def _local(self, text: str, naive: datetime) -> datetime:
        if self._zone is None:
            hint = "write Z or +01:00 behind it, or give --zone Europe/Berlin"
            raise ValueError(f"time {text!r} does not say its zone; {hint}")
        local = naive.replace(tzinfo=self._zone)
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            what = "the clock was changed then, so it is there twice or not at all"
            raise ValueError(f"time {text!r}: {what}; write its offset behind it")
        return local


def _wide(name: str) -> _Target:
    match = _WIDE.fullmatch(name)
    if match is None:
        raise ValueError(f"column {name!r} is no DEVICE/QUANTITY [UNIT]")
    return _target(match["device"].strip(), match["quantity"], (match["unit"] or "").strip())


@lru_cache(4096)
def _counts(quantity: str, unit: str) -> bool:
    described = describe(quantity, unit)
    return described is not None and described.kind is Kind.COUNTER


@lru_cache(4096)
def _target(device: str, quantity: str, unit: str) -> _Target:
    if not _DEVICE.fullmatch(device):
        raise ValueError(f"{device!r} is no device: small letters, digits, - and _")
    own = quantity.startswith("x.")
    if own and not unit:
        raise ValueError(f"{quantity} is your own quantity: its unit has to be given")
    described = describe(quantity, base_of(unit))
    if described is None:
        raise ValueError(f"there is no quantity {quantity!r}: {suggest(quantity)}")
    factors = conversion(unit or described.unit, described.unit)
    if factors is None:
        raise ValueError(f"{quantity} is in {described.unit}: {unit!r} cannot be converted to it")
    times, plus = (Decimal(repr(number)) for number in factors)
    return _Target(device, quantity, described.unit, times, plus)


def _value(text: str, target: _Target) -> float | None:
    text = text.strip()
    if not text:
        return None
    try:
        if not _NUMBER.fullmatch(text):
            raise ValueError
        value = float(Decimal(text) * target.times + target.plus)
    except (ValueError, InvalidOperation):
        hint = "write it with a decimal point and without spaces, or leave it empty"
        raise ValueError(f"value {_shown(text)} is no number; {hint}") from None
    if finite(value) is None:
        hint = f"no more than {LARGEST:g} {target.unit} is kept; leave it empty if it is unknown"
        raise ValueError(f"value {_shown(text)} is too large; {hint}")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _quality(text: str, value: float | None) -> Quality:
    try:
        quality = Quality(text.strip() or Quality.GOOD)
    except ValueError:
        words = " ".join(Quality)
        raise ValueError(f"quality {text!r} is none of {words}") from None
    return Quality.INVALID if value is None and quality is Quality.GOOD else quality


def _unix(text: str) -> int:
    return int(text) if len(text.partition(".")[0]) > 10 else round(Decimal(text) * 1000)


def _column_names() -> str:
    return ", ".join((*_LONG, *_ALSO))
