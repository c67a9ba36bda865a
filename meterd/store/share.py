"""What one of several meterds may write (cluster.py): the devices that are leased to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from sqlalchemy import Connection, select, text, update

from meterd.errors import StoreError
from meterd.store.connections import Database
from meterd.store.migrate import upgrade
from meterd.store.schema import lease

_NOW = {
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    "mariadb": "SELECT CAST(unix_timestamp(sysdate(3)) * 1000 AS SIGNED)",
}

_UPGRADING = Lock()


def now_ms(connection: Connection) -> int:
    """The server's clock."""
    return int(connection.scalar(text(_NOW[connection.dialect.name])) or 0)


def need_alone(connection: Connection) -> None:
    """Raises StoreError (already_running) where meterds of a cluster hold devices."""
    if connection.dialect.name not in _NOW:
        return
    holder = connection.scalar(select(lease.c.holder).where(lease.c.until > now_ms(connection)))
    if holder is not None:
        told = (
            f"meterd {holder.split()[0]} and its cluster write to this database; stop them and "
            "wait until their leases are over, or add `cluster:` to the configuration"
        )
        raise StoreError(told, code="already_running")


@dataclass(frozen=True, slots=True)
class Leased:
    """A device that this meterd has: its number, and the token that goes with the lease."""

    id: int
    token: int


@dataclass(slots=True)
class Share:
    """The leases' thread says what is held, the writer's asks; both replace it as a whole.

    `lone` is the same store for a meterd that is alone.
    """

    lone: Database
    held: Mapping[str, Leased] = field(default_factory=dict)
    memos: Mapping[str, str] = field(default_factory=dict)

    def upgrade(self) -> None:
        """The schema; under the lock of a meterd that is alone, as two must not change tables.

        Raises StoreError.
        """
        # The library behind it has one state for the whole process.
        with _UPGRADING:
            upgrade(self.lone)

    def fence(
        self, connection: Connection, devices: Iterable[int], ours: Mapping[int, int]
    ) -> None:
        """Locks the leases of these devices; `ours` are the tokens that the writer knows.

        Where one is another meterd's by now it is given up. Raises StoreError (conflict) then:
        nothing is written, and the next try is about the others.
        """
        ids = sorted(set(devices))
        if not ids:
            return
        asked = select(lease.c.device_id, lease.c.token).where(lease.c.device_id.in_(ids))
        there = {
            row.device_id: row.token
            for row in connection.execute(asked.order_by(lease.c.device_id).with_for_update())
        }
        stale = {one for one in ids if one not in ours or there.get(one) != ours[one]}
        if stale:
            self.held = {
                name: one
                for name, one in self.held.items()
                if one.id not in stale or one.token == there.get(one.id)
            }
            raise StoreError("another meterd has the device by now", code="conflict")
        counted = update(lease).where(lease.c.device_id.in_(ids))
        connection.execute(counted.values(writes=lease.c.writes + 1))
