"""Recounts the guarded totals of a device after stored reads were added, changed or removed.

A guarded total is a function of its counter's reads in time order: however they came in, by live
polls, imports, corrections or their undoing, `recount` writes what the guard makes of them all.
It begins at a checkpoint before the change, where two good totals tell all that a guard remembers,
and ends where what it makes is what is stored.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import isnan
from typing import NamedTuple

from meterd.model.event import Event
from meterd.model.quantity import GUARDED
from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.poll.counter_guard import DEFAULT_POWER, decimal, offset_of
from meterd.poll.counter_replay import (
    AHEAD,
    PAST,
    STANDING,
    CounterReplay,
    CounterTerms,
    Raw,
    ReplayEvent,
    Total,
)
from meterd.poll.counters import Form, is_guarded, terms_of
from meterd.poll.guard_state import GuardState
from meterd.store.blocks.quality_codes import QUALITIES
from meterd.store.blocks.slicing import DAY
from meterd.store.db import replacements
from meterd.store.db.plain_rows import cells
from meterd.store.head.catalog import Name
from meterd.store.head.head import SeriesBatch, as_batches
from meterd.store.reader import Reader
from meterd.store.writer import Writer

# Totals that are taken before they are sealed: some MB of memory.
_BREATHE = 50_000
# And that are written at once.
_TOGETHER = 5_000
# Events of one counter that are kept one by one; the others are counted.
MOST_EVENTS = 20
_QUALITY = {number: quality for quality, number in QUALITIES.items()}
_GOOD = QualityFlag(Quality.GOOD, "")

TermsOf = Callable[[str, str], CounterTerms]
"""How a counter counts, by its quantity and unit."""


def unknown_terms(quantity: str, unit: str) -> CounterTerms:
    """The terms of a counter without a configuration."""
    return terms_of(unit, Form(), DEFAULT_POWER)


class Cell(NamedTuple):
    """A read, and the total stored beside it, if there is one."""

    raw: Raw
    total: Total | None


@dataclass(slots=True)
class Recounted:
    """What came of it.

    `events`: what the guard noticed in the reads it looked at, MOST_EVENTS of each counter;
    `more` counts the others. `written`: totals that changed. `ended`: where live polls go on, by
    counter, where the last read there is was looked at: that of the time `last` (Unix ms).
    """

    events: list[Event] = field(default_factory=list)
    more: int = 0
    written: int = 0
    ended: dict[str, GuardState] = field(default_factory=dict)
    last: int = 0


class CounterHistory:
    """The reads of a device's counters, and the totals beside them, day by day.

    Methods are to be called in a thread, and raise StoreError.
    """

    def __init__(self, reader: Reader, device: str, counters: Sequence[tuple[str, str]]) -> None:
        """`counters`: quantities and units."""
        self._reader = reader
        self._device = device
        self._counters = counters
        self._rolled: dict[str, set[int]] = {}

    def days(self) -> list[int]:
        """UTC days since 1970, ascending."""
        days: set[int] = set()
        for quantity, unit in self._counters:
            series_days = self._reader.days((self._device, quantity, unit))
            days |= series_days.there
            self._rolled[quantity] = series_days.rolled
        return sorted(days)

    def begins_later(self, quantity: str, first: int) -> bool:
        """Whether a counter whose reads begin on a day had earlier ones, deleted by now."""
        return any(day < first for day in self._rolled.get(quantity, ()))

    def cells(self, day: int) -> dict[str, list[Cell]]:
        """By quantity, in time order."""
        names: dict[Name, str] = {}
        for quantity, unit in self._counters:
            names[self._device, quantity, unit] = quantity
            names[self._device, GUARDED + quantity, unit] = GUARDED + quantity
        samples = self._reader.day(self._device, day, names)
        if samples is None:
            return {}
        lanes = {
            names[samples.names[column.series]]: list(cells(samples.chunk, column))
            for column in samples.chunk.columns
        }
        return {
            quantity: list(_pair(lanes.get(quantity, ()), lanes.get(GUARDED + quantity, ())))
            for quantity, _ in self._counters
        }


_Stored = tuple[int, float, int, str]
"""Time, value, quality code, reason."""


def _pair(reads: Sequence[_Stored], totals: Sequence[_Stored]) -> Iterator[Cell]:
    beside = {
        time: Total(time, None if isnan(value) else value, _doubt(quality, text))
        for time, value, quality, text in totals
    }
    for time, value, quality, text in reads:
        doubt = _doubt(quality, text)
        trusted = doubt.quality in (Quality.GOOD, Quality.ESTIMATED) and not isnan(value)
        raw = Raw(time, decimal(value)) if trusted else Raw(time, None, doubt)
        yield Cell(raw, beside.get(time))


def _doubt(quality: int, text: str) -> QualityFlag:
    return QualityFlag(_QUALITY[quality], text) if quality or text else _GOOD


def _rose(earlier: Cell, later: Cell) -> bool:
    """Whether both totals are good, and rose as the counter did: then no guard remembers more."""
    if not (_is_plain(earlier) and _is_plain(later)):
        return False
    rise = decimal((later.raw.value or 0.0) - (earlier.raw.value or 0.0))
    return rise > 0 and rise == decimal(_value(later) - _value(earlier))


def _is_plain(cell: Cell) -> bool:
    total = cell.total
    if total is None or total.value is None or cell.raw.value is None:
        return False
    return total.doubt == _GOOD


def _value(cell: Cell) -> float:
    return (cell.total.value if cell.total is not None else None) or 0.0


class _Start(NamedTuple):
    """Where the recount of a counter begins: after `time`, with the guard's state there."""

    time: int
    state: GuardState | None
    past: Sequence[tuple[int, float]]


def _checkpoint(
    cells: Sequence[Cell], since: int, *, is_whole: bool = False, goes_on: bool = False
) -> _Start | None:
    """The last place before `since` where the guard's state is known; None where it lies before
    `cells`.

    Reads shortly before the change are looked at again, because of those that follow them now.
    `is_whole`: there are none before `cells`; `goes_on`: there were, and they are deleted.
    """
    at = sum(1 for cell in cells if cell.raw.time < since)
    ahead = 0
    while at > 0 and ahead < AHEAD:
        at -= 1
        ahead += cells[at].raw.value is not None
    stood = 0
    for place in range(at - 1, 0, -1):
        earlier, later = cells[place - 1], cells[place]
        if _rose(earlier, later):
            before, since_ms = earlier.raw.value, earlier.raw.time
            return _start(cells, place, before, since_ms, is_whole=is_whole)
        is_same = _is_plain(earlier) and _is_plain(later) and _same(earlier, later)
        stood = stood + 1 if is_same else 0
        if stood >= STANDING:
            last = place + stood - 1
            return _start(cells, last, None, cells[last].raw.time, is_whole=is_whole)
    return _begin(cells, goes_on=goes_on) if is_whole else None


def _same(earlier: Cell, later: Cell) -> bool:
    return earlier.raw.value == later.raw.value and _value(earlier) == _value(later)


def _start(
    cells: Sequence[Cell], place: int, before: float | None, since: int, *, is_whole: bool
) -> _Start | None:
    good = [
        (cell.raw.time, cell.raw.value)
        for cell in cells[: place + 1]
        if cell.raw.value is not None and _is_good(cell)
    ][-PAST:]
    if len(good) < PAST and not is_whole:
        return None
    cell = cells[place]
    raw, total = cell.raw.value or 0.0, _value(cell)
    state = GuardState(total, offset_of(total, raw), raw, before, cell.raw.time, since)
    return _Start(cell.raw.time, state, good)


def _is_good(cell: Cell) -> bool:
    total = cell.total
    return total is not None and total.value is not None and total.doubt.quality is Quality.GOOD


def _begin(cells: Sequence[Cell], *, goes_on: bool) -> _Start:
    """The first read there is, where a total begins; or goes on, as the stored one did."""
    first = next((cell.raw.value for cell in cells if cell.raw.value is not None), None)
    good = next((cell for cell in cells if _is_good(cell) and cell.raw.value is not None), None)
    if not goes_on or first is None or good is None:
        return _Start(-1, None, ())
    total = decimal(first + _value(good) - (good.raw.value or 0.0))
    return _Start(-1, GuardState(total=total), ())


class _RecountRun:
    """One counter on its way from a checkpoint to where nothing differs any more."""

    def __init__(self, quantity: str, fold: CounterReplay, start: int, end: int) -> None:
        """`start`: the time (Unix ms) after which it begins; `end`: of the last changed read."""
        self.quantity = quantity
        self.fold = fold
        self.start = start
        self.is_over = False
        self._end = end
        self._waiting: deque[Cell] = deque()
        self._last: Cell | None = None
        self._good = 0  # totals since the last changed read
        self._stood = 0
        self._agrees = False

    def take(self, cells: Sequence[Cell]) -> Iterator[Total]:
        """The totals to be written."""
        for cell in cells:
            if cell.raw.time <= self.start or self.is_over:
                continue
            self._waiting.append(cell)
            yield from self._differing(self.fold.take(cell.raw))

    def end(self) -> Iterator[Total]:
        yield from self._differing(self.fold.end())

    def _differing(self, totals: Iterator[Total]) -> Iterator[Total]:
        for total in totals:
            cell = self._cell(total.time)
            is_same = cell.total == total
            if not is_same:
                yield total
            self._follow(cell, agrees=is_same)
            if self.is_over:
                return

    def _cell(self, time: int) -> Cell:
        """The cell of a total; those of held reads come late."""
        for place, cell in enumerate(self._waiting):
            if cell.raw.time == time:
                del self._waiting[place]
                return cell
        raise LookupError(time)

    def _follow(self, cell: Cell, *, agrees: bool) -> None:
        """Notes whether all that follows equals what is stored."""
        last, self._last = self._last, cell
        was, self._agrees = self._agrees, agrees
        if cell.raw.time <= self._end:
            return
        self._good += _is_good(cell)
        if not (agrees and was and last is not None and self.fold.is_settled):
            self._stood = 0
            return
        is_same = _is_plain(last) and _is_plain(cell) and _same(last, cell)
        self._stood = self._stood + 1 if is_same else 0
        if self._good > PAST and (_rose(last, cell) or self._stood >= STANDING):
            self.is_over = True


class Work:
    """The recount of one device's counters, day by day; returns the totals to be written.

    Methods are to be called in a thread.
    """

    def __init__(
        self,
        history: CounterHistory,
        counters: Sequence[tuple[str, str]],
        since: int,
        until: int,
        terms: TermsOf,
        swaps: Sequence[int],
    ) -> None:
        self._history = history
        self._counters = counters
        self._since = since
        self._until = until
        self._terms = terms
        self._swaps = swaps
        self._runs: list[_RecountRun] = []
        self._days: deque[int] = deque()
        self.last = 0  # the newest read that was looked at, Unix ms

    def begin(self) -> None:
        """Looks for where each counter begins."""
        days = self._history.days()
        earlier = [day for day in days if day <= self._since // DAY]
        starts: dict[str, _Start] = {}
        read: dict[str, list[Cell]] = {quantity: [] for quantity, _ in self._counters}
        first = days[0] if days else 0
        while earlier and len(starts) < len(self._counters):
            first = earlier.pop()
            cells_of = self._history.cells(first)
            for quantity, _ in self._counters:
                if quantity in starts:
                    continue
                read[quantity] = [*cells_of.get(quantity, ()), *read[quantity]]
                whole = read[quantity]
                goes_on = not earlier and self._goes_on(quantity, whole)
                at = _checkpoint(whole, self._since, is_whole=not earlier, goes_on=goes_on)
                if at is not None:
                    starts[quantity] = at
                    del read[quantity]
        for quantity, unit in self._counters:
            start = starts.get(quantity, _Start(-1, None, ()))
            fold = CounterReplay(
                self._terms(quantity, unit), state=start.state, past=start.past, swaps=self._swaps
            )
            self._runs.append(_RecountRun(quantity, fold, start.time, self._until))
        self._days.extend(day for day in days if day >= first)

    def _goes_on(self, quantity: str, cells: Sequence[Cell]) -> bool:
        """Whether there were reads before these, all there are."""
        return bool(cells) and self._history.begins_later(quantity, cells[0].raw.time // DAY)

    def go_on(self) -> tuple[dict[int, dict[str, Total]], bool]:
        """Totals that changed, by time and counter, out of one day more; whether that was all."""
        changes: dict[int, dict[str, Total]] = {}
        runs = [run for run in self._runs if not run.is_over]
        if runs and self._days:
            cells_of = self._history.cells(self._days.popleft())
            for run in runs:
                cells = cells_of.get(run.quantity, ())
                self.last = max([self.last, *(cell.raw.time for cell in cells[-1:])])
                for total in run.take(cells):
                    changes.setdefault(total.time, {})[run.quantity] = total
        is_all = not self._days or all(run.is_over for run in runs)
        if is_all:
            for run in runs:
                for total in () if run.is_over else run.end():
                    changes.setdefault(total.time, {})[run.quantity] = total
        return changes, is_all

    def happened(self) -> Iterator[tuple[str, ReplayEvent]]:
        """And forgets it."""
        for run in self._runs:
            for event in run.fold.happened:
                yield run.quantity, event
            run.fold.happened.clear()

    def ended(self) -> dict[str, GuardState]:
        return {run.quantity: run.fold.state() for run in self._runs if not run.is_over}


async def recount(
    writer: Writer,
    reader: Reader,
    device: str,
    since: int,
    until: int,
    *,
    quantities: Collection[str] | None = None,
    terms: TermsOf = unknown_terms,
    swaps: Sequence[int] | None = None,
) -> Recounted:
    """Writes the guarded totals of a device anew, after its reads of since <= time <= until
    (Unix ms) were added, changed, marked or put back; they have to be committed by then.

    `quantities`: the counters whose reads changed; None means all. `swaps`: Unix ms from which on
    another meter was read; None: those that the store tells (db/replacements.py). Call
    `writer.settle()` afterwards where roll-ups are wanted at once.
    Raises StoreError.
    """
    counters = await asyncio.to_thread(counters_of, reader, device, quantities)
    result = Recounted()
    if not counters:
        return result
    if swaps is None:
        swaps = await writer.do(partial(replacements.times, device=device))
    history = CounterHistory(reader, device, counters)
    work = Work(history, counters, since, until, terms, swaps)
    await asyncio.to_thread(work.begin)
    units, waiting, is_all = dict(counters), 0, False
    while not is_all:
        changes, is_all = await asyncio.to_thread(_changes, work)
        # Off the loop: a day of one counter alone may be 86,400 of them.
        await writer.put(await asyncio.to_thread(_batch, device, changes, units))
        count = sum(map(len, changes.values()))
        waiting, result.written = waiting + count, result.written + count
        _note(result, device, work)
        if waiting > _BREATHE:
            # Their days are closed once, in the end.
            await writer.seal()
            waiting = 0
    await writer.flush()
    result.ended, result.last = work.ended(), work.last
    return result


def _changes(work: Work) -> tuple[dict[int, dict[str, Total]], bool]:
    """Of some days, so that each write is worth it; whether that was all."""
    changes, is_all = work.go_on()
    while not is_all and len(changes) < _TOGETHER:
        more, is_all = work.go_on()
        for time, totals in more.items():
            changes.setdefault(time, {}).update(totals)
    return changes, is_all


def counters_of(
    reader: Reader, device: str, quantities: Collection[str] | None
) -> list[tuple[str, str]]:
    """Quantities and units of a device's counters. To be called in a thread. Raises StoreError."""
    return [
        (series.quantity, series.unit)
        for series in reader.names()
        if series.device == device
        and is_guarded(series.quantity, series.unit)
        and (quantities is None or series.quantity in quantities)
    ]


def foretell(work: Work, device: str) -> Recounted:
    """What would be noticed, without writing anything."""
    result, is_all = Recounted(), False
    work.begin()
    while not is_all:
        changes, is_all = work.go_on()
        result.written += sum(map(len, changes.values()))
        _note(result, device, work)
    return result


def _note(result: Recounted, device: str, work: Work) -> None:
    for quantity, happened in work.happened():
        event = Event(happened.kind, device, happened.time, happened.text, {"quantity": quantity})
        of_quantity = sum(1 for noted in result.events if noted.quantity == quantity)
        if of_quantity < MOST_EVENTS:
            result.events.append(event)
        else:
            result.more += 1


def _batch(
    device: str, changes: Mapping[int, Mapping[str, Total]], units: Mapping[str, str]
) -> list[SeriesBatch]:
    return as_batches(_poll(device, time, changes[time], units) for time in sorted(changes))


def _poll(device: str, time: int, totals: Mapping[str, Total], units: Mapping[str, str]) -> Poll:
    names = sorted(totals)
    layout = _layout(tuple((GUARDED + name, units[name]) for name in names))
    doubts = {
        place: totals[name].doubt for place, name in enumerate(names) if totals[name].doubt != _GOOD
    }
    return Poll(device, time, layout, tuple(totals[name].value for name in names), doubts)


@lru_cache(1024)
def _layout(columns: tuple[tuple[str, str], ...]) -> Layout:
    return Layout.of(columns)
