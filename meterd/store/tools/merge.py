"""Two devices of the store become one: what was polled under one name, and later under another.

First the samples of one are taken as late polls of the other, which goes the way of all polls;
then what is left of it, such as the roll-ups of days whose samples are deleted, gets the other's
numbers, and it is gone, in one transaction. Broken off in between, the same merge goes on.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from sqlalchemy import ColumnElement, Connection, delete, select, update

from meterd.errors import GeneralCode
from meterd.model.sample import Poll
from meterd.store.blocks import block as blocks
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY, HOUR
from meterd.store.compaction.session import StoreSession
from meterd.store.db import renames, replacements
from meterd.store.db.keys import dirty_of, hour_id, rollup_id
from meterd.store.db.renames import Rename, RenameError
from meterd.store.db.schema import (
    block,
    corrected,
    correction,
    device,
    dirty,
    hour,
    memo,
    newest,
    rollup,
    sample,
    series,
)
from meterd.store.db.statements import CHUNK, delete_keys, replace_rows
from meterd.store.head.catalog import Catalog
from meterd.store.head.replay import PollDecoder
from meterd.store.query.range_query import SeriesInfo
from meterd.store.reader import Reader
from meterd.store.writer import Writer

# Samples that are taken before they are sealed: about 20 MB of memory.
_BREATHE = 50_000
_MERGING = "merging"
_LOW = (1 << 32) - 1

Pairs = Mapping[int, int]
"""Series of the device that goes -> the same of the one that stays."""


async def merge_devices(
    writer: Writer, reader: Reader, old: str, new: str, *, who: str, now: int
) -> int:
    """All that the store has of `old` is of `new`; `now` is Unix ms.

    Returns the time (Unix ms) from which on the guarded totals have to be counted anew. Raises
    RenameError where one is not there, or both were polled at the same time; StoreError.
    """
    await writer.settle()
    infos = await asyncio.to_thread(reader.names)
    chunks = [_chunk(infos, name) for name in (old, new)]
    unfinished = await writer.do(_broken_off)
    if unfinished != [old, new]:
        _need_apart(infos, old, new)
        await _need_samples(reader, infos, old, new)
        await writer.do(partial(_note, names=[old, new]))
    waiting = 0
    for day in sorted(await _days(reader, infos, old)):
        polls = await asyncio.to_thread(_polls, reader, infos, old, new, day)
        await writer.write_at_once(polls)
        waiting += sum(len(poll.values) for poll in polls)
        if waiting > _BREATHE:
            await writer.settle()
            waiting = 0
    await writer.settle()
    await writer.absorb(old, new, partial(absorb, who=who, now=now))
    return max(first for first, _ in chunks)


def _chunk(infos: Sequence[SeriesInfo], name: str) -> tuple[int, int]:
    mine = [info for info in infos if info.device == name]
    if not mine:
        raise RenameError(f"the store has no device {name}", code=GeneralCode.UNKNOWN_DEVICE)
    return min(info.first for info in mine), max(info.last for info in mine)


def _need_apart(infos: Sequence[SeriesInfo], old: str, new: str) -> None:
    (first, last), (start, end) = (_chunk(infos, name) for name in (old, new))
    if first <= end and start <= last:
        text = f"{old} and {new} were polled at the same time: they are two devices"
        raise RenameError(text, code=GeneralCode.DEVICE_EXISTS)


async def _need_samples(reader: Reader, infos: Sequence[SeriesInfo], old: str, new: str) -> None:
    """Of a day that both have, the roll-ups are made anew, which needs the samples of both."""
    chunks = sorted(_chunk(infos, name) for name in (old, new))
    day = chunks[0][1] // DAY
    if chunks[1][0] // DAY != day:
        return
    for name in (old, new):
        if await asyncio.to_thread(reader.day, name, day, _names(infos, name)) is None:
            text = f"both have a part of one day, and the samples of {name} there are deleted"
            raise RenameError(text, code=GeneralCode.DEVICE_EXISTS)


def _names(infos: Sequence[SeriesInfo], name: str) -> list[tuple[str, str, str]]:
    return [(info.device, info.quantity, info.unit) for info in infos if info.device == name]


async def _days(reader: Reader, infos: Sequence[SeriesInfo], name: str) -> set[int]:
    days: set[int] = set()
    for series_name in _names(infos, name):
        days |= (await asyncio.to_thread(reader.days, series_name)).there
    return days


def _polls(reader: Reader, infos: Sequence[SeriesInfo], old: str, new: str, day: int) -> list[Poll]:
    samples = reader.day(old, day, _names(infos, old))
    return (
        []
        if samples is None
        else list(PollDecoder(samples.names.__getitem__).of(samples.chunk, new))
    )


def _broken_off(session: StoreSession) -> list[str] | None:
    with session.transaction() as connection:
        body = connection.scalar(select(memo.c.body).where(memo.c.name == _MERGING))
    return None if body is None else json.loads(body)


def _note(session: StoreSession, names: Sequence[str]) -> None:
    with session.transaction() as connection:
        replace_rows(connection, memo, [{"name": _MERGING, "body": json.dumps(names)}])


def absorb(
    connection: Connection, catalog: Catalog, old: str, new: str, *, who: str, now: int
) -> None:
    """Gives the remaining rows of `old` the numbers of `new`; to be called in the store's
    thread.
    """
    gone, stays = catalog.devices[old], catalog.devices[new]
    mine = catalog.by_device.get(gone, [])
    pairs = {entry.id: catalog.series_id(new, *entry.name[1:]) for entry in mine}
    is_later = _last(catalog, gone) > _last(catalog, stays)
    catalog.settle(connection, ())
    for source, target in pairs.items():
        _series(connection, source, target)
        _rollups(connection, source, target)
    _hours(connection, pairs, catalog)
    connection.execute(delete(block).where(block.c.device_id == gone))
    stains = [key for key in connection.scalars(select(dirty.c.id)) if dirty_of(key)[0] == gone]
    delete_keys(connection, dirty, "id", stains)
    _corrections(connection, old, new, stays, pairs)
    _memos(connection, old, new, is_later=is_later)
    renames.absorb(connection, gone, Rename(stays, old, new, now, who))
    delete_keys(connection, series, "id", list(pairs))
    connection.execute(delete(device).where(device.c.id == gone))
    connection.execute(delete(memo).where(memo.c.name == _MERGING))


def _last(catalog: Catalog, number: int) -> int:
    return max((entry.last or 0 for entry in catalog.by_device.get(number, [])), default=0)


def _series(connection: Connection, source: int, target: int) -> None:
    """When the series began, its newest value, and its plain rows, which were made anew."""
    firsts = connection.scalars(select(series.c.first).where(series.c.id.in_((source, target))))
    first = min((time for time in firsts if time is not None), default=None)
    connection.execute(update(series).where(series.c.id == target).values(first=first))
    last = {
        row.series_id: row.time
        for row in connection.execute(select(newest))
        if row.series_id in (source, target)
    }
    if source in last:
        loser = target if last.get(target, -1) < last[source] else source
        connection.execute(delete(newest).where(newest.c.series_id == loser))
        moved = update(newest).where(newest.c.series_id == source)
        connection.execute(moved.values(series_id=target))
    connection.execute(delete(sample).where(sample.c.series == source))


def _rollups(connection: Connection, source: int, target: int) -> None:
    """Moves the roll-ups of days whose samples are deleted; the others were made anew."""
    days = [
        set(connection.scalars(select(rollup.c.day).where(_within(number))))
        for number in (source, target)
    ]
    left = sorted(days[0] - days[1])
    for start in range(0, len(left), CHUNK):
        keys = [rollup_id(source, day) for day in left[start : start + CHUNK]]
        moved = {
            "id": rollup.c.id + (rollup_id(target, 0) - rollup_id(source, 0)),
            "series_id": target,
        }
        connection.execute(update(rollup).where(rollup.c.id.in_(keys)).values(moved))
    connection.execute(delete(rollup).where(_within(source)))


def _within(number: int) -> ColumnElement[bool]:
    return rollup.c.id.between(rollup_id(number, 0), rollup_id(number + 1, 0) - 1)


def _hours(connection: Connection, pairs: Pairs, catalog: Catalog) -> None:
    """The same of the plain rows of hours, whose keys begin with the time."""
    entries = [catalog.by_id[number] for number in pairs]
    first = min((entry.first for entry in entries if entry.first is not None), default=0) // HOUR
    last = max((entry.last for entry in entries if entry.last is not None), default=0) // HOUR
    for start in range(first, last + 1, CHUNK):
        end = min(start + CHUNK, last + 1)
        within = hour.c.id.between(hour_id(0, start), hour_id(0, end) - 1)
        keys = set(connection.scalars(select(hour.c.id).where(within)))
        for key in [key for key in keys if key & _LOW in pairs]:
            source = key & _LOW
            moved = key - source + pairs[source]
            same = hour.c.id == key
            if moved in keys:
                connection.execute(delete(hour).where(same))
            else:
                connection.execute(update(hour).where(same).values(id=moved))


def _corrections(connection: Connection, old: str, new: str, stays: int, pairs: Pairs) -> None:
    """What stood where something was marked can still be put back."""
    statement = (
        select(corrected.c.id, corrected.c.body)
        .join(correction, correction.c.id == corrected.c.correction_id)
        .where(correction.c.device == old)
    )
    for row in connection.execute(statement).all():
        chunk = blocks.decode(row.body)
        columns = (
            column._replace(series=pairs.get(column.series, column.series))
            for column in chunk.columns
        )
        ordered = tuple(sorted(columns, key=lambda column: column.series))
        body = blocks.encode(Chunk(stays, chunk.times, ordered))
        connection.execute(update(corrected).where(corrected.c.id == row.id).values(body=body))
    theirs = correction.c.device == old
    connection.execute(update(correction).where(theirs).values(device=new))


def _memos(connection: Connection, old: str, new: str, *, is_later: bool) -> None:
    """What rooms remember of the later one stays; when its meter was replaced, of both."""
    both = [*replacements.read(connection, old), *replacements.read(connection, new)]
    for name in list(_ending(connection, old)):
        stem = name.removesuffix(old)
        loser = f"{stem}{new}" if is_later else name
        connection.execute(delete(memo).where(memo.c.name == loser))
        connection.execute(update(memo).where(memo.c.name == name).values(name=f"{stem}{new}"))
    if both:
        replacements.write(connection, new, both)


def _ending(connection: Connection, name: str) -> Iterator[str]:
    return (key for key in connection.scalars(select(memo.c.name)) if key.endswith(f" {name}"))
