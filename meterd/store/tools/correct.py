"""Intervals that a person corrects: samples are marked as invalid, or a right value is entered.

What stood there stays in an audit. A marked sample is the same sample again with the quality
invalid; one that is set has the value of the person, `estimated`. Both come after what was taken
before: they replace the sample of their time, and all that is derived of it is made anew. To undo
takes the old ones again, from the table `corrected`.
"""

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isnan
from typing import Any

from meterd.errors import MeterdError, StoreCode, StoreError
from meterd.model.quantity import GUARDED, Kind
from meterd.model.sample import Quality, finite
from meterd.model.units import conversion
from meterd.store.blocks import slicing
from meterd.store.blocks.chunk import Chunk, ChunkColumn, select_values
from meterd.store.blocks.quality_codes import INVALID, QUALITIES, REASON_LENGTH
from meterd.store.blocks.slicing import DAY
from meterd.store.head.catalog import Name
from meterd.store.head.series_batch import SeriesBatch
from meterd.store.query.range_query import SeriesInfo
from meterd.store.reader import Reader
from meterd.store.tools import correction_log
from meterd.store.tools.correction_log import LONGEST_WHO, LONGEST_WHY, Ask, Correction, listed
from meterd.store.writer import Writer

__all__ = (
    "LONGEST_WHO",
    "LONGEST_WHY",
    "Ask",
    "Correction",
    "Corrections",
    "NothingThereError",
    "UnfitError",
    "listed",
)

# Samples that are taken before they are sealed: about 20 MB of memory.
_BREATHE = 50_000
_PART_BITS = 20
_ESTIMATED = QUALITIES[Quality.ESTIMATED]

Recount = Callable[[str, str, int, int], Awaitable[None]]
"""Works out anew what is made of a device's counter, whose first and last changed read it gets."""

_log = logging.getLogger(__name__)


class NothingThereError(MeterdError):
    """What was named does not exist; a person has to name something else."""


class UnfitError(MeterdError):
    """What was asked makes no sense of these samples; a person has to ask for something else."""


class Corrections:
    """Of one store, through its writer; made and undone one at a time."""

    def __init__(self, writer: Writer, reader: Reader, recount: Recount | None = None) -> None:
        """`recount` is told of each counter that was corrected, before its roll-ups are made."""
        self._writer = writer
        self._reader = reader
        self.recount = recount
        self._turn = asyncio.Lock()

    async def all(self) -> list[Correction]:
        """The newest first. Raises StoreError."""
        return await self._writer.do(correction_log.every)

    async def mark(self, ask: Ask, now: int) -> Correction:
        """Marks every sample of the interval that is not invalid already, or sets all of them.

        `now` is Unix ms. What was broken off before is finished first.
        Raises StoreError; NothingThereError where there is no sample to correct; UnfitError for a
        total that meterd works out itself, and for a value that is no number of that unit.
        """
        self._need_ours(ask.device)
        async with self._turn:
            await self._finish(now)
            await self._writer.flush()
            infos = await self._infos(ask)
            ask = _sensible(ask, infos, await self._reader.series())
            found = False
            for day in _days(ask, infos):
                found = found or await self._found(ask, _names(infos), day) is not None
            if not found:
                what = "no valid" if ask.value is None else "no sample of"
                raise NothingThereError(f"{ask.device} has {what} {ask.quantity} in that time")
            number = await self._writer.do(lambda session: correction_log.begin(session, ask, now))
            return await self._mark(number, ask, now)

    async def undo(self, number: int, who: str, now: int) -> Correction:
        """Puts back what stood there, also of one that was broken off.

        Raises StoreError; NothingThereError, also where a later one has to be undone before it,
        or where the samples of all of its days are deleted by now.
        """
        async with self._turn:
            found = await self._one(number)
            if found is None or found.undone is not None:
                what = "is undone already" if found else "does not exist"
                raise NothingThereError(f"correction {number} {what}")
            self._need_ours(found.device)
            later = await self._writer.do(partial(correction_log.over, found=found))
            if later is not None:
                text = f"correction {later} came after it on the same samples"
                raise NothingThereError(f"{text}: undo that one first")
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
                if error.code != StoreCode.CORRUPT:
                    raise
                # Others are none the worse for it.
                _log.error("correction %d cannot be finished: %s", one.id, error)
        return finished

    def _need_ours(self, device: str) -> None:
        if not self._writer.writes_for(device):
            text = f"another meterd of this cluster polls {device}: correct it there"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)

    async def _resume(self, one: Correction, now: int) -> Correction:
        if one.undone_by:
            return await self._undo(one, one.undone_by, now)
        ask = Ask(one.device, one.quantity, one.start, one.end, one.why, one.who, one.value)
        return await self._mark(one.id, ask, now)

    async def _undo(self, found: Correction, who: str, now: int) -> Correction:
        who, number = who[:LONGEST_WHO], found.id
        parts = await self._writer.do(partial(correction_log.parts, number=number))
        await self._writer.flush()
        lost = [await self._lost(await self._part(part)) for part in parts]
        if parts and all(lost):
            text = f"correction {number} cannot be undone: the raw samples of its days are deleted"
            raise NothingThereError(f"{text} (store.keep.raw), and what was made of them stays")
        begun = {"undone_by": who, "lost": sum(lost) or None}
        await self._writer.do(partial(correction_log.note, number=number, values=begun))
        for part, gone in zip(parts, lost, strict=True):
            if not gone:
                await self._take(await self._part(part))
        there = [part for part, gone in zip(parts, lost, strict=True) if not gone]
        await self._derive(found.device, found.quantity, there)
        if any(lost):
            _log.warning("correction %d: %d samples are deleted by now", number, sum(lost))
        await self._writer.do(partial(correction_log.note, number=number, values={"undone": now}))
        return (await self._one(number)) or found

    async def _part(self, key: int) -> Chunk:
        return await self._writer.do(partial(correction_log.body, key=key))

    async def _lost(self, old: Chunk) -> int:
        """How many samples there are where the store has none any more; mostly 0."""
        return await asyncio.to_thread(self._gone, old)

    def _gone(self, old: Chunk) -> int:
        by_id = self._writer.memory.catalog.by_id
        names = {by_id[column.series].name for column in old.columns}
        device = next(iter(names))[0]
        told = self._reader.day(device, old.times[0] // DAY, names)
        return old.samples if told is None or not told.chunk.columns else 0

    async def _mark(self, number: int, ask: Ask, now: int) -> Correction:
        """All of it, or the rest of one that was broken off."""
        await self._writer.flush()
        infos = await self._infos(ask)
        parts = await self._writer.do(partial(correction_log.parts, number=number))
        count, done = 0, set[tuple[int, int]]()
        for part in parts:
            # It was safe already; whether it was replaced, too, nobody knows.
            old = await self._part(part)
            await self._take(old, ask)
            done |= await asyncio.to_thread(_cells_of, old) if ask.value is not None else set()
            count += old.samples
        waiting, key = count, max(parts, default=(number << _PART_BITS) - 1)
        for day in _days(ask, infos):
            chunk = await self._found(ask, _names(infos), day)
            if chunk is not None and done:
                chunk = await asyncio.to_thread(_without, chunk, done)
            if chunk is None:
                continue
            key += 1
            # First what stood there is safe, then it is replaced.
            await self._writer.do(partial(correction_log.keep, number=number, key=key, old=chunk))
            await self._take(chunk, ask)
            count, waiting = count + chunk.samples, waiting + chunk.samples
            if waiting > _BREATHE:
                await self._writer.settle()
                waiting = 0
        parts = await self._writer.do(partial(correction_log.parts, number=number))
        await self._derive(ask.device, ask.quantity, parts)
        await self._writer.do(
            partial(correction_log.note, number=number, values={"done": now, "n": count})
        )
        made = await self._one(number)
        if made is None:
            raise StoreError(f"correction {number} is gone", code=StoreCode.UNAVAILABLE)
        return made

    async def _derive(self, device: str, quantity: str, parts: Sequence[int]) -> None:
        """Totals, roll-ups and plain rows of what is there now; `parts` have what was there."""
        infos = [one for one in await self._reader.series() if one.kind is Kind.COUNTER]
        is_counter = any((one.device, one.quantity) == (device, quantity) for one in infos)
        extent = await self._writer.do(partial(correction_log.extent, keys=parts))
        if self.recount is not None and is_counter and extent is not None:
            await self._writer.flush()
            await self.recount(device, quantity, *extent)
        await self._writer.settle()

    async def _one(self, number: int) -> Correction | None:
        return next((one for one in await self.all() if one.id == number), None)

    async def _infos(self, ask: Ask) -> list[SeriesInfo]:
        infos = await self._reader.series()
        return [one for one in infos if (one.device, one.quantity) == (ask.device, ask.quantity)]

    async def _found(self, ask: Ask, names: frozenset[Name], day: int) -> Chunk | None:
        """What is to be corrected on that day."""
        return await asyncio.to_thread(self._look, ask, names, day)

    def _look(self, ask: Ask, names: frozenset[Name], day: int) -> Chunk | None:
        told = self._reader.day(ask.device, day, names)
        chunk = (
            None if told is None else slicing.since(slicing.until(told.chunk, ask.end), ask.start)
        )
        if chunk is None or ask.value is not None:
            return chunk if chunk is not None and chunk.columns else None
        # To be marked is what is neither null nor invalid.
        return _those(chunk, _valid)

    async def _take(self, old: Chunk, ask: Ask | None = None) -> None:
        """In the place of what is there: corrected as was asked, or as they were."""
        late, lasts = await asyncio.to_thread(self._replacement, old, ask)
        await self._writer.put(late)
        await self._writer.do(partial(correction_log.renew, lasts=lasts))

    def _replacement(
        self, old: Chunk, ask: Ask | None
    ) -> tuple[list[SeriesBatch], Mapping[int, Mapping[str, Any]]]:
        by_id = self._writer.memory.catalog.by_id
        late: list[SeriesBatch] = []
        lasts: dict[int, Mapping[str, Any]] = {}
        for was in old.columns:
            column = was if ask is None else _corrected(was, ask)
            device, *name = by_id[column.series].name
            chunk = Chunk(old.device, old.times, (column,))
            late += SeriesBatch.late(device, (name[0], name[1]), chunk)
            lasts[column.series] = _last(chunk, column)
        return late, lasts


def _sensible(ask: Ask, infos: list[SeriesInfo], stored: list[SeriesInfo]) -> Ask:
    """With the value in the unit of the series that it is about."""
    if not infos:
        text = f"the store has no {ask.quantity} of {ask.device}: look at their spelling"
        raise NothingThereError(text)
    counter = ask.quantity.removeprefix(GUARDED)
    there = {(one.device, one.quantity) for one in stored}
    if counter != ask.quantity and (ask.device, counter) in there:
        text = f"{ask.quantity} is worked out from {counter}: correct {counter} instead"
        raise UnfitError(f"{text}, and it follows")
    if ask.value is None:
        return ask
    units = sorted({one.unit for one in infos})
    if len(units) > 1:
        text = f"{ask.device} has {ask.quantity} in several units ({', '.join(units)})"
        raise UnfitError(f"{text}: mark it as invalid, and import the right values")
    found = conversion(ask.unit or units[0], units[0])
    if found is None:
        raise UnfitError(f"{ask.quantity} is in {units[0]}: {ask.unit!r} is nothing like it")
    value = ask.value * found.factor + found.offset
    if finite(value) is None:
        raise UnfitError(f"{ask.value:g} {ask.unit or units[0]} is no number that can be measured")
    return replace(ask, value=value, unit=units[0])


def _names(infos: list[SeriesInfo]) -> frozenset[Name]:
    return frozenset((one.device, one.quantity, one.unit) for one in infos)


def _days(ask: Ask, infos: list[SeriesInfo]) -> range:
    """The days of the interval in which these series have samples, since 1970."""
    if not infos:
        return range(0)
    start = max(ask.start, min(one.first for one in infos))
    end = min(ask.end, max(one.last for one in infos) + 1)
    return range(start // DAY, -(-end // DAY)) if start < end else range(0)


def _corrected(was: ChunkColumn, ask: Ask) -> ChunkColumn:
    if ask.value is None:
        state = INVALID, f"marked: {ask.why}"[:REASON_LENGTH]
        return was._replace(states=((len(was.values), *state),))
    values = array("d", [ask.value]) * len(was.values)
    state = _ESTIMATED, f"entered: {ask.why}"[:REASON_LENGTH]
    return was._replace(values=values, states=((len(values), *state),))


def _last(chunk: Chunk, column: ChunkColumn) -> Mapping[str, Any]:
    """As the newest value of a series is told to people."""
    value, state = column.values[-1], column.states[-1] if column.states else (1, 0, "")
    known = None if isnan(value) else value
    time = chunk.times[column.rows[-1]]
    return {"time": time, "value": known, "quality": state[1], "reason": state[2] or None}


def _cells_of(chunk: Chunk) -> set[tuple[int, int]]:
    return {(column.series, time) for column in chunk.columns for time in chunk.times_of(column)}


def _without(chunk: Chunk, done: set[tuple[int, int]]) -> Chunk | None:
    def others(chunk: Chunk, column: ChunkColumn) -> list[int]:
        times = enumerate(chunk.times_of(column))
        return [at for at, time in times if (column.series, time) not in done]

    return _those(chunk, others)


def _valid(_: Chunk, column: ChunkColumn) -> list[int]:
    values, at, found = column.values, 0, list[int]()
    for count, quality, _reason in column.states or ((len(values), QUALITIES[Quality.GOOD], ""),):
        if quality != INVALID:
            found += [place for place in range(at, at + count) if not isnan(values[place])]
        at += count
    return found


def _those(chunk: Chunk, places: Callable[[Chunk, ChunkColumn], list[int]]) -> Chunk | None:
    """The samples of a chunk that are wanted, by their places in each column."""
    columns = (select_values(column, places(chunk, column)) for column in chunk.columns)
    kept = tuple(column for column in columns if column.values)
    return Chunk(chunk.device, chunk.times, kept) if kept else None
