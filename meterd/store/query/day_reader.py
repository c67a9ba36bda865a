"""Samples with their qualities, a device and UTC day at a time: for exports and corrections."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from meterd.store.blocks import block as blocks
from meterd.store.blocks import slicing
from meterd.store.blocks.chunk import Chunk, merge
from meterd.store.blocks.slicing import DAY
from meterd.store.db.connections import Database
from meterd.store.db.keys import block_ids, dirty_of, rollup_id
from meterd.store.db.schema import block, dirty, rollup
from meterd.store.head.catalog import Catalog, Name
from meterd.store.head.view import ReadableHead

# Numbers of series that no commit has numbered yet, as long as one answer lives.
_PROVISIONAL = 1 << 30


@dataclass(frozen=True, slots=True)
class DaySamples:
    """The samples of one device and day; `names` are those of its columns."""

    chunk: Chunk
    names: Mapping[int, Name]


class _Naming:
    """The catalogue's numbers, and provisional ones for series that have none yet."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.names: dict[int, Name] = {}
        self._own: dict[Name, int] = {}

    def __call__(self, device: str, quantity: str, unit: str) -> int:
        name = device, quantity, unit
        series = self._catalog.series.get(name)
        number = series.id if series else self._own.setdefault(name, _PROVISIONAL + len(self._own))
        self.names[number] = name
        return number


def day_samples(
    database: Database,
    head: ReadableHead,
    catalog: Catalog,
    device: str,
    day: int,
    wanted: Container[Name],
) -> DaySamples | None:
    """The wanted series of a device on a UTC day (days since 1970), committed or not.

    None where there is nothing. Raises StoreError.
    """
    naming = _Naming(catalog)
    # Memory first: what is sealed in between is then seen twice, never not at all.
    recent = list(_recent(head, device, day, naming, wanted))
    parts: list[Chunk] = []
    if device in catalog.devices and database.made():
        with database.reading() as connection:
            parts = list(_stored(connection, catalog, device, day, wanted))
    # In memory a device that is not committed has no number, and both have to be one device's.
    number = catalog.devices.get(device, 0)
    chunks = [Chunk(number, chunk.times, tuple(chunk.columns)) for chunk in (*parts, *recent)]
    if not chunks:
        return None
    chunk = merge(chunks)
    stored = {entry.id: entry.name for entry in catalog.by_device.get(number, ())}
    return DaySamples(chunk, {**naming.names, **stored}) if chunk.columns else None


@dataclass(frozen=True, slots=True)
class DayList:
    """UTC days since 1970: `there` are all on which a series has samples, and perhaps some without;
    `rolled` those with a roll-up that counts some, whose raw samples may be deleted by now."""

    there: set[int]
    rolled: set[int]


def days_with_samples(
    database: Database, head: ReadableHead, catalog: Catalog, name: Name
) -> DayList:
    """The days of a series. Raises StoreError."""
    extent = head.extents().get(name)
    in_head = set() if extent is None else set(range(extent[0] // DAY, extent[1] // DAY + 1))
    series = catalog.series.get(name)
    if series is None or not database.made():
        return DayList(in_head, set())
    number = catalog.devices[name[0]]
    keys = rollup.c.id.between(rollup_id(series.id, 0), rollup_id(series.id + 1, 0) - 1)
    with database.reading() as connection:
        rolled = set(connection.scalars(select(rollup.c.day).where(keys, rollup.c.n > 0)))
        waiting = map(dirty_of, connection.scalars(select(dirty.c.id)))
        open_days = {day for device, day in waiting if device == number}
    return DayList(in_head | rolled | open_days, rolled - in_head - open_days)


def _stored(
    connection: Connection, catalog: Catalog, device: str, day: int, wanted: Container[Name]
) -> Iterator[Chunk]:
    number = catalog.devices[device]
    ids = {entry.id for entry in catalog.by_device.get(number, ()) if entry.name in wanted}
    statement = select(block.c.body).where(block.c.id.in_(block_ids(number, day)))
    for body in connection.scalars(statement.order_by(block.c.id)):
        yield blocks.decode(body, ids)


def _recent(
    head: ReadableHead, device: str, day: int, naming: _Naming, wanted: Container[Name]
) -> Iterator[Chunk]:
    start, end = day * DAY, (day + 1) * DAY
    for batch in head.batches(device, within=(start, end)):
        for chunk in batch.unnumbered().chunks(0, naming):
            part = slicing.since(slicing.until(chunk, end), start)
            columns = (column for column in part.columns if naming.names[column.series] in wanted)
            if part.times:
                yield Chunk(0, part.times, tuple(columns))
