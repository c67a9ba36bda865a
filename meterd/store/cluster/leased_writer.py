"""The rights of one of several meterds: it writes for the devices that are leased to it alone."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from meterd.errors import StoreError
from meterd.store.blocks import commit_record
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.cluster.lease_state import DeviceLease, LeaseState
from meterd.store.compaction.session import StoreSession
from meterd.store.db import plain_rows
from meterd.store.db.connections import Opened, Transactions
from meterd.store.db.keys import DEVICE_BITS, block_id, dirty_of
from meterd.store.db.quarantine import DamageError
from meterd.store.db.schema import block, dirty, journal, lease
from meterd.store.db.statements import Row
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import replay

_log = logging.getLogger(__name__)


class LeasedWriter:
    """The rights of one of several meterds: a WAL row for each device and commit.

    Their keys are `number << 14 | device`. It is about what is held when it is made; once that
    differs it is of no use.
    """

    def __init__(self, share: LeaseState, catalog: Catalog) -> None:
        self._share = share
        self._catalog = catalog
        self.held = dict(share.held)
        self._ours = {lease.id: lease.token for lease in self.held.values()}
        # Whether an older store is in the place of the one that was known: what is in memory has
        # to go there again.
        self.behind = False

    @property
    def is_owner(self) -> bool:
        return False

    def enter(self, opened: Opened) -> None:
        """Leases are taken by a thread of their own (leases.py)."""

    def loading(self) -> AbstractContextManager[object]:
        return self._share.others.guard

    def admit(self, connection: Connection) -> None:
        """Admits a database that other meterds write to as well."""

    def first_number(self, session: Transactions) -> int:
        renamed = self._catalog.renamed
        self.held = {renamed.get(name, name): lease for name, lease in self.held.items()}
        with session.transaction() as connection:
            number = self._split(connection)
            self.behind = self._is_behind(connection)
        self._share.others.adopted = frozenset(self._ours)
        return number

    def _is_behind(self, connection: Connection) -> bool:
        share = self._share
        there = connection.execute(select(lease).where(lease.c.device_id.in_(self._ours))).all()
        lacks = share.lacks(there)
        # From now on this one is what is known.
        share.counts = {row.device_id: row.writes for row in there}
        return lacks

    def fence(self, connection: Connection, devices: Iterable[int] | None) -> Mapping[int, int]:
        about = self._ours if devices is None else devices
        return self._share.fence(connection, about, self._ours)

    def confirmed(self, fenced: Mapping[int, int]) -> None:
        self._share.counts.update(fenced)

    def leave(self, opened: Opened) -> None:
        """Leases are given up by their own thread."""

    def may_write(self, device: int) -> bool:
        return device in self._ours

    def rows(self, number: int, chunks: Sequence[Chunk], digits: dict[int, int]) -> list[Row]:
        # Layouts that take turns are chunks of their own (head/replay.py).
        by_device: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            by_device.setdefault(chunk.device, []).append(chunk)
        return [
            {
                "id": number << DEVICE_BITS | device,
                "device_id": device,
                "body": commit_record.encode(some, digits),
            }
            for device, some in by_device.items()
        ]

    def carried(self, number: int, body: bytes, digits: dict[int, int]) -> list[Row]:
        ours = [chunk for chunk in commit_record.decode(body) if chunk.device in self._ours]
        return self.rows(number, ours, digits)

    def keys(self, numbers: Sequence[int]) -> list[int]:
        return [number << DEVICE_BITS | device for number in numbers for device in self._ours]

    def numbers(self, connection: Connection) -> list[int]:
        mine = select(journal.c.id).where(journal.c.device_id.in_(self._ours))
        return sorted({key >> DEVICE_BITS for key in connection.scalars(mine)})

    def wal(self, session: Transactions) -> Iterator[tuple[int, list[Chunk]]]:
        """Every number of the devices that are held, oldest first."""
        mine = select(journal.c.id, journal.c.body).where(journal.c.device_id.in_(self._ours))
        chunks: dict[int, list[Chunk]] = {}
        with session.transaction() as connection:
            for row in connection.execute(mine.order_by(journal.c.id)):
                try:
                    some = commit_record.decode(row.body)
                except StoreError as error:
                    raise DamageError("journal", row.id, str(error)) from error
                chunks.setdefault(row.id >> DEVICE_BITS, []).extend(some)
        yield from chunks.items()

    def expired(self, connection: Connection, before: int, most: int) -> list[int]:
        """The oldest blocks from before a time (Unix ms), at most `most`, of devices that are held
        here and of those that nobody holds.
        """
        if not self._ours:
            return []
        devices = {*self._ours, *self._share.orphans(connection)}
        old = select(block.c.id).where(_old(connection, devices, before // DAY))
        return list(connection.scalars(old.order_by(block.c.id).limit(most)))

    def forget_plain(self, connection: Connection, before: int) -> bool:
        if not self._ours:
            return False
        devices = {*self._ours, *self._share.orphans(connection)}
        by_device = self._catalog.by_device
        series = [entry.id for device in devices for entry in by_device.get(device, ())]
        return plain_rows.forget(connection, before, of=series)

    def _split(self, connection: Connection) -> int:
        """Rows of a meterd that was alone become rows of one device each; the next number."""
        mine = select(journal.c.id, journal.c.body).where(journal.c.device_id.is_(None))
        alone = list(connection.execute(mine.order_by(journal.c.id).with_for_update()))
        top = connection.scalar(
            select(func.max(journal.c.id)).where(journal.c.device_id.is_not(None))
        )
        number = ((top or 0) >> DEVICE_BITS) + 1
        for row in alone:
            chunks = commit_record.decode(row.body)
            connection.execute(insert(journal), self.rows(number, chunks, {}))
            connection.execute(delete(journal).where(journal.c.id == row.id))
            number += 1
        return number


def _old(connection: Connection, devices: Collection[int], day: int) -> ColumnElement[bool]:
    """Blocks of these devices from before a UTC day, and before their days that are dirty."""
    firsts: dict[int, int] = {}
    for key in sorted(connection.scalars(select(dirty.c.id))):
        owner, first = dirty_of(key)
        if owner in devices and first < day:
            firsts.setdefault(owner, first)
    clean = [device for device in sorted(devices) if device not in firsts]
    return or_(
        block.c.device_id.in_(clean) & (block.c.id < block_id(0, day * DAY)),
        *(
            (block.c.device_id == device) & (block.c.id < block_id(0, first * DAY))
            for device, first in firsts.items()
        ),
    )


def adopted_polls(
    session: StoreSession,
    held: Mapping[str, DeviceLease],
    adopted: Mapping[str, DeviceLease],
    catalog: Catalog,
) -> tuple[Head, dict[int, int]]:
    """The polls in the WAL of devices newly leased, and the newest time (Unix ms) by number of WAL
    row.

    `held` are leased to us now, `adopted` were before.

    Raises StoreError.
    """
    # Read again as a whole: what is here already is the same, and the last one counts.
    head = Head()
    rows = replay(session.journal(), head, catalog)
    for name in head.devices():
        if held.get(name) == adopted.get(name):
            head.drop(name)
    return head, rows


def drop_unleased(head: Head, held: Mapping[str, DeviceLease], catalog: Catalog) -> None:
    """Drops polls of devices that are leased to other meterds: those write them."""
    ours = {lease.id for lease in held.values()}
    for name in head.devices():
        # By its number: a device that was just renamed may be held under its old name.
        number = catalog.devices.get(catalog.renamed.get(name, name))
        if name not in held and number not in ours and (lost := head.drop(name)):
            _log.warning("%d samples of %s are dropped: it is not ours", lost, name)
