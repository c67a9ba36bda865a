"""Intervals that a person marks as invalid: what stood there stays, in the store and in an audit.

A marked sample is the same sample again with the quality invalid, taken as a late poll: it goes
the way of all polls, replaces the one of its time, and its day's roll-ups are made anew. To undo
takes the old ones again, from the table `corrected`.
"""

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import isnan
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from meterd.errors import MeterdError, StoreError
from meterd.model.sample import Doubt, Layout, Poll, Quality
from meterd.store import cuts
from meterd.store.catalog import Name
from meterd.store.cuts import DAY
from meterd.store.format import block as blocks
from meterd.store.format.columns import Column, Span, runs
from meterd.store.ledger import Ledger
from meterd.store.plainrows import cells
from meterd.store.reader import Reader
from meterd.store.schema import INVALID, QUALITIES, REASON_LENGTH, corrected, correction, newest
from meterd.store.writer import Writer

LONGEST_WHY = 500
LONGEST_WHO = 190
# Samples that are taken before they are sealed: about 20 MB of memory.
_BREATHE = 50_000
_PART_BITS = 20
_QUALITY = {number: quality for quality, number in QUALITIES.items()}


class NothingThereError(MeterdError):
    """What was named does not exist; a person has to name something else."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One interval start <= time < end; times are Unix ms. `n` counts the samples marked.

    `done` is None while it is under way, or where it was broken off; `undone` until it is.
    """

    id: int
    device: str
    quantity: str
    start: int
    end: int
    n: int
    why: str
    who: str
    made: int
    done: int | None = None
    undone: int | None = None
    undone_by: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be marked, why, and who says so."""

    device: str
    quantity: str
    start: int
    end: int
    why: str
    who: str


class Corrections:
    """Of one store, through its writer; made and undone one at a time."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()

    async def all(self) -> list[Correction]:
        """The newest first. Raises StoreError."""
        return await self._writer.do(_all)

    async def mark(self, ask: Ask, now: int) -> Correction:
        """Marks every sample of the interval that is not invalid already; `now` is Unix ms.

        One that was broken off (`done` is None) may be undone, or asked for again.
        Raises StoreError; NothingThereError where there is no sample to mark.
        """
        async with self._turn:
            await self._writer.flush()
            names = await self._names(ask)
            days = [day for day in _days(ask) if await self._found(ask, names, day)]
            if not days:
                raise NothingThereError(f"{ask.device} has no valid {ask.quantity} in that time")
            number = await self._writer.do(lambda ledger: _begin(ledger, ask, now))
            return await self._mark(number, ask, names, days, now)

    async def undo(self, number: int, who: str, now: int) -> Correction:
        """Puts back what stood there. Raises StoreError, NothingThereError."""
        async with self._turn:
            known = {one.id: one for one in await self.all()}
            found = known.get(number)
            if found is None or found.undone is not None:
                what = "is undone already" if found else "does not exist"
                raise NothingThereError(f"correction {number} {what}")
            parts = await self._writer.do(lambda ledger: _parts(ledger, number))
            for part in parts:
                span = await self._writer.do(partial(_body, key=part))
                await self._take(span, None)
            await self._writer.settle()
            values = {"undone": now, "undone_by": who[:LONGEST_WHO]}
            await self._writer.do(lambda ledger: _note(ledger, number, values))
            return (await self._one(number)) or found

    async def _mark(
        self, number: int, ask: Ask, names: frozenset[Name], days: Sequence[int], now: int
    ) -> Correction:
        waiting = count = 0
        for part, day in enumerate(days):
            span = await self._found(ask, names, day)
            if span is None:
                continue
            key = number << _PART_BITS | part
            # First what stood there is safe, then it is replaced.
            await self._writer.do(partial(_keep, number=number, key=key, old=span))
            await self._take(span, f"marked: {ask.why}")
            count, waiting = count + span.samples, waiting + span.samples
            if waiting > _BREATHE:
                await self._writer.settle()
                waiting = 0
        await self._writer.settle()
        await self._writer.do(lambda ledger: _note(ledger, number, {"done": now, "n": count}))
        made = await self._one(number)
        if made is None:
            raise StoreError(f"correction {number} is gone", code="unavailable")
        return made

    async def _one(self, number: int) -> Correction | None:
        return next((one for one in await self.all() if one.id == number), None)

    async def _names(self, ask: Ask) -> frozenset[Name]:
        infos = await self._reader.series()
        names = ((one.device, one.quantity, one.unit) for one in infos)
        return frozenset(name for name in names if name[:2] == (ask.device, ask.quantity))

    async def _found(self, ask: Ask, names: frozenset[Name], day: int) -> Span | None:
        """What is to be marked on that day."""
        told = await asyncio.to_thread(self._reader.day, ask.device, day, names)
        span = None if told is None else cuts.since(cuts.until(told.span, ask.end), ask.start)
        columns = [] if span is None else [_valid(span, column) for column in span.columns]
        columns = [column for column in columns if column.values]
        return Span(span.device, span.times, tuple(columns)) if span and columns else None

    async def _take(self, span: Span, reason: str | None) -> None:
        """As late polls: invalid for a `reason`, or as they were."""
        catalog = self._writer.memory.catalog
        lasts: dict[int, dict[str, Any]] = {}
        for column in span.columns:
            device, quantity, unit = catalog.by_id[column.series].name
            layout = _layout(quantity, unit)
            for time, value, quality, text in cells(span, column):
                state = (INVALID, reason[:REASON_LENGTH]) if reason else (quality, text)
                doubts = {0: Doubt(_QUALITY[state[0]], state[1])} if any(state) else {}
                kept = None if isnan(value) else value
                self._writer.take(Poll(device, time, layout, (kept,), doubts))
                row = {"time": time, "value": kept, "quality": state[0]}
                lasts[column.series] = {**row, "reason": state[1] or None}
        await self._writer.flush()
        await self._writer.do(lambda ledger: _renew(ledger, lasts))


@lru_cache(256)
def _layout(quantity: str, unit: str) -> Layout:
    return Layout.of([(quantity, unit)])


def _days(ask: Ask) -> range:
    return range(ask.start // DAY, -(-ask.end // DAY))


def _valid(span: Span, column: Column) -> Column:
    """Without what is null or invalid: there is nothing to mark."""
    kept = [
        (row, cell)
        for row, cell in zip(column.rows, cells(span, column), strict=True)
        if cell[2] != QUALITIES[Quality.INVALID] and not isnan(cell[1])
    ]
    values = array("d", [cell[1] for _, cell in kept])
    states = runs(((1, cell[2], cell[3]) for _, cell in kept), values)
    return Column(column.series, array("I", [row for row, _ in kept]), values, states)


# -- in the writer's thread -----------------------------------------------------------------------


def _begin(ledger: Ledger, ask: Ask, now: int) -> int:
    with ledger.transaction() as connection:
        number = (connection.scalar(select(func.max(correction.c.id))) or 0) + 1
        row = {"id": number, "device": ask.device, "quantity": ask.quantity, "n": 0}
        row |= {"start_ms": ask.start, "end_ms": ask.end, "made": now}
        row |= {"why": ask.why[:LONGEST_WHY], "who": ask.who[:LONGEST_WHO]}
        connection.execute(insert(correction), row)
    return number


def _keep(ledger: Ledger, number: int, key: int, old: Span) -> None:
    row = {"id": key, "correction_id": number, "n": old.samples, "body": blocks.encode(old)}
    with ledger.transaction() as connection:
        connection.execute(insert(corrected), row)


def _note(ledger: Ledger, number: int, values: dict[str, Any]) -> None:
    with ledger.transaction() as connection:
        connection.execute(update(correction).where(correction.c.id == number).values(values))


def _renew(ledger: Ledger, lasts: dict[int, dict[str, Any]]) -> None:
    """The newest value, too, where it is one of these."""
    with ledger.transaction() as connection:
        for one, row in lasts.items():
            same = (newest.c.series_id == one) & (newest.c.time == row["time"])
            connection.execute(update(newest).where(same).values(row))


def _parts(ledger: Ledger, number: int) -> list[int]:
    asked = select(corrected.c.id).where(corrected.c.correction_id == number)
    with ledger.transaction() as connection:
        return list(connection.scalars(asked.order_by(corrected.c.id)))


def _body(ledger: Ledger, key: int) -> Span:
    with ledger.transaction() as connection:
        body = connection.scalar(select(corrected.c.body).where(corrected.c.id == key))
    return blocks.decode(body or b"")


def _all(ledger: Ledger) -> list[Correction]:
    with ledger.transaction() as connection:
        return listed(connection)


def listed(connection: Connection) -> list[Correction]:
    """The newest first."""
    rows = connection.execute(select(correction).order_by(correction.c.id.desc()))
    return list(_corrections(rows.mappings()))


def _corrections(rows: Any) -> Iterator[Correction]:
    for row in rows:
        fields = dict(row)
        fields["start"], fields["end"] = fields.pop("start_ms"), fields.pop("end_ms")
        yield Correction(**fields)
