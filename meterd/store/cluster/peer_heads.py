"""Peer heads: what other meterds on this store committed and no block holds yet.

Each of our beats looks at the WAL: rows of devices that are not ours come into memory, as
our own polls are, until their meterd seals them. So what another one committed is seen here
half a lease later at most, and what it sealed is in the blocks. Some of that never was in the
journal when we looked, imports above all, so which series there are is looked at, too.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from threading import Lock

from sqlalchemy import Connection, and_, func, or_, select

from meterd.errors import StoreError
from meterd.model.sample import Poll
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk
from meterd.store.db.schema import journal
from meterd.store.head.catalog import Catalog, Name, series_checksum
from meterd.store.head.head import Head, SeriesBatch
from meterd.store.head.replay import PollDecoder

_SOME = 200  # devices in one statement


_Found = list[tuple[int, list[Chunk]]]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The WAL rows of one device: how many, and the keys of the first and the last."""

    count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Peer:
    """A device that another meterd polls, as far as its journal was read."""

    rows: _Rows
    head: Head
    newest: Mapping[tuple[str, ...], Poll]  # of each set of columns


@dataclass(slots=True)
class PeerHeads:
    """`look` is called in the leases' thread, the rest by readers.

    `adopted` are the devices whose journal our own writer has read. `guard` is held by whoever
    adds to the catalog what other meterds have made.
    """

    catalog: Catalog | None = None
    adopted: frozenset[int] = frozenset()
    heads: Mapping[str, Head] = field(default_factory=dict)  # never changed, but replaced
    guard: Lock = field(default_factory=Lock)
    _ours: frozenset[int] = frozenset()
    _known: dict[int, _Peer] = field(default_factory=dict)
    _sums: tuple[object, ...] = ()  # of the series, when the catalog learned them

    def look(self, connection: Connection, held: Iterable[int], *, renamed: bool = False) -> None:
        """Reads what is new. `held` are the devices that are leased to us. Raises StoreError.

        `renamed`: some are called otherwise than at the last look.
        """
        catalog = self.catalog
        if catalog is None:
            return
        checksum = series_checksum(connection)
        if renamed or checksum != self._sums:
            with self.guard:
                catalog.learn(connection, self.adopted)
            self._sums = checksum
        if renamed:
            for peer in self._known.values():
                peer.head.follow()
        # What was just adopted is shown from here once more, so that it is never missing.
        before, self._ours = self._ours, self.adopted.intersection(held)
        rows_by_device = _counted(connection, before & self._ours)
        peers = {
            device: self._known[device] for device in rows_by_device.keys() & self._known.keys()
        }
        peers = {
            device: peer
            for device, peer in peers.items()
            if _goes_on(peer.rows, rows_by_device[device])
        }
        changed = [
            device
            for device, rows in rows_by_device.items()
            if device not in peers or peers[device].rows != rows
        ]
        lasts = {device: peers[device].rows.last if device in peers else 0 for device in changed}
        news = _read(connection, lasts)
        self._learn(connection, catalog, news)
        for device, rows in news.items():
            peers[device] = _more(peers.get(device), rows, catalog)
        self._known = peers
        names = catalog.names
        self.heads = {names[device]: peer.head for device, peer in peers.items() if device in names}

    def newest(self) -> list[Poll]:
        """The polls that hold the newest values of each device, oldest first."""
        former = self.catalog.renamed if self.catalog is not None else {}
        polls = (poll for peer in self._known.values() for poll in peer.newest.values())
        called = (
            replace(poll, device=former[poll.device]) if poll.device in former else poll
            for poll in polls
        )
        return sorted(called, key=attrgetter("time"))

    def _learn(self, connection: Connection, catalog: Catalog, news: Mapping[int, _Found]) -> None:
        chunks = (chunk for rows in news.values() for _, of_row in rows for chunk in of_row)
        if any(not _is_known(chunk, catalog) for chunk in chunks):
            with self.guard:
                catalog.learn(connection, self.adopted)


def _is_known(chunk: Chunk, catalog: Catalog) -> bool:
    is_series_known = (column.series in catalog.by_id for column in chunk.columns)
    return chunk.device in catalog.names and all(is_series_known)


def _goes_on(before: _Rows, now: _Rows) -> bool:
    """Whether rows were added at most: where some were sealed, all are read again."""
    return before.first == now.first and before.count <= now.count and before.last <= now.last


def _counted(connection: Connection, ours: frozenset[int]) -> dict[int, _Rows]:
    owner, key = journal.c.device_id, journal.c.id
    statement = select(owner, func.count(), func.min(key), func.max(key)).group_by(owner)
    rows = connection.execute(statement.where(owner.is_not(None)))
    return {device: _Rows(*counted) for device, *counted in rows if device not in ours}


def _read(connection: Connection, lasts: Mapping[int, int]) -> dict[int, _Found]:
    """The rows of each device that came after its last one, oldest first."""
    by_device: dict[int, _Found] = {}
    owner, key, body = journal.c.device_id, journal.c.id, journal.c.body
    devices = sorted(lasts)
    for start in range(0, len(devices), _SOME):
        batch = devices[start : start + _SOME]
        news = or_(*(and_(owner == device, key > lasts[device]) for device in batch))
        for row in connection.execute(select(owner, key, body).where(news).order_by(key)):
            # Its own meterd sees to one that cannot be read.
            with suppress(StoreError):
                by_device.setdefault(row.device_id, []).append(
                    (row.id, commit_record.decode(row.body))
                )
    return by_device


def _more(before: _Peer | None, rows: _Found, catalog: Catalog) -> _Peer:
    """The peer's head with these rows added."""
    head = before.head if before is not None else Head(catalog.renamed)
    newest = dict(before.newest) if before is not None else {}
    polls = PollDecoder(lambda number: catalog.by_id[number].name)
    for _, listed in rows:
        chunks = [chunk for chunk in listed if _is_known(chunk, catalog)]
        decoded = (polls.of(chunk, catalog.names[chunk.device]) for chunk in chunks)
        for poll in sorted(chain.from_iterable(decoded), key=attrgetter("time")):
            head.take(poll)
            columns = poll.layout.quantities
            if columns not in newest or newest[columns].time <= poll.time:
                newest[columns] = poll
        _widen(chunks, catalog)
    keys = [key for key, _ in rows]
    first = before.rows.first if before is not None else keys[0]
    count = len(keys) + (before.rows.count if before is not None else 0)
    return _Peer(_Rows(count, first, keys[-1]), head, newest)


def _widen(chunks: Iterable[Chunk], catalog: Catalog) -> None:
    """As `Catalog.note`, but leaves the time of a series' first sample to its own meterd."""
    for chunk in chunks:
        for column in chunk.columns:
            series = catalog.by_id[column.series]
            series.widen(chunk.times[column.rows[0]], chunk.times[column.rows[-1]])


class ClusterHead:
    """What readers see: our head, and of other devices what their meterds committed."""

    def __init__(self, own: Head, others: PeerHeads) -> None:
        self._own = own
        self._others = others

    def batches(
        self, device: str, *, kept: bool = False, within: tuple[int, int] | None = None
    ) -> list[SeriesBatch]:
        # Ours come last: the last one of a time counts.
        peer = self._others.heads.get(device)
        batches = peer.batches(device, within=within) if peer is not None else []
        return [*batches, *self._own.batches(device, kept=kept, within=within)]

    def names(self) -> set[Name]:
        return self._own.names().union(*(head.names() for head in self._others.heads.values()))

    def extents(self) -> dict[Name, tuple[int, int]]:
        extents = self._own.extents()
        for head in self._others.heads.values():
            for name, (first, last) in head.extents().items():
                extent = extents.get(name, (first, last))
                extents[name] = min(extent[0], first), max(extent[1], last)
        return extents

    def newest(self) -> dict[str, int]:
        times = self._own.newest()
        for head in self._others.heads.values():
            for name, time in head.newest().items():
                times[name] = max(time, times.get(name, time))
        return times

    def devices(self) -> list[str]:
        return list({*self._own.devices(), *self._others.heads})

    def oldest(self, device: str) -> int | None:
        peer = self._others.heads.get(device)
        times = [self._own.oldest(device), peer.oldest(device) if peer is not None else None]
        return min((time for time in times if time is not None), default=None)
