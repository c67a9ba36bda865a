"""Which SQLite file a store URL means, connections to it, and what its errors mean."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from meterd.errors import StoreError

_SCHEME = "sqlite:///"
_READ_PATIENCE = 2.0  # seconds; readers only ever wait for the recovery after a crash

WRITER_PRAGMAS = (
    "busy_timeout = 5000",  # first: the change to WAL already needs a lock
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 200",  # pages; small logs are rewritten in place, which spares flash
    "journal_size_limit = 16777216",  # a long reader may swell the log: give the space back
)

_ADVICE = {
    sqlite3.SQLITE_BUSY: "another program holds it; close that program",
    sqlite3.SQLITE_LOCKED: "another program holds it; close that program",
    sqlite3.SQLITE_READONLY: "check its owner, and whether its disk is mounted read-only",
    sqlite3.SQLITE_PERM: "check the owner of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "check the owner of the file and its folder",
    sqlite3.SQLITE_IOERR: "check the disk",
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_CORRUPT: "keep it with its -wal and -shm, and put a backup in its place",
    sqlite3.SQLITE_NOTADB: "store.url has to name a SQLite database or a file that is not there",
}
_CODES = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}


def locate(url: str) -> Path:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` means, absolute.

    Raises StoreError(code="unavailable") for any other URL.
    """
    name = url.removeprefix(_SCHEME)
    if url.startswith("sqlite:") and name in ("", ":memory:", "sqlite://", "sqlite:"):
        text = "a store in memory would lose everything; use sqlite:///meterd.db"
        raise StoreError(text, code="unavailable")
    if name == url:
        scheme = url.partition(":")[0]
        text = f"stores on {scheme} are not built yet: only sqlite; use sqlite:///meterd.db"
        raise StoreError(text, code="unavailable")
    if "?" in name or "#" in name or name.endswith("/"):
        text = f"{url}: must be sqlite:/// and a file without options"
        raise StoreError(text, code="unavailable")
    # Resolved, so that two names of one file meet at one lock.
    return Path(name).resolve()


def need_folder(path: Path) -> None:
    """Raises StoreError where the file could not be made.

    Folders below the one that meterd runs in are made: a relative URL names such.
    """
    if path.is_dir():
        raise StoreError(f"{path} is a folder; store.url names a file", code="unavailable")
    if path.is_relative_to(Path.cwd()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"{path.parent} cannot be made: {error.strerror}"
            raise StoreError(text, code="unavailable") from error
    if not path.parent.is_dir():
        # Not made here: it may be the mount point of a disk that is not mounted.
        text = f"{path.parent} is not a folder; make it, mount its disk, or correct store.url"
        raise StoreError(text, code="unavailable")


def writing(path: Path) -> Engine:
    """For the one writer: its transactions take the write lock when they begin."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            for pragma in WRITER_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    # A deferred transaction that reads, then writes, is refused without any patience.
    return _engine(connect, "BEGIN IMMEDIATE")


def reading(path: Path) -> Engine:
    """For readers: nothing can be written; a transaction sees one moment of the store."""

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(path))}?mode=ro"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_READ_PATIENCE)

    return _engine(connect, "BEGIN")


def _engine(connect: Callable[[], sqlite3.Connection], begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turns what SQLite, SQLAlchemy and the file system raise into StoreError."""
    try:
        yield
    except DBAPIError as error:
        raise _store_error(path, error.orig or error) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise _store_error(path, error) from error


def _store_error(path: Path, error: BaseException) -> StoreError:
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    advice = _ADVICE.get(primary)
    text = f"store {path}: {error}" + (f"; {advice}" if advice else "")
    return StoreError(text, code=_CODES.get(primary, "unavailable"))
