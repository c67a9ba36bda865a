"""Leases of devices as rows of a server: its clock, and whether anybody holds one."""

from sqlalchemy import Connection, select, text

from meterd.errors import StoreCode, StoreError
from meterd.store.db.schema import lease

_NOW = {
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    "mariadb": "SELECT CAST(unix_timestamp(sysdate(3)) * 1000 AS SIGNED)",
}


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
        raise StoreError(told, code=StoreCode.ALREADY_RUNNING)
