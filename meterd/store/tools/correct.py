"""Intervals that a person marks as invalid: what stood there stays, in the store and in an audit.

A marked sample is the same sample again with the quality invalid, taken as a late poll: it goes
the way of all polls, replaces the one of its time, and its day's roll-ups are made anew. To undo
takes the old ones again, from the table `corrected`.
"""

import asyncio
import logging
from array import array
from functools import lru_cache, partial
from math import isnan
from typing import Any

from meterd.errors import MeterdError, StoreError
from meterd.model.sample import Doubt, Layout, Poll, Quality
from meterd.store import cuts
from meterd.store.catalog import Name
from meterd.store.cuts import DAY, HOUR
from meterd.store.format.columns import Column, Span, runs
from meterd.store.keys import hour_id
from meterd.store.plainrows import cells
from meterd.store.reader import Reader
from meterd.store.schema import INVALID, QUALITIES, REASON_LENGTH
from meterd.store.tools import audit
from meterd.store.tools.audit import LONGEST_WHO, LONGEST_WHY, Ask, Correction, listed
from meterd.store.writer import Writer

__all__ = (
    "LONGEST_WHO",
    "LONGEST_WHY",
    "Ask",
    "Correction",
    "Corrections",
    "NothingThereError",
    "listed",
)

# Samples that are taken before they are sealed: about 20 MB of memory.
_BREATHE = 50_000
_PART_BITS = 20
_QUALITY = {number: quality for quality, number in QUALITIES.items()}

_log = logging.getLogger(__name__)


class NothingThereError(MeterdError):
    """What was named does not exist; a person has to name something else."""


class Corrections:
    """Of one store, through its writer; made and undone one at a time."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()

    async def all(self) -> list[Correction]:
        """The newest first. Raises StoreError."""
        return await self._writer.do(audit.every)

    async def mark(self, ask: Ask, now: int) -> Correction:
        """Marks every sample of the interval that is not invalid already; `now` is Unix ms.

        What was broken off before is finished first.
        Raises StoreError; NothingThereError where there is no sample to mark.
        """
        self._need_ours(ask.device)
        async with self._turn:
            await self._finish(now)
            await self._writer.flush()
            names = await self._names(ask)
            if not names:
                text = f"the store has no {ask.quantity} of {ask.device}: look at their spelling"
                raise NothingThereError(text)
            some = await self._days(ask, names)
            days = [day for day in some if await self._found(ask, names, day)]
            if not days:
                raise NothingThereError(f"{ask.device} has no valid {ask.quantity} in that time")
            number = await self._writer.do(lambda ledger: audit.begin(ledger, ask, now))
            return await self._mark(number, ask, now)

    async def undo(self, number: int, who: str, now: int) -> Correction:
        """Puts back what stood there, also of one that was broken off.

        Raises StoreError, NothingThereError.
        """
        async with self._turn:
            found = await self._one(number)
            if found is None or found.undone is not None:
                what = "is undone already" if found else "does not exist"
                raise NothingThereError(f"correction {number} {what}")
            self._need_ours(found.device)
            return await self._undo(found, who, now)

    async def finish(self, now: int) -> list[Correction]:
        """What was broken off: marks the rest, or puts back the rest. Raises StoreError."""
        async with self._turn:
            return await self._finish(now)

    async def _finish(self, now: int) -> list[Correction]:
        finished: list[Correction] = []
        for one in reversed(await self.all()):
            # Of a cluster's devices, each meterd goes on with those that it polls.
            if one.state != "unfinished" or not self._writer.writes_for(one.device):
                continue
            try:
                finished.append(await self._resume(one, now))
            except StoreError as error:
                if error.code != "corrupt":
                    raise
                # Others are none the worse for it.
                _log.error("correction %d cannot be finished: %s", one.id, error)
        return finished

    def _need_ours(self, device: str) -> None:
        if not self._writer.writes_for(device):
            text = f"another meterd of this cluster polls {device}: correct it there"
            raise StoreError(text, code="unavailable")

    async def _resume(self, one: Correction, now: int) -> Correction:
        if one.undone_by:
            return await self._undo(one, one.undone_by, now)
        ask = Ask(one.device, one.quantity, one.start, one.end, one.why, one.who)
        return await self._mark(one.id, ask, now)

    async def _undo(self, found: Correction, who: str, now: int) -> Correction:
        who, number = who[:LONGEST_WHO], found.id
        await self._writer.do(partial(audit.note, number=number, values={"undone_by": who}))
        for part in await self._writer.do(partial(audit.parts, number=number)):
            await self._take(await self._writer.do(partial(audit.body, key=part)), None)
        await self._writer.settle()
        await self._writer.do(partial(audit.note, number=number, values={"undone": now}))
        return (await self._one(number)) or found

    async def _mark(self, number: int, ask: Ask, now: int) -> Correction:
        """All of it, or the rest of one that was broken off."""
        await self._writer.flush()
        names, reason = await self._names(ask), f"marked: {ask.why}"
        parts = await self._writer.do(partial(audit.parts, number=number))
        count = 0
        for part in parts:
            # It was safe already; whether it was replaced, too, nobody knows.
            old = await self._writer.do(partial(audit.body, key=part))
            await self._take(old, reason)
            count += old.samples
        waiting, key = count, max(parts, default=(number << _PART_BITS) - 1)
        for day in await self._days(ask, names):
            span = await self._found(ask, names, day)
            if span is None:
                continue
            key += 1
            # First what stood there is safe, then it is replaced.
            await self._writer.do(partial(audit.keep, number=number, key=key, old=span))
            await self._take(span, reason)
            count, waiting = count + span.samples, waiting + span.samples
            if waiting > _BREATHE:
                await self._writer.settle()
                waiting = 0
        await self._writer.settle()
        await self._sweep(ask, names)
        await self._writer.do(partial(audit.note, number=number, values={"done": now, "n": count}))
        made = await self._one(number)
        if made is None:
            raise StoreError(f"correction {number} is gone", code="unavailable")
        return made

    async def _days(self, ask: Ask, names: frozenset[Name]) -> range:
        """The days of the interval in which these series have samples, since 1970."""
        infos = await self._reader.series()
        known = [one for one in infos if (one.device, one.quantity, one.unit) in names]
        firsts = [one.first for one in known if one.first is not None]
        lasts = [one.last for one in known if one.last is not None]
        if not firsts or not lasts:
            return range(0)
        start, end = max(ask.start, min(firsts)), min(ask.end, max(lasts) + 1)
        return range(start // DAY, -(-end // DAY)) if start < end else range(0)

    async def _sweep(self, ask: Ask, names: frozenset[Name]) -> None:
        """Plain rows of hours in which nothing valid is left; sealing only makes such that have."""
        known = [self._writer.memory.catalog.series[name].id for name in names]
        for day in await self._days(ask, names):
            start, end = max(ask.start, day * DAY), min(ask.end, (day + 1) * DAY)
            touched = range(start // HOUR, -(-end // HOUR))
            left = await asyncio.to_thread(self._hours, ask.device, day, names)
            keys = [hour_id(one, at) for one in known for at in touched if (one, at) not in left]
            await self._writer.do(partial(audit.forget_hours, keys=keys))

    def _hours(self, device: str, day: int, names: frozenset[Name]) -> set[tuple[int, int]]:
        """Series and hours with valid samples."""
        told = self._reader.day(device, day, names)
        valid = [_valid(told.span, column) for column in told.span.columns] if told else []
        return {
            (column.series, time // HOUR)
            for column in valid
            if told is not None
            for time in told.span.times_of(column)
        }

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
        await self._writer.do(lambda ledger: audit.renew(ledger, lasts))


@lru_cache(256)
def _layout(quantity: str, unit: str) -> Layout:
    return Layout.of([(quantity, unit)])


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
