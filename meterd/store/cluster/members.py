"""Members of a cluster: a row in `lease` for each meterd, above the numbers of devices."""

import zlib
from collections.abc import Iterable

from sqlalchemy import Connection, func, insert, select, update

from meterd.errors import StoreCode, StoreError
from meterd.store.db.keys import MOST_DEVICES
from meterd.store.db.schema import lease

# Until then the row of a meterd that was silent is not another's. In ms.
_KEPT = 86_400_000


def checksum(wanted: Iterable[str]) -> int:
    """Equal for meterds that are configured to poll the same devices."""
    return zlib.crc32("\n".join(sorted(wanted)).encode())


class Member:
    """This meterd's member row. `until`: when it expires, Unix ms of the database's clock."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self.until = 0

    def show(self, connection: Connection, now: int, until: int, told: int) -> bool:
        """Renews the member row; returns whether the stored row is older than the last written one,
        so that the store is a restored copy.

        Raises StoreError (conflict) where another meterd wants the same row.
        """
        values = {"holder": self._holder, "token": told, "until": until}
        statement = (
            select(lease).where(lease.c.device_id >= MOST_DEVICES).order_by(lease.c.device_id)
        )
        rows = connection.execute(statement).all()
        for row in rows:
            if row.holder == self._holder:
                connection.execute(
                    update(lease).where(lease.c.device_id == row.device_id).values(**values)
                )
                return bool(row.until < self.until)
        old = next((row for row in rows if row.until < now - _KEPT), None)
        if old is None:
            top = connection.scalar(select(func.max(lease.c.device_id))) or 0
            number = max(MOST_DEVICES, top + 1)
            connection.execute(insert(lease), {"device_id": number, "writes": 0, **values})
            return self.until > 0
        same = (lease.c.device_id == old.device_id) & (lease.c.until == old.until)
        if connection.execute(update(lease).where(same).values(**values)).rowcount != 1:
            raise StoreError("another meterd wants the same row", code=StoreCode.CONFLICT)
        return self.until > 0


def live_members(connection: Connection, now: int, told: int) -> list[str]:
    """The holders whose rows have not expired and that are configured to poll the same devices."""
    alike = (lease.c.device_id >= MOST_DEVICES) & (lease.c.token == told)
    return list(connection.scalars(select(lease.c.holder).where(alike, lease.c.until >= now)))
