"""The ledger of one of several meterds: it writes for the devices that are leased to it alone.

A number of the journal is a row for each device here: `number << 14 | device`.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select

from meterd.errors import StoreError
from meterd.store.blocks import commit_record as journals
from meterd.store.blocks.chunk import Chunk
from meterd.store.blocks.slicing import DAY
from meterd.store.cluster.lease_state import DeviceLease, LeaseState
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.write_batch import WriteBatch
from meterd.store.db import plain_rows
from meterd.store.db.connections import Database
from meterd.store.db.keys import block_id, dirty_of
from meterd.store.db.quarantine import DamageError
from meterd.store.db.schema import block, dirty, journal, lease
from meterd.store.db.statements import Row, delete_keys
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.replay import replay

_BITS = 14

_log = logging.getLogger(__name__)


class LeasedSession(StoreSession):
    """A ledger that touches nothing of other meterds' devices (leases.py)."""

    def __init__(self, database: Database, catalog: Catalog, share: LeaseState) -> None:
        """It is about what is held now; once that differs it is of no use. Raises StoreError.

        `behind`: an older store is in the place of the one that was known; what is in memory has
        to go there again.
        """
        self._share = share
        self.held = dict(share.held)
        self._ours = {one.id: one.token for one in self.held.values()}
        self._all = False  # whether the next transaction is about every device
        with share.others.guard:
            super().__init__(database, catalog)
        self.held = {catalog.renamed.get(name, name): one for name, one in self.held.items()}
        try:
            with self.transaction() as connection:
                self._split(connection)
                self.behind = self._is_behind(connection)
        except BaseException:
            self.close()
            raise
        share.others.adopted = frozenset(self._ours)

    def _greet(self, connection: Connection) -> None:
        """Others are welcome."""

    def _is_behind(self, connection: Connection) -> bool:
        share = self._share
        there = connection.execute(select(lease).where(lease.c.device_id.in_(self._ours))).all()
        found = share.lacks(there)
        # From now on this one is what is known.
        share.counts = {row.device_id: row.writes for row in there}
        return found

    @contextmanager
    def writing(self, devices: Iterable[int]) -> Iterator[Connection]:
        with self.transaction() as connection:
            about = self._ours if self._all else devices
            counts = self._share.fence(connection, about, self._ours)
            yield connection
        self._share.counts.update(counts)

    def apply(self, change: WriteBatch) -> int | None:
        # Journal rows go for every device that is held, whether it has blocks in here or not.
        self._all = bool(change.journal_gone) or change.carry is not None
        try:
            return super().apply(change)
        finally:
            self._all = False

    def commit(
        self,
        spans: Sequence[Chunk],
        memos: Mapping[str, str],
        *,
        plain: bool = False,
        filed: bool = False,
    ) -> int | None:
        spans = [span for span in spans if span.device in self._ours]
        return super().commit(spans, memos, plain=plain, filed=filed)

    def _rows(self, number: int, spans: Sequence[Chunk]) -> list[Row]:
        # Layouts that take turns are spans of their own (head/replay.py).
        by_device: dict[int, list[Chunk]] = {}
        for span in spans:
            by_device.setdefault(span.device, []).append(span)
        return [
            {
                "id": number << _BITS | one,
                "device_id": one,
                "body": journals.encode(some, self.digits),
            }
            for one, some in by_device.items()
        ]

    def _carried(self, number: int, body: bytes) -> list[Row]:
        spans = journals.decode(body)
        return self._rows(number, [span for span in spans if span.device in self._ours])

    def _keys(self, numbers: Sequence[int]) -> list[int]:
        return [number << _BITS | one for number in numbers for one in self._ours]

    def numbers(self) -> list[int]:
        asked = select(journal.c.id).where(journal.c.device_id.in_(self._ours))
        with self.transaction() as connection:
            return sorted({key >> _BITS for key in connection.scalars(asked)})

    def journal(self) -> Iterator[tuple[int, list[Chunk]]]:
        """Every number of the devices that are held, oldest first. Raises StoreError."""
        asked = select(journal.c.id, journal.c.body).where(journal.c.device_id.in_(self._ours))
        found: dict[int, list[Chunk]] = {}
        with self.transaction() as connection:
            for row in connection.execute(asked.order_by(journal.c.id)):
                try:
                    found.setdefault(row.id >> _BITS, []).extend(journals.decode(row.body))
                except StoreError as error:
                    raise DamageError("journal", row.id, str(error)) from error
        yield from found.items()

    def dirty(self) -> set[int]:
        return {key for key in super().dirty() if dirty_of(key)[0] in self._ours}

    def trim(self, before: int, most: int) -> int:
        """As a lone meterd does, of devices that are held, and of those that nobody has."""
        if not self._ours:
            return 0
        with self.writing(self._ours) as connection:
            devices = {*self._ours, *self._share.orphans(connection)}
            asked = select(block.c.id).where(_old(connection, devices, before // DAY))
            keys = list(connection.scalars(asked.order_by(block.c.id).limit(most)))
            delete_keys(connection, block, "id", keys)
            return len(keys)

    def trim_plain(self, before: int) -> bool:
        if not self._ours:
            return False
        with self.writing(self._ours) as connection:
            devices = {*self._ours, *self._share.orphans(connection)}
            known = self._catalog.by_device
            series = [one.id for device in devices for one in known.get(device, ())]
            return plain_rows.forget(connection, before, of=series)

    def _split(self, connection: Connection) -> None:
        """Rows of a meterd that was alone become rows of one device each."""
        asked = select(journal.c.id, journal.c.body).where(journal.c.device_id.is_(None))
        alone = list(connection.execute(asked.order_by(journal.c.id).with_for_update()))
        top = connection.scalar(
            select(func.max(journal.c.id)).where(journal.c.device_id.is_not(None))
        )
        self._next = ((top or 0) >> _BITS) + 1
        for row in alone:
            spans = journals.decode(row.body)
            connection.execute(insert(journal), self._rows(self._next, spans))
            connection.execute(delete(journal).where(journal.c.id == row.id))
            self._next += 1


def _old(connection: Connection, devices: Collection[int], day: int) -> ColumnElement[bool]:
    """Blocks of these devices from before a UTC day, and before their days that are dirty."""
    firsts: dict[int, int] = {}
    for key in sorted(connection.scalars(select(dirty.c.id))):
        owner, first = dirty_of(key)
        if owner in devices and first < day:
            firsts.setdefault(owner, first)
    clean = [one for one in sorted(devices) if one not in firsts]
    return or_(
        block.c.device_id.in_(clean) & (block.c.id < block_id(0, day * DAY)),
        *(
            (block.c.device_id == one) & (block.c.id < block_id(0, first * DAY))
            for one, first in firsts.items()
        ),
    )


def taken_over(
    ledger: LeasedSession, adopted: Mapping[str, DeviceLease], catalog: Catalog
) -> tuple[Head, dict[int, int]]:
    """What the journal has of devices that are new here, and the newest time of each number.

    Raises StoreError.
    """
    # Read again as a whole: what is here already is the same, and the last one counts.
    found = Head()
    rows = replay(ledger.journal(), found, catalog)
    for name in found.devices():
        if ledger.held.get(name) == adopted.get(name):
            found.drop(name)
    return found, rows


def forget_others(hot: Head, held: Mapping[str, DeviceLease], catalog: Catalog) -> None:
    """Polls of devices that other meterds have by now are theirs to write."""
    ours = {one.id for one in held.values()}
    for name in hot.devices():
        # By its number: a device that was just renamed may be held under its old name.
        number = catalog.devices.get(catalog.renamed.get(name, name))
        if name not in held and number not in ours and (lost := hot.drop(name)):
            _log.warning("%d samples of %s are dropped: it is not ours", lost, name)
