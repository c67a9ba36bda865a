"""SQLite: the file that a store URL means, connections to it, and what its errors mean."""

import logging
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from meterd.errors import StoreCode, StoreError
from meterd.store.db import file_identity, ownership, quarantine
from meterd.store.db.connections import Connections, Opened
from meterd.store.db.file_identity import FileIdentities, GoneError
from meterd.store.db.lockfile import Claim, LockFile
from meterd.store.db.pool import IdleConnections

_SCHEME = "sqlite:///"
_READ_PATIENCE = 2.0  # seconds; readers only ever wait for the recovery after a crash
_CHECKPOINT_PATIENCE_MS = 500  # of who leaves a database that is gone
_STEPS = 100_000  # of SQLite's machine, some ms, between two looks whether to go on

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
# Where the owner of the file may be to blame.
_ACCESS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)
_CODES = {
    sqlite3.SQLITE_FULL: StoreCode.FULL,
    sqlite3.SQLITE_CORRUPT: StoreCode.CORRUPT,
    sqlite3.SQLITE_NOTADB: StoreCode.CORRUPT,
}


_log = logging.getLogger(__name__)


def locate(url: str) -> Path:
    """The file that `sqlite:///relative.db` or `sqlite:////absolute.db` means, absolute.

    Raises StoreError (settings) for any other URL.
    """
    name = url.removeprefix(_SCHEME)
    if url.startswith("sqlite:") and name in ("", ":memory:", "sqlite://", "sqlite:"):
        text = "a store in memory would lose everything; use sqlite:///meterd.db"
        raise StoreError(text, code=StoreCode.SETTINGS)
    if name == url or "?" in name or "#" in name or name.endswith("/"):
        text = f"{url}: must be sqlite:/// and a file without options"
        raise StoreError(text, code=StoreCode.SETTINGS)
    # Resolved, so that two names of one file meet at one lock.
    return Path(name).resolve()


class SqliteDatabase:
    """A store in one file."""

    def __init__(self, path: Path, kept: int = 0) -> None:
        """`kept`: how many connections for reading stay open between two questions."""
        self.path: Path | None = path
        self.label = f"store {path}"
        self.places = frozenset({str(path)})
        self.folder = path.parent
        self._file = path
        # A deferred transaction that reads, then writes, is refused without any patience.
        self._writing = Connections(self._for_writing, self.mapped, begin="BEGIN IMMEDIATE")
        self._reading = Connections(self._for_reading, self.mapped, begin="BEGIN")
        self._kept = IdleConnections(kept)

    def prepare(self) -> None:
        """Creates folders below the working directory, which a relative URL may name."""
        path = self._file
        self.made()
        if path.is_relative_to(Path.cwd()):
            try:
                ownership.folders(path.parent)
            except OSError as error:
                text = f"{path.parent} cannot be made: {error.strerror}"
                raise StoreError(text, code=StoreCode.UNAVAILABLE) from error
        if not path.parent.is_dir():
            # Not made here: it may be the mount point of a disk that is not mounted.
            text = f"{path.parent} is not a folder; make it, mount its disk, or correct store.url"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)

    def made(self) -> bool:
        try:
            mode = self._file.stat().st_mode
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "that is no name of a file"
            raise StoreError(
                f"{str(self._file)!a}: {reason}", code=StoreCode.UNAVAILABLE
            ) from error
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no file"
            text = f"{self._file} is {what}; store.url names a file"
            raise StoreError(text, code=StoreCode.UNAVAILABLE)
        return True

    def lock(self, claim: Claim | None = None) -> LockFile:
        return LockFile(self._file, claim)

    def writing(self) -> Opened:
        with self.mapped():
            # SQLite would make it as readable as the umask allows, and root's where root runs this.
            if not self._file.exists():
                ownership.touch(self._file)
        before = file_identity.inode(self._file)
        opened = self._writing.open()
        try:
            files = FileIdentities(self._file)
            if files.database != before:
                raise GoneError(f"{self._file} became another file while it was opened")
        except BaseException:
            opened.close()
            raise
        return Watched(opened, files)

    def _for_writing(self) -> sqlite3.Connection:
        # One thread uses it; another may have to close it.
        connection = sqlite3.connect(
            self._file, isolation_level=None, timeout=0, check_same_thread=False
        )
        try:
            for pragma in WRITER_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _for_reading(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self._file))}?mode=ro"
        # One thread at a time uses it.
        return sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=_READ_PATIENCE, check_same_thread=False
        )

    @contextmanager
    def reading(self, abandoned: Event | None = None) -> Iterator[Connection]:
        place = file_identity.inode(self._file)
        opened = self._kept.take(place) or self._reading.open()
        try:
            with opened.begin() as connection:
                raw: Any = connection.connection.dbapi_connection
                raw.set_progress_handler(abandoned.is_set if abandoned else None, _STEPS)
                yield connection
        except BaseException:
            opened.close()
            raise
        self._kept.give(place, opened)

    def rest(self) -> None:
        self._kept.close()

    def hurry(self, seconds: float) -> None:
        """Locks are waited for no longer than `busy_timeout`, and nothing hurries a disk."""

    def let_go(self) -> None:
        self._kept.clear()

    @contextmanager
    def mapped(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._error(error.orig or error) from error
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        except UnicodeError as error:
            # Texts of a damaged page, and messages of SQLite that quote them.
            text = f"{self.label} is damaged: {error}; {_ADVICE[sqlite3.SQLITE_CORRUPT]}"
            raise StoreError(text, code=StoreCode.CORRUPT) from error

    def _error(self, error: BaseException) -> StoreError:
        primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        advice = _ADVICE.get(primary)
        if primary in _ACCESS:
            advice = ownership.blame(self._file) or advice
        text = f"{self.label}: {error}" + (f"; {advice}" if advice else "")
        return StoreError(text, code=_CODES.get(primary, StoreCode.UNAVAILABLE))


class Watched(Opened):
    """A connection that writes to no other files than those that it was opened with."""

    def __init__(self, opened: Opened, files: FileIdentities) -> None:
        super().__init__(opened.connection, opened._made, opened._mapped)
        self.files: FileIdentities = files

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Raises GoneError where the files' names lead elsewhere, before or after: what was
        written then is not in the store.
        """
        self.files.check()
        with super().begin() as connection:
            yield connection
        self.files.check()

    def checkpoint(self) -> None:
        with self._mapped():
            self._made[-1].execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        files, lost = self.files, self.files.lost() if self.files.is_open else ""
        files.is_open = False
        if not files.is_kept:
            files.let_go()
        if not lost:
            super().close()
            return
        is_moved = files.is_moved
        # Wherever the file is by now, it gets what its log holds. Its log must not stay beside
        # another database, which would take its pages for its own.
        with suppress(StoreError, IndexError), self._mapped():
            raw = self._made[-1]
            raw.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_PATIENCE_MS}")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not is_moved:
            # The last one that closes deletes the log by its name.
            _put_aside(files.path, files.strangers())
        super().close()
        if is_moved:
            _put_aside(files.path, files.leftovers())


def _put_aside(database: Path, some: list[Path]) -> None:
    """Sets aside log and index files that belong to another database; empty ones are deleted."""
    for path in some:
        try:
            if path.name.endswith(file_identity.SHM) or not path.stat().st_size:
                path.unlink()
            else:
                target = quarantine.unused_name(
                    database, "stray", path.name.removeprefix(database.name)
                )
                path.rename(target)
                _log.error("%s is not of the database beside it; it is kept as %s", path, target)
        except OSError as error:
            _log.error("%s cannot be moved out of the way: %s", path, error)
