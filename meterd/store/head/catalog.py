"""The catalogue: numbers of devices and series, and the first and last sample of each series."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from meterd.model.quantity import Kind, declare, describe, is_own
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.db import renames
from meterd.store.db.file_identity import FileIdentities
from meterd.store.db.keys import MOST_DEVICES, MOST_TIME, block_ids, rollup_id
from meterd.store.db.schema import block, device, newest, rollup, series

Name = tuple[str, str, str]
"""Device, quantity, unit: together they name a series."""

SERIES_BITS = 16
_OPEN_DAYS = 3  # a day is closed when the next one is over, at the latest
_DAY_ENDS = select(rollup.c.first_time, rollup.c.last_time).where(
    rollup.c.id.between(bindparam("low"), bindparam("high")), rollup.c.n > 0
)
_FIRST_DAY = _DAY_ENDS.order_by(rollup.c.id).limit(1)
_LAST_DAY = _DAY_ENDS.order_by(rollup.c.id.desc()).limit(1)


@dataclass(slots=True)
class CatalogSeries:
    """One series. Times are Unix ms of its first and last sample; None while it has none."""

    id: int
    name: Name
    kind: Kind
    first: int | None = None
    last: int | None = None

    def widen(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def widen_to(self, *times: int | None) -> None:
        """Extends the series to those of these times that are known."""
        for time in times:
            if time is not None:
                self.widen(time, time)


class Catalog:
    """Every device and series that the store knows. New ones are made by the writer alone."""

    def __init__(self) -> None:
        self.shared = False  # whether other meterds number series, too (cluster/leases.py)
        self.files: FileIdentities | None = None  # of the database that the numbers are of
        self.doubted = False  # a reader has met a row that no meterd wrote
        self.readers: list[Callable[[], None]] = []  # have each close what it keeps open
        # Names that devices had and none has now, by what they are called now. One object for all
        # time: the memory (head.py) has it, too.
        self.renamed: dict[str, str] = {}
        self._reclaimed: set[str] = set()  # of these, names of other devices that come
        self.forget()

    def forget(self) -> None:
        """Forgets all numbers: another database has replaced the former one.

        A reader may look at any moment, and finds the old numbers or none.
        """
        self.series: dict[Name, CatalogSeries] = {}
        self.by_id: dict[int, CatalogSeries] = {}
        self.by_device: dict[int, list[CatalogSeries]] = {}
        self.devices: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.sunk: dict[int, int] = {}  # series whose first time is earlier than the store says
        self._next = 1
        self._new_devices: list[dict[str, object]] = []
        self._new_series: list[dict[str, object]] = []
        # Users' own series whose map says now that they count, or that they do not.
        self._turned: list[dict[str, object]] = []

    def doubt(self) -> None:
        self.doubted = True

    def let_go(self) -> None:
        """Makes all readers close their connections to the former database."""
        for close in list(self.readers):
            close()

    def load(self, connection: Connection) -> None:
        """Adds what the database has to what is known. Raises SQLAlchemy's errors."""
        made = self._learn_names(connection)
        # A commit whose confirmation was lost may have made them after all; and a database
        # that was put in the place of another one may lack some that were made.
        self._new_devices = [
            {"id": number, "name": name}
            for number, name in self.names.items()
            if number not in made
        ]
        made = set()
        lasts, extents = _lasts(connection), _Extents(connection)
        for row in connection.execute(select(series)).all():
            made.add(row.id)
            if row.id not in self.by_id:
                first, last = row.first, lasts.get(row.id)
                if (first is None) != (last is None):
                    first, last = extents.of(row.id, row.device_id, first, last)
                self._add_row(row, first, last)
        self._new_series = [
            self._row(entry) for entry in self.by_id.values() if entry.id not in made
        ]

    def learn(self, connection: Connection, ours: Container[int] = ()) -> None:
        """Devices and series that other meterds have made since, and how far they reach by now
        (cluster/peer_heads.py). `ours`: devices of which nobody but we writes that."""
        self._learn_names(connection)
        rows, lasts = connection.execute(select(series)).all(), _lasts(connection)
        for row in rows:
            entry, last = self.by_id.get(row.id), lasts.get(row.id)
            if entry is None:
                self._add_row(row, row.first, last)
            elif row.device_id not in ours:
                entry.widen_to(row.first, last)

    def _learn_names(self, connection: Connection) -> set[int]:
        """Reads the devices and their present names; returns their numbers."""
        made = set()
        for row in connection.execute(select(device)):
            made.add(row.id)
            if (before := self.names.get(row.id)) not in (None, row.name):
                self.rename(str(before), row.name)
            self.names[row.id] = row.name
            self.devices[row.name] = row.id
        former = {
            old: new
            for old, new in renames.former(connection).items()
            if old not in self.devices and old not in self._reclaimed
        }
        self.renamed.update(former)
        for old in self.renamed.keys() - former.keys():
            self.renamed.pop(old, None)
        return made

    def rename(self, old: str, new: str) -> None:
        """Renames a device. Other threads read meanwhile: each step leaves a consistent state."""
        number = self.devices[old]
        mine = self.by_device.get(number, [])
        keys = {entry.id: entry.name for entry in mine}
        self.series = {**self.series, **{(new, *entry.name[1:]): entry for entry in mine}}
        self.devices[new], self.names[number] = number, new
        for entry in mine:
            entry.name = new, *entry.name[1:]
        self._reclaimed.discard(old)
        self.renamed.pop(new, None)
        self.renamed.update(
            {name: new for name, now in self.renamed.items() if now == old} | {old: new}
        )
        gone = set(keys.values())
        self.series = {name: entry for name, entry in self.series.items() if name not in gone}
        del self.devices[old]

    def absorb(self, old: str, new: str) -> None:
        """Merges a device's series into another device's, as the store has done."""
        gone = self.devices[old]
        mine = self.by_device.pop(gone, [])
        for entry in mine:
            target = self.series.get((new, *entry.name[1:]))
            if target is not None and entry.first is not None and entry.last is not None:
                target.widen(entry.first, entry.last)
        self.renamed.update(
            {name: new for name, now in self.renamed.items() if now == old} | {old: new}
        )
        ids = {entry.id for entry in mine}
        self.series = {name: entry for name, entry in self.series.items() if entry.id not in ids}
        for number in ids:
            del self.by_id[number]
            self.sunk.pop(number, None)
        del self.devices[old], self.names[gone]

    def reclaim(self, name: str) -> None:
        """A former name is that of another device from now on."""
        self._reclaimed.add(name)
        self.renamed.pop(name, None)

    def _add_row(self, row: Any, first: int | None, last: int | None) -> None:
        """A series of the store, and the times of its first and newest sample, if it has any."""
        name = self.names[row.device_id], row.quantity, row.unit
        kind = Kind(row.kind)
        if is_own(row.quantity):
            declare(row.quantity, row.unit, kind, stored=True)
            described = describe(row.quantity, row.unit)
            if described is not None and described.kind is not kind:
                kind = described.kind
                self._turned.append({"number": row.id, "kind": kind})
        entry = CatalogSeries(row.id, name, kind)
        if first is not None:
            entry.widen(first, first if last is None else last)
        self._add(entry, row.device_id)

    def _add(self, entry: CatalogSeries, owner: int) -> None:
        self._next = max(self._next, entry.id + 1)
        # A reader may look at any moment: the entry is whole before it can be found.
        self.by_id[entry.id] = entry
        self.by_device[owner] = [*self.by_device.get(owner, ()), entry]
        self.series[entry.name] = entry

    def device(self, name: str) -> int:
        """The device's number; a new device gets the next one, as there is one writer only."""
        name = self.renamed.get(name, name)
        if name not in self.devices:
            new = max(self.names, default=0) + 1
            if new >= MOST_DEVICES:
                raise OverflowError(f"a store holds {MOST_DEVICES - 1} devices at most")
            self.devices[name] = new
            self.names[new] = name
            self._new_devices.append({"id": new, "name": name})
        return self.devices[name]

    def owner(self, number: int) -> int:
        """The number of a series' device."""
        return self.devices[self.by_id[number].name[0]]

    def series_id(self, owner: str, quantity: str, unit: str) -> int:
        """The series' number; a new one is inserted by `settle`."""
        name = self.renamed.get(owner, owner), quantity, unit
        entry = self.series.get(name)
        if entry is None:
            entry = self._make(name)
        return entry.id

    def _make(self, name: Name) -> CatalogSeries:
        described = describe(name[1], name[2])
        kind = described.kind if described else Kind.GAUGE
        owner = self.device(name[0])
        entry = CatalogSeries(self._number(owner), name, kind)
        self._add(entry, owner)
        self._new_series.append(self._row(entry))
        return entry

    def _number(self, owner: int) -> int:
        """The next free number of a series; in a cluster each device has a range of its own."""
        if not self.shared:
            return self._next
        first = owner << SERIES_BITS
        ours = (entry.id for entry in self.by_device.get(owner, ()))
        number = max((used for used in ours if used >> SERIES_BITS == owner), default=first) + 1
        while number in self.by_id:
            number += 1
        return number

    def abandon(self, held: Container[int]) -> None:
        """Forgets series without a row in the database whose devices are not held here."""
        for row in [row for row in self._new_series if row["device_id"] not in held]:
            entry = self.by_id.pop(int(str(row["id"])))
            self._new_series.remove(row)
            del self.series[entry.name]
            owner = self.devices[entry.name[0]]
            self.by_device[owner] = [other for other in self.by_device[owner] if other is not entry]

    def _row(self, entry: CatalogSeries) -> dict[str, object]:
        owner, quantity, unit = entry.name
        row = {"id": entry.id, "device_id": self.devices[owner], "quantity": quantity}
        return {**row, "unit": unit, "kind": entry.kind}

    @property
    def fresh(self) -> bool:
        """Whether there are names that the store does not have."""
        return bool(self._new_devices or self._new_series or self._turned)

    def note(self, chunks: Iterable[Chunk]) -> None:
        """These are in the store."""
        for chunk in chunks:
            for column in chunk.columns:
                first, last = chunk.times[column.rows[0]], chunk.times[column.rows[-1]]
                self.note_extent((column.series,), first, last)

    def note_extent(self, ids: Iterable[int], first: int, last: int) -> None:
        """Samples of these series from `first` to `last` (Unix ms) are in the store."""
        for number in ids:
            entry = self.by_id[number]
            if entry.first is not None and first < entry.first:
                self.sunk[entry.id] = first
            entry.widen(first, last)

    def settle(self, connection: Connection, chunks: Iterable[Chunk]) -> None:
        """Writes the new devices and series, whose first samples are in `chunks`."""
        if self._new_devices:
            connection.execute(insert(device), self._new_devices)
        for row in self._turned:
            turned = update(series).where(series.c.id == row["number"])
            connection.execute(turned.values(kind=row["kind"]))
        if self._new_series:
            firsts = _firsts(chunks)
            self._new_series = [
                {**row, "first": self._first(row["id"], firsts)} for row in self._new_series
            ]
            # A fleet that starts makes thousands of series at once.
            connection.execute(insert(series), self._new_series)

    def _first(self, number: object, firsts: dict[object, int]) -> int | None:
        # One that an earlier database had is known from before.
        stored = self.by_id[number].first if isinstance(number, int) else None
        times = [time for time in (stored, firsts.get(number)) if time is not None]
        return min(times, default=None)

    def settled(self) -> None:
        """What `settle` wrote is committed."""
        for row in self._new_series:
            number, first = row["id"], row.get("first")
            if isinstance(number, int) and isinstance(first, int):
                # What is earlier, and comes later, is noticed as such.
                self.by_id[number].widen(first, first)
        self._new_devices.clear()
        self._new_series.clear()
        self._turned.clear()


def series_checksum(connection: Connection) -> tuple[object, ...]:
    """Changes where series were added or reach to other times."""
    firsts = connection.execute(select(func.count(), func.sum(series.c.first))).one()
    lasts = connection.execute(select(func.count(), func.sum(newest.c.time))).one()
    return *firsts, *lasts


def _lasts(connection: Connection) -> dict[int, int]:
    """The newest time (Unix ms) by series; rows with an impossible time are left out."""
    rows = connection.execute(select(newest.c.series_id, newest.c.time))
    return {
        number: time for number, time in rows if isinstance(time, int) and 0 <= time <= MOST_TIME
    }


class _Extents:
    """First and last times of series whose rows lack one of them, from blocks and roll-ups."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ends: dict[tuple[int, int], int | None] = {}  # by device and day

    @cached_property
    def _has_rollups(self) -> bool:
        return self._connection.scalar(select(rollup.c.id).limit(1)) is not None

    def of(
        self, number: int, owner: int, first: int | None, last: int | None
    ) -> tuple[int | None, int | None]:
        """Unix ms; None where nothing of the series is there."""
        if self._has_rollups:
            keys = {"low": rollup_id(number, 0), "high": rollup_id(number + 1, 0) - 1}
            for row in self._connection.execute(_FIRST_DAY, keys):
                first = row.first_time if first is None else first
            for row in self._connection.execute(_LAST_DAY, keys):
                last = row.last_time if last is None else last
        if last is not None and first is None:
            first = last - last % DAY
        if first is not None:
            # Days that are not closed yet have blocks only.
            end = self._end(owner, (first if last is None else last) // DAY)
            last = max((time for time in (last, end) if time is not None), default=None)
        return first, last

    def _end(self, owner: int, day: int) -> int | None:
        """The last time in a device's blocks of some days."""
        if (owner, day) not in self._ends:
            keys = [key for later in range(_OPEN_DAYS) for key in block_ids(owner, day + later)]
            newest_end = select(func.max(block.c.t1)).where(block.c.id.in_(keys))
            self._ends[owner, day] = self._connection.scalar(newest_end)
        return self._ends[owner, day]


def _firsts(chunks: Iterable[Chunk]) -> dict[object, int]:
    firsts: dict[object, int] = {}
    for chunk in chunks:
        for column in chunk.columns:
            time = chunk.times[column.rows[0]]
            firsts[column.series] = min(time, firsts.get(column.series, time))
    return firsts


def with_samples(listed: Iterable[CatalogSeries]) -> Iterator[CatalogSeries]:
    """Those that have samples."""
    return (each for each in listed if each.first is not None and each.last is not None)
