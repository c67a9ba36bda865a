"""A copy of a database file, made before its schema changes."""

import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from meterd.errors import StoreCode, StoreError
from meterd.store.db import ownership
from meterd.store.db.durable_files import as_store_errors, fsync_folder

_PAGES = 2000  # copied at a time

_log = logging.getLogger(__name__)


def copy_database(path: Path, schema: str) -> Path:
    """Returns the copy, `NAME.schema-0002`. Raises StoreError: full, unavailable, corrupt.

    One that an upgrade has left which was cut short is used again, if nothing changed since.
    """
    target, number = path.with_name(f"{path.name}.schema-{schema}"), 1
    while target.exists():
        if target.stat().st_mtime_ns > _changed(path):
            return target
        number += 1
        target = path.with_name(f"{path.name}.schema-{schema}-{number}")
    part = path.with_name(f"{path.name}.schema.part")
    try:
        with as_store_errors(part):
            part.unlink(missing_ok=True)
            ownership.touch(part)
            _copy(path, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.rename(target)
            fsync_folder(path.parent)
    except sqlite3.Error as error:
        part.unlink(missing_ok=True)
        raise _failed(path, error) from error
    _log.warning("the store's schema changes; it is kept as it was in %s", target)
    return target


def _copy(path: Path, part: Path) -> None:
    source = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    with closing(source), closing(sqlite3.connect(part)) as copy:
        source.backup(copy, pages=_PAGES)


def _changed(path: Path) -> int:
    """When the database changed last, in ns."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return max(file.stat().st_mtime_ns for file in files if file.exists())


def _failed(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = f"{path} is to be copied before its schema changes, and cannot be: {error}"
    if code == sqlite3.SQLITE_FULL:
        megabytes = path.stat().st_size / 1e6
        return StoreError(
            f"{text}; make room for {megabytes:.0f} MB on its disk", code=StoreCode.FULL
        )
    return StoreError(text, code=StoreCode.UNAVAILABLE)
