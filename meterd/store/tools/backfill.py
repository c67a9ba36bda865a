"""Backfill: imported rows become polls of the past, compacted at once."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Set
from functools import lru_cache
from itertools import islice

from sqlalchemy import Connection, select

from meterd.model.sample import Layout, Poll, Quality, QualityFlag
from meterd.store.blocks.slicing import DAY
from meterd.store.db.connections import Database
from meterd.store.db.keys import block_id, rollup_id
from meterd.store.db.migrate import is_current
from meterd.store.db.schema import block, rollup
from meterd.store.head.catalog import Catalog
from meterd.store.tools.csv_import import ImportedSample
from meterd.store.writer import Writer

_BATCH = 20_000  # rows that are in memory at a time
_SEAL = 400_000  # samples between two times of sealing


def forgotten(database: Database, days: Set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the days (device, since 1970) whose samples are deleted, and roll-ups are left.

    Roll-ups are made anew of what there is, so those of a whole day would become those of the
    rows that are imported. Raises StoreError.
    """
    if not days or not database.made():
        return []
    first, last = min(day for _, day in days), max(day for _, day in days)
    with database.reading() as connection:
        if not is_current(connection):
            return []
        catalog = Catalog()
        catalog.load(connection)
        rolled = _rolled(connection, catalog, {device for device, _ in days}, first, last)
        near = block.c.id.between(block_id(0, first * DAY), block_id(0, (last + 1) * DAY))
        statement = select(block.c.device_id, block.c.t0).where(near)
        there = {
            (catalog.names.get(row[0], ""), row[1] // DAY) for row in connection.execute(statement)
        }
    return sorted((days & rolled) - there)


def _rolled(
    connection: Connection, catalog: Catalog, devices: Set[str], first: int, last: int
) -> set[tuple[str, int]]:
    """The days of which these devices have roll-ups of samples."""
    days: set[tuple[str, int]] = set()
    for device in devices & catalog.devices.keys():
        for entry in catalog.by_device.get(catalog.devices[device], ()):
            keys = rollup.c.id.between(rollup_id(entry.id, first), rollup_id(entry.id, last))
            statement = select(rollup.c.day).where(keys, rollup.c.n > 0)
            days.update((device, day) for day in connection.scalars(statement))
    return days


async def backfill(
    writer: Writer,
    rows: Iterable[ImportedSample],
    note: Callable[[int], None],
    *,
    closing: bool = True,
) -> int:
    """Takes rows as late polls and seals them; how many samples. The last of a time wins.

    `note` is called with how many more there are. Without `closing` their days stay open, for
    who changes them next, and settles. Raises StoreError.
    """
    each, count, waiting = iter(rows), 0, 0
    # Off the loop: rows are read out of a file, and there may be polls beside them.
    while some := await asyncio.to_thread(_take_some, writer, each):
        await writer.flush()
        count, waiting = count + some, waiting + some
        note(some)
        if waiting >= _SEAL:
            await writer.seal()
            waiting = 0
    await (writer.settle() if closing else writer.seal())
    return count


def _take_some(writer: Writer, each: Iterator[ImportedSample]) -> int:
    """The next rows, as polls; how many rows."""
    some = list(islice(each, _BATCH))
    for poll in polls(some):
        writer.take(poll)
    return len(some)


def polls(rows: Iterable[ImportedSample]) -> Iterator[Poll]:
    """Samples of one device and time become one poll."""
    cells: dict[tuple[str, int], dict[tuple[str, str], ImportedSample]] = {}
    for row in rows:
        cells.setdefault((row.device, row.time), {})[row.quantity, row.unit] = row
    for (device, time), columns in sorted(cells.items()):
        layout = _layout(tuple(sorted(columns)))
        of_time = [columns[column] for column in sorted(columns)]
        doubts = {
            place: QualityFlag(row.quality, row.reason)
            for place, row in enumerate(of_time)
            if row.quality is not Quality.GOOD or row.reason
        }
        yield Poll(device, time, layout, tuple(row.value for row in of_time), doubts)


@lru_cache(1024)
def _layout(columns: tuple[tuple[str, str], ...]) -> Layout:
    return Layout.of(columns)
