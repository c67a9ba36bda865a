"""Which database a store URL means."""

from collections.abc import Sequence

from meterd.errors import StoreCode, StoreError
from meterd.store.db.connections import Database


def find(url: str | Sequence[str], *, shared: bool = False, kept: int = 0) -> Database:
    """The database of a store URL; several URLs are nodes of one cluster, the first preferred.

    `shared`: other meterds write there, too, so that no lock is taken. `kept`: how
    many connections for reading stay open between two questions, where they are cheap to keep.
    Raises StoreError (settings) for a URL that means none.
    """
    urls = (url,) if isinstance(url, str) else tuple(url)
    if all(one.startswith("sqlite:") for one in urls):
        from meterd.store.db.sqlite import SqliteDatabase, locate

        if len(urls) > 1:
            raise StoreError("a store in a file has one URL", code=StoreCode.SETTINGS)
        return SqliteDatabase(locate(urls[0]), kept)
    from meterd.store.db.servers import ServerDatabase

    return ServerDatabase(urls, shared=shared)
