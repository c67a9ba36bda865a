"""Recognises damage, and moves damaged files and bodies aside, logged and never deleted."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from meterd.errors import StoreCode, StoreError
from meterd.store.db import ownership
from meterd.store.db.durable_files import as_store_errors, fsync_folder

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_log = logging.getLogger(__name__)


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite reports the file as damaged or as no database.

    Anything else may pass: a full disk, a lock, a disk that went away. One block whose
    checksum is wrong is that block's damage alone.
    """
    while error is not None:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None:
            return code & 0xFF in _DAMAGE
        error = getattr(error, "orig", None) or error.__cause__
    return False


def quarantine_database(path: Path, now_ms: int) -> Path:
    """Renames a database with its -wal and -shm; returns its new path.

    Raises StoreError (unavailable).
    """
    target = _free_name(path, now_ms)
    # The log goes first: what it holds must never be taken for part of the next database.
    with as_store_errors(path):
        for suffix in ("-wal", "-shm"):
            _move(path.with_name(path.name + suffix), target.with_name(target.name + suffix))
        _move(path, target)
        fsync_folder(path.parent)
    _log.critical(
        "%s is damaged; it is kept as %s, and a new one is begun. What the old one holds is not "
        "served any more: put a backup in its place, or look into it with SQLite's .recover",
        path,
        target,
    )
    return target


def _free_name(path: Path, now_ms: int, why: str = "corrupt", end: str = "") -> Path:
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    target, number = path.with_name(f"{path.name}.{why}-{stamp}{end}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{why}-{stamp}-{number}{end}")
    return target


def unused_name(path: Path, why: str, end: str = "") -> Path:
    """A free name for a file that is moved out of the way; `end`: a suffix such as `-wal`."""
    return _free_name(path, time.time_ns() // 1_000_000, why, end)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        source.rename(target)


class UnforeseenError(StoreError):
    """An exception that no code expected: a bug, or a row that meterd did not write."""

    def __init__(self, text: str) -> None:
        super().__init__(text, code=StoreCode.UNAVAILABLE)


@contextmanager
def readable_rows(label: str, doubt: Callable[[], None] = lambda: None) -> Iterator[None]:
    """For who reads rows of a database that anybody may have written to.

    Raises StoreError (corrupt) where one of them makes no sense; `doubt` is called then.
    """
    try:
        yield
    except StoreError as error:
        if error.code == StoreCode.CORRUPT:
            doubt()
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        doubt()
        text = f"{label}: a row makes no sense ({type(error).__name__}: {error})"
        _log.debug("%s", text, exc_info=error)
        raise StoreError(f"{text}; `meterd db check` names it", code=StoreCode.CORRUPT) from error


class DamageError(StoreError):
    """One row's body is damaged; the rest of the store is as good as ever."""

    def __init__(self, table: str, key: int | str, text: str) -> None:
        super().__init__(f"{table} {key}: {text}", code=StoreCode.CORRUPT)
        self.table = table
        self.key = key


def quarantine_body(folder: Path, damaged: DamageError, body: bytes | None) -> None:
    """What cannot be read is kept in a file of its own; None where nothing is missing by it.

    Raises StoreError.
    """
    if body is None:
        _log.error("%s", damaged)
        return
    path = folder / f"meterd.damaged-{damaged.table}-{damaged.key}"
    quarantine_file(path, body)
    _log.error("%s; what it held is missing from now on, and kept as %s", damaged, path)


def quarantine_file(path: Path, body: bytes) -> None:
    """On the disk when it returns. Raises StoreError."""
    with as_store_errors(path):
        with os.fdopen(ownership.make(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(body)
        fsync_folder(path.parent)
