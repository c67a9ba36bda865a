"""Lease state of this meterd: its devices, shared by the leases' thread and the writer's."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from sqlalchemy import Connection, select, update

from meterd.errors import StoreCode, StoreError
from meterd.store.cluster.peer_heads import ClusterHead, PeerHeads
from meterd.store.db.connections import Database
from meterd.store.db.keys import MOST_DEVICES
from meterd.store.db.lease_check import now_ms
from meterd.store.db.migrate import upgrade
from meterd.store.db.schema import device, lease
from meterd.store.head.catalog import Catalog
from meterd.store.head.head import Head
from meterd.store.head.view import ReadableHead

_UPGRADING = Lock()
# Seconds that a meterd waits while others of its cluster make or change the tables.
_PATIENCE = 60.0
_SHORT = 5.0  # seconds; nobody takes long once they are there
_PAUSE = 0.2
_ALL = 1 << 62  # samples
_OLDER = "the store is an older one than before; its leases are taken anew first"


@dataclass(frozen=True, slots=True)
class DeviceLease:
    """A device that this meterd has: its number, and the token that goes with the lease."""

    id: int
    token: int


@dataclass(slots=True)
class LeaseState:
    """The leases held: the leases' thread sets them, the writer's checks them; both replace `held`
    as a whole.

    `lone` is the same store for a meterd that is alone; `holder` is who we are in `lease`.
    `flush` commits what the writer has; until a writer is there, there is nothing to commit.
    """

    lone: Database
    holder: str = ""
    held: Mapping[str, DeviceLease] = field(default_factory=dict)
    memos: Mapping[str, str] = field(default_factory=dict)
    flush: Callable[[], Awaitable[None]] | None = None
    others: PeerHeads = field(default_factory=PeerHeads)
    counts: dict[int, int] = field(default_factory=dict)  # of confirmed writes, by device
    _head: Head | None = None
    _met: bool = False

    def serve(
        self, head: Head, catalog: Catalog, flush: Callable[[], Awaitable[None]]
    ) -> ReadableHead:
        """For a writer with this memory; what its readers see."""
        self._head, self.flush = head, flush
        self.others.catalog = catalog
        return ClusterHead(head, self.others)

    def waiting(self) -> set[str]:
        """The devices that have polls which no commit has confirmed."""
        return {batch.device for batch in self._head.uncommitted(_ALL)} if self._head else set()

    def upgrade(self) -> None:
        """The schema; under the lock of a meterd that is alone, as two must not change tables.

        The first time that lock is taken in any case: a meterd that is alone there writes for
        every device. Raises StoreError.
        """
        # The library behind it has one state for the whole process.
        with _UPGRADING:
            _retry_until(lambda: upgrade(self.lone), _PATIENCE)
            if not self._met:
                _retry_until(lambda: self.lone.writing().close(), _SHORT)
            self._met = True

    def fence(
        self, connection: Connection, devices: Iterable[int], ours: Mapping[int, int]
    ) -> dict[int, int]:
        """Locks the leases of these devices; `ours` are the tokens that the writer knows.

        Returns their counts of writes, for `counts` once the transaction is confirmed. Where a
        device is another meterd's by now it is given up. Raises StoreError (conflict) then:
        nothing is written, and the next try is about the others.
        """
        ids = sorted(set(devices))
        if not ids:
            return {}
        statement = select(lease).where(lease.c.device_id.in_(ids))
        rows = {
            row.device_id: row
            for row in connection.execute(statement.order_by(lease.c.device_id).with_for_update())
        }
        stale = {number for number in ids if not self._is_ours(rows.get(number), ours.get(number))}
        if stale:
            self._give_up(connection, {number: rows.get(number) for number in stale}, ours)
        if self.lacks(rows.values()):
            raise StoreError(_OLDER, code=StoreCode.CONFLICT)
        counted = update(lease).where(lease.c.device_id.in_(ids))
        connection.execute(counted.values(writes=lease.c.writes + 1))
        return {number: rows[number].writes + 1 for number in ids}

    def lacks(self, rows: Iterable[Any]) -> bool:
        """Whether leases count fewer writes than were confirmed: the store is an older one."""
        return any(row.writes < self.counts.get(row.device_id, 0) for row in rows)

    def _is_ours(self, row: Any, token: int | None) -> bool:
        return row is not None and row.holder == self.holder and row.token == token

    def _give_up(
        self, connection: Connection, stale: Mapping[int, Any], ours: Mapping[int, int]
    ) -> None:
        """Gives up the devices whose leases are stale, and raises StoreError (conflict); gives up
        none where the store is an older copy.
        """
        now = now_ms(connection)
        if all(_is_older(row, ours.get(number), self.holder, now) for number, row in stale.items()):
            raise StoreError(_OLDER, code=StoreCode.CONFLICT)
        self.held = {
            name: held
            for name, held in self.held.items()
            if held.id not in stale or self._is_ours(stale[held.id], held.token)
        }
        raise StoreError("another meterd has the device by now", code=StoreCode.CONFLICT)

    def orphans(self, connection: Connection) -> set[int]:
        """Devices that no meterd has; their leases are locked, where there are any.

        Raises StoreError (conflict) where one is taken at this moment.
        """
        now = now_ms(connection)
        over = (lease.c.until < now) & (lease.c.device_id < MOST_DEVICES)
        ended = set(connection.scalars(select(lease.c.device_id).where(over)))
        if ended:
            counted = update(lease).where(lease.c.device_id.in_(sorted(ended)), over)
            if connection.execute(counted.values(writes=lease.c.writes + 1)).rowcount < len(ended):
                raise StoreError("another meterd takes a device", code=StoreCode.CONFLICT)
        leased = set(connection.scalars(select(lease.c.device_id)))
        return ended | (set(connection.scalars(select(device.c.id))) - leased)


def _is_older(row: Any, token: int | None, holder: str, now: int) -> bool:
    """Whether a lease that was ours is one from before: the store was restored from a copy."""
    if row is None or token is None:
        return token is not None
    return bool(row.token < token and (row.holder == holder or row.until < now))


def _retry_until(work: Callable[[], None], seconds: float) -> None:
    """Meterds that start at once wait for each other. Raises StoreError."""
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except StoreError as error:
            late = time.monotonic() > end
            if late and error.code == StoreCode.ALREADY_RUNNING:
                refusal = (
                    "a meterd without `cluster:` writes to this database; stop it, or add it there"
                )
                raise StoreError(refusal, code=StoreCode.ALREADY_RUNNING) from error
            if late or error.code not in (StoreCode.ALREADY_RUNNING, StoreCode.CONFLICT):
                raise
            time.sleep(_PAUSE)
