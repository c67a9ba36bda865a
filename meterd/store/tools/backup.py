"""Backups of a store in a file: taken while meterd runs, checked, and put back."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from meterd.errors import StoreError
from meterd.store import database as databases
from meterd.store import filed, migrate
from meterd.store.connections import Database
from meterd.store.records import mapped, sync_folder
from meterd.store.tools.overview import Note, files

_PAGES = 256  # at a time: a MB, so that the progress is seen


def backup(database: Database, target: Path, note: Note = lambda _: None) -> int:
    """Copies a SQLite store as it is now; returns the copy's bytes.

    A meterd may go on writing. Raises StoreError, also where `target` exists.
    """
    source = _file_of(database)
    if target.exists():
        raise StoreError(f"{target} exists; name a file that does not", code="unavailable")
    partly = target.with_name(f"{target.name}.part")
    try:
        with mapped(target):
            # First the file that only meterd's next start would read: what goes into blocks
            # meanwhile is then there twice, which is harmless.
            if filed.place(source).exists():
                shutil.copyfile(filed.place(source), filed.place(partly))
            _copy(source, partly, note)
        _absorb(partly)
        sound(partly)
        with mapped(target):
            partly.rename(target)
            sync_folder(target.parent)
    finally:
        for file in files(partly):
            file.unlink(missing_ok=True)
    return target.stat().st_size


def restore(database: Database, backup: Path, now: int) -> list[Path]:
    """Puts a backup in the place of the store; returns what was set aside, `now` is Unix ms.

    Raises StoreError: already_running while a meterd keeps the store; unavailable, corrupt,
    newer_schema where the backup is none.
    """
    target = _file_of(database)
    if not backup.is_file():
        raise StoreError(f"{backup} is not there", code="unavailable")
    sound(backup)
    database.prepare()
    lock = database.lock()
    partly = target.with_name(f"{target.name}.restoring")
    try:
        with mapped(target):
            partly.unlink(missing_ok=True)
            _copy(backup, partly, lambda _: None)
            aside = _set_aside(target, now)
            partly.rename(target)
            sync_folder(target.parent)
    finally:
        for file in files(partly):
            file.unlink(missing_ok=True)
        lock.release()
    return aside


def sound(path: Path) -> None:
    """Raises StoreError where a file is no store that this meterd can read, or is damaged."""
    place = databases.find(f"sqlite:///{path.absolute()}")
    with place.reading() as connection:
        if migrate.version(connection) is None:
            raise StoreError(f"{path} is empty", code="unavailable")
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    if found != ["ok"]:
        raise StoreError(f"{path} is damaged: {found[0]}", code="corrupt")


def _file_of(database: Database) -> Path:
    if database.path is None:
        text = f"{database.label} is no file; `meterd db move sqlite:///FILE` copies it into one"
        raise StoreError(text, code="unavailable")
    return database.path


def _copy(source: Path, target: Path, note: Note) -> None:
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        # One moment of the store, however long the copy takes.
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        done = 0

        def told(status: int, left: int, total: int) -> None:
            nonlocal done
            note(total - left - done)
            done = total - left

        old.backup(new, pages=_PAGES, progress=told, sleep=0)
        new.execute("PRAGMA journal_mode = DELETE")


def _absorb(copy: Path) -> None:
    """Polls of a journal file become part of the copy: a backup is one file."""
    if not filed.place(copy).exists():
        return
    import asyncio

    from meterd.store.writer import Writer

    writer = Writer(f"sqlite:///{copy.absolute()}")

    async def run() -> None:
        await writer.open()
        await writer.close()

    asyncio.run(run())
    copy.with_name(f"{copy.name}.lock").unlink(missing_ok=True)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _set_aside(path: Path, now: int) -> list[Path]:
    """The old file and what belongs to it, renamed; the log goes first."""
    stamp = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    aside = []
    for file in reversed(files(path)):
        if file.exists():
            new = file.with_name(f"{path.name}.before-{stamp}{file.name.removeprefix(path.name)}")
            if new.exists():
                raise StoreError(f"{new} exists; try again in a second", code="unavailable")
            file.rename(new)
            aside.append(new)
    return aside
