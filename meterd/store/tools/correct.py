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
    """The correction or samples named do not exist; a person has to name others."""


class UnfitError(MeterdError):
    """The correction does not fit these samples; a person has to ask for something else."""


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
            has_samples = False
            for day in _days(ask, infos):
                has_samples = (
                    has_samples or await self._chunk_of_day(ask, _names(infos), day) is not None
                )
            if not has_samples:
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
            correction = await self._one(number)
            if correction is None or correction.undone is not None:
                what = "is undone already" if correction else "does not exist"
                raise NothingThereError(f"correction {number} {what}")
            self._need_ours(correction.device)
            later = await self._writer.do(partial(correction_log.over, found=correction))
            if later is not None:
                text = f"correction {later} came after it on the same samples"
                raise NothingThereError(f"{text}: undo that one first")
            return await self._undo(correction, who, now)

    async def finish(self, now: int) -> list[Correction]:
        """Finishes corrections and undoings that were interrupted. Raises StoreError."""
        async with self._turn:
            return await self._finish(now)

    async def _finish(self, now: int) -> list[Correction]:
        finished: list[Correction] = []
        for correction in reversed(await self.all()):
            # Of a cluster's devices, each meterd goes on with those that it polls.
            if correction.state != "unfinished" or not self._writer.writes_for(correction.device):
                continue
            try:
                finished.append(await self._resume(correction, now))
            except StoreError as error:
                if error.code != StoreCode.CORRUPT:
                    raise
                # Others are none the worse for it.
                _log.error("correction %d cannot be finished: %s", correction.id, error)
        return finished

    def _need_ours(self, device: str) -> None:
        if not self._writer.writes_for(device):
            text = f"another meterd of this cluster polls {device}: correct it there"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)

    async def _resume(self, correction: Correction, now: int) -> Correction:
        if correction.undone_by:
            return await self._undo(correction, correction.undone_by, now)
        ask = Ask(
            correction.device,
            correction.quantity,
            correction.start,
            correction.end,
            correction.why,
            correction.who,
            correction.value,
        )
        return await self._mark(correction.id, ask, now)

    async def _undo(self, correction: Correction, who: str, now: int) -> Correction:
        who, number = who[:LONGEST_WHO], correction.id
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
                await self._write_replacement(await self._part(part))
        there = [part for part, gone in zip(parts, lost, strict=True) if not gone]
        await self._derive(correction.device, correction.quantity, there)
        if any(lost):
            _log.warning("correction %d: %d samples are deleted by now", number, sum(lost))
        await self._writer.do(partial(correction_log.note, number=number, values={"undone": now}))
        return (await self._one(number)) or correction

    async def _part(self, key: int) -> Chunk:
        return await self._writer.do(partial(correction_log.body, key=key))

    async def _lost(self, old: Chunk) -> int:
        """How many samples there are where the store has none any more; mostly 0."""
        return await asyncio.to_thread(self._lost_samples, old)

    def _lost_samples(self, old: Chunk) -> int:
        by_id = self._writer.memory.catalog.by_id
        names = {by_id[column.series].name for column in old.columns}
        device = next(iter(names))[0]
        samples = self._reader.day(device, old.times[0] // DAY, names)
        return old.samples if samples is None or not samples.chunk.columns else 0

    async def _mark(self, number: int, ask: Ask, now: int) -> Correction:
        """All of it, or the rest of one that was broken off."""
        await self._writer.flush()
        infos = await self._infos(ask)
        parts = await self._writer.do(partial(correction_log.parts, number=number))
        count, done = 0, set[tuple[int, int]]()
        for part in parts:
            # It was safe already; whether it was replaced, too, nobody knows.
            old = await self._part(part)
            await self._write_replacement(old, ask)
            done |= await asyncio.to_thread(_cells_of, old) if ask.value is not None else set()
            count += old.samples
        waiting, key = count, max(parts, default=(number << _PART_BITS) - 1)
        for day in _days(ask, infos):
            chunk = await self._chunk_of_day(ask, _names(infos), day)
            if chunk is not None and done:
                chunk = await asyncio.to_thread(_without, chunk, done)
            if chunk is None:
                continue
            key += 1
            # First what stood there is safe, then it is replaced.
            await self._writer.do(partial(correction_log.keep, number=number, key=key, old=chunk))
            await self._write_replacement(chunk, ask)
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
        """Renews totals, roll-ups and plain rows after a correction; `parts`: the
        corrected chunks.
        """
        infos = [info for info in await self._reader.series() if info.kind is Kind.COUNTER]
        is_counter = any((info.device, info.quantity) == (device, quantity) for info in infos)
        extent = await self._writer.do(partial(correction_log.extent, keys=parts))
        if self.recount is not None and is_counter and extent is not None:
            await self._writer.flush()
            await self.recount(device, quantity, *extent)
        await self._writer.settle()

    async def _one(self, number: int) -> Correction | None:
        return next(
            (correction for correction in await self.all() if correction.id == number), None
        )

    async def _infos(self, ask: Ask) -> list[SeriesInfo]:
        infos = await self._reader.series()
        return [
            info for info in infos if (info.device, info.quantity) == (ask.device, ask.quantity)
        ]

    async def _chunk_of_day(self, ask: Ask, names: frozenset[Name], day: int) -> Chunk | None:
        """The samples of that day that are to be corrected."""
        return await asyncio.to_thread(self._matching_chunk, ask, names, day)

    def _matching_chunk(self, ask: Ask, names: frozenset[Name], day: int) -> Chunk | None:
        samples = self._reader.day(ask.device, day, names)
        chunk = (
            None
            if samples is None
            else slicing.since(slicing.until(samples.chunk, ask.end), ask.start)
        )
        if chunk is None or ask.value is not None:
            return chunk if chunk is not None and chunk.columns else None
        # To be marked is what is neither null nor invalid.
        return _those(chunk, _valid)

    async def _write_replacement(self, old: Chunk, ask: Ask | None = None) -> None:
        """Replaces stored samples: by corrected ones, or without `ask` by the original ones."""
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
    """The request with its value in the unit of the series. Raises NothingThereError,
    UnfitError.
    """
    if not infos:
        text = f"the store has no {ask.quantity} of {ask.device}: look at their spelling"
        raise NothingThereError(text)
    counter = ask.quantity.removeprefix(GUARDED)
    stored_names = {(info.device, info.quantity) for info in stored}
    if counter != ask.quantity and (ask.device, counter) in stored_names:
        text = f"{ask.quantity} is worked out from {counter}: correct {counter} instead"
        raise UnfitError(f"{text}, and it follows")
    if ask.value is None:
        return ask
    units = sorted({info.unit for info in infos})
    if len(units) > 1:
        text = f"{ask.device} has {ask.quantity} in several units ({', '.join(units)})"
        raise UnfitError(f"{text}: mark it as invalid, and import the right values")
    factors = conversion(ask.unit or units[0], units[0])
    if factors is None:
        raise UnfitError(f"{ask.quantity} is in {units[0]}: {ask.unit!r} is nothing like it")
    value = ask.value * factors.factor + factors.offset
    if finite(value) is None:
        raise UnfitError(f"{ask.value:g} {ask.unit or units[0]} is no number that can be measured")
    return replace(ask, value=value, unit=units[0])


def _names(infos: list[SeriesInfo]) -> frozenset[Name]:
    return frozenset((info.device, info.quantity, info.unit) for info in infos)


def _days(ask: Ask, infos: list[SeriesInfo]) -> range:
    """The days of the interval in which these series have samples, since 1970."""
    if not infos:
        return range(0)
    start = max(ask.start, min(info.first for info in infos))
    end = min(ask.end, max(info.last for info in infos) + 1)
    return range(start // DAY, -(-end // DAY)) if start < end else range(0)


def _corrected(was: ChunkColumn, ask: Ask) -> ChunkColumn:
    if ask.value is None:
        state = INVALID, f"marked: {ask.why}"[:REASON_LENGTH]
        return was._replace(states=((len(was.values), *state),))
    values = array("d", [ask.value]) * len(was.values)
    state = _ESTIMATED, f"entered: {ask.why}"[:REASON_LENGTH]
    return was._replace(values=values, states=((len(values), *state),))


def _last(chunk: Chunk, column: ChunkColumn) -> Mapping[str, Any]:
    """The row of the table of newest values for a sample."""
    value, state = column.values[-1], column.states[-1] if column.states else (1, 0, "")
    shown = None if isnan(value) else value
    time = chunk.times[column.rows[-1]]
    return {"time": time, "value": shown, "quality": state[1], "reason": state[2] or None}


def _cells_of(chunk: Chunk) -> set[tuple[int, int]]:
    return {(column.series, time) for column in chunk.columns for time in chunk.times_of(column)}


def _without(chunk: Chunk, done: set[tuple[int, int]]) -> Chunk | None:
    def remaining(chunk: Chunk, column: ChunkColumn) -> list[int]:
        times = enumerate(chunk.times_of(column))
        return [at for at, time in times if (column.series, time) not in done]

    return _those(chunk, remaining)


def _valid(_: Chunk, column: ChunkColumn) -> list[int]:
    values, at, places = column.values, 0, list[int]()
    for count, quality, _reason in column.states or ((len(values), QUALITIES[Quality.GOOD], ""),):
        if quality != INVALID:
            places += [place for place in range(at, at + count) if not isnan(values[place])]
        at += count
    return places


def _those(chunk: Chunk, places: Callable[[Chunk, ChunkColumn], list[int]]) -> Chunk | None:
    """The samples of a chunk that are wanted, by their places in each column."""
    columns = (select_values(column, places(chunk, column)) for column in chunk.columns)
    remaining = tuple(column for column in columns if column.values)
    return Chunk(chunk.device, chunk.times, remaining) if remaining else None
