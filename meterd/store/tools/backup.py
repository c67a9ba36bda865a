"""Backups of a store in a file: taken while meterd runs, checked, and put back."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import inspect, select

from meterd.errors import StoreCode, StoreError
from meterd.model.sample import Poll
from meterd.store.compaction.session import StoreSession
from meterd.store.compaction.write_rights import SoleWriter
from meterd.store.db import migrate, ownership, writer_lease
from meterd.store.db import store_url as databases
from meterd.store.db.connections import Database
from meterd.store.db.durable_files import as_store_errors, fsync_folder
from meterd.store.db.expected_schema import schema_differences
from meterd.store.db.lockfile import claimed
from meterd.store.db.schema import memo
from meterd.store.head.catalog import Catalog
from meterd.store.tools.move import move
from meterd.store.tools.overview import Note, files
from meterd.store.tools.wal_copy import chunks, with_wal_file
from meterd.store.wal import file_wal

_PAGES = 256  # at a time: a MB, so that the progress is seen


def backup(database: Database, target: Path, note: Note = lambda _: None) -> int:
    """Copies a SQLite store as it is now; returns the copy's bytes.

    A meterd may go on writing. Raises StoreError, also where `target` exists.
    """
    source = _file_of(database)
    with _new(target) as partly:
        with with_wal_file(database, lambda: _moment(database, source)) as (polls, old):
            _copy(old, partly, note)
        _absorb(partly, polls)
        # What is wrong with the copy was wrong before: SQLite copies pages as they are.
        sound(partly, database.label)
    return target.stat().st_size


def of_server(database: Database, target: Path, note: Note = lambda _: None) -> int:
    """Copies a store on a server into a SQLite file; returns its bytes.

    A meterd may go on writing. Raises StoreError, also where `target` exists.
    """
    with _new(target) as partly:
        move(database, _url(partly), lambda _, more: note(more))
        with _database_at(partly).mapped(), closing(sqlite3.connect(partly)) as copy:
            copy.execute("PRAGMA journal_mode = DELETE")
        sound(partly, database.label)
    return target.stat().st_size


@contextmanager
def _new(target: Path) -> Iterator[Path]:
    """A temporary file for a copy, renamed once the copy is complete."""
    if target.exists():
        raise StoreError(f"{target} exists; name a file that does not", code=StoreCode.UNFIT)
    if not target.parent.is_dir():
        raise StoreError(f"{target.parent} is not a folder; make it first", code=StoreCode.UNFIT)
    with _made(target.with_name(f"{target.name}.part")) as partly:
        yield partly
        with as_store_errors(target):
            partly.rename(target)
            fsync_folder(target.parent)


def restore(database: Database, backup: Path, now: int, note: Note = lambda _: None) -> list[Path]:
    """Puts a backup in the place of the store; returns what was set aside, `now` is Unix ms.

    Raises StoreError: already_running while a meterd keeps the store; unfit, corrupt,
    newer_schema where the backup is none.
    """
    target = _file_of(database)
    if not backup.is_file():
        what = "is no file" if backup.exists() else "is not there"
        raise StoreError(f"{backup} {what}", code=StoreCode.UNFIT)
    try:
        sound(backup)
        trusted(backup)
        _check_pair(backup)
    except StoreError as error:
        if error.code != StoreCode.CORRUPT:
            raise
        text = f"{backup} is damaged, or no backup of a store; the store stays as it is ({error})"
        raise StoreError(text, code=StoreCode.CORRUPT) from error
    database.prepare()
    lock = database.lock(claimed("meterd db restore", backup.stat().st_size))
    try:
        with _made(target.with_name(f"{target.name}.restoring")) as partly:
            held = _database_at(backup)
            with with_wal_file(held, lambda: _moment(held, backup)) as (polls, old):
                _copy(old, partly, note)
            _absorb(partly, polls)
            with as_store_errors(target):
                aside = _set_aside(target, now)
                partly.rename(target)
                fsync_folder(target.parent)
    finally:
        lock.release()
    return aside


def _check_pair(path: Path) -> None:
    """Raises StoreError (corrupt) where a copied database and its journal file do not fit."""
    there = file_wal.generation(_database_at(path))
    with _database_at(path).reading() as connection:
        if not inspect(connection).has_table(memo.name):
            return
        mark = connection.scalar(select(memo.c.body).where(memo.c.name == file_wal.MARK))
    if wrong := file_wal.mismatch(mark, there, there):
        hint = "where nothing better is left, put its files in the place of the store's by hand"
        raise StoreError(f"{path}: {wrong}; {hint}", code=StoreCode.CORRUPT)


def trusted(path: Path) -> None:
    """Raises StoreError (corrupt) where a file has what no meterd has put there.

    A trigger or a generated column would run in the store that the backup becomes.
    """
    with _database_at(path).mapped():
        with _database_at(path).reading() as connection:
            found = migrate.version(connection)
        odd = list(schema_differences(path, found or ""))
    if odd:
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        text = f"{odd[0]}{more}; drop it with SQLite's shell where you know what it is"
        raise StoreError(f"{path} is not as meterd makes them: {text}", code=StoreCode.CORRUPT)


def sound(path: Path, label: str = "") -> None:
    """Raises StoreError where a file is no store that this meterd can read, or is damaged.

    `label` names it where that is not its path.
    """
    with _database_at(path).reading() as connection:
        if migrate.version(connection) is None:
            raise StoreError(f"{label or path} is empty", code=StoreCode.UNFIT)
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    if found != ["ok"]:
        raise StoreError(f"{label or path} is damaged: {found[0]}", code=StoreCode.CORRUPT)


def _file_of(database: Database) -> Path:
    if database.path is None:
        text = (
            f"{database.label} is no file, so none is put in its place; make an empty database and "
            "copy the backup there: `meterd db move URL` with `store: {url: sqlite:///BACKUP}`"
        )
        raise StoreError(text, code=StoreCode.UNFIT)
    return database.path


@contextmanager
def _made(partly: Path) -> Iterator[Path]:
    """A place for a copy, free of what one that was broken off has left, and free again."""
    with as_store_errors(partly):
        _remove(partly)
    try:
        yield partly
    finally:
        with suppress(OSError):
            _remove(partly)


def _remove(path: Path) -> None:
    others = (path.with_name(f"{path.name}{end}") for end in ("-journal", ".lock"))
    for file in (*files(path), *others):
        file.unlink(missing_ok=True)


@contextmanager
def _moment(database: Database, path: Path) -> Iterator[sqlite3.Connection]:
    """One moment of a store, however long the copy takes."""
    with database.mapped():
        uri = f"{path.absolute().as_uri()}?mode=ro"
        old = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        with database.mapped():
            old.execute("BEGIN")
            old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield old
    finally:
        old.close()


def _copy(old: sqlite3.Connection, target: Path, note: Note) -> None:
    done = 0

    def told(status: int, left: int, total: int) -> None:
        nonlocal done
        note(total - left - done)
        done = total - left

    with _database_at(target).mapped():
        ownership.touch(target)
    with _database_at(target).mapped(), closing(sqlite3.connect(target)) as new:
        old.backup(new, pages=_PAGES, progress=told, sleep=0)
        if new.execute("SELECT 1 FROM sqlite_master WHERE name = 'memo'").fetchone():
            # Of who writes to the original, and of the WAL file beside that.
            new.execute("DELETE FROM memo WHERE name IN (?, ?)", (writer_lease.NAME, file_wal.MARK))
            new.commit()
        new.execute("PRAGMA journal_mode = DELETE")


def _database_at(path: Path) -> Database:
    return databases.find(_url(path))


def _url(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _absorb(target: Path, polls: Sequence[Poll]) -> None:
    """Polls of a WAL file become part of the copy: a backup is one file."""
    if not polls:
        return
    copy, catalog = _database_at(target), Catalog()
    session = StoreSession(copy, catalog, SoleWriter())
    try:
        for some in chunks(polls, catalog):
            session.commit(some, {})
    finally:
        session.close()
    with copy.mapped(), closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _set_aside(path: Path, now: int) -> list[Path]:
    """The old file and what belongs to it, renamed; the log goes first."""
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    aside = []
    for file in reversed(files(path)):
        if file.exists():
            new = file.with_name(f"{path.name}.before-{stamp}{file.name.removeprefix(path.name)}")
            if new.exists():
                raise StoreError(f"{new} exists; try again in a second", code=StoreCode.UNFIT)
            file.rename(new)
            aside.append(new)
    return aside
