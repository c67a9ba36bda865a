"""What nobody foresaw in the store's thread: told, and nobody waits for ever."""

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meterd.errors import StoreError
from meterd.store.compaction.session import StoreSession
from meterd.store.db import lockfile, migrate, ownership
from meterd.store.db.sqlite import SqliteDatabase
from meterd.store.engine.spool_policy import SpoolPolicy
from meterd.store.engine.storage_engine import StorageEngine
from meterd.store.writer import Writer

from .rigs import NEVER, Hands, poll, samples, store, url_of

HOUR = 3_600_000
TROUBLES: dict[str, Exception] = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "failing": OSError(errno.EIO, "Input/output error"),
    "read-only": OSError(errno.EROFS, "Read-only file system"),
    "a bug": KeyError(2),
    "too large": MemoryError(),
}
PLACES: dict[str, tuple[Any, str]] = {
    "folder": (SqliteDatabase, "prepare"),
    "lock": (lockfile, "_opened"),
    "lock's text": (lockfile.LockFile, "_write_holder"),
    "file": (ownership, "make"),
    "spool": (SpoolPolicy, "open"),
    "schema": (migrate, "upgrade"),
    "ledger": (StoreSession, "__init__"),
    "load": (StorageEngine, "_load"),
    "memos": (StoreSession, "memos"),
}


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_any_error_before_it_is_open_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    for number, (what, (owner, name)) in enumerate(PLACES.items()):
        path = tmp_path / f"{number}.db"
        writer = Writer(url_of(path), commit=NEVER)
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, raising(TROUBLES[trouble]))
            with pytest.raises(StoreError) as told:
                await asyncio.wait_for(writer.open(), 20)
            await asyncio.wait_for(writer.close(), 20)
        assert str(told.value), what
        with pytest.raises(StoreError, match="not open"):
            await writer.flush()
        # Nothing of it is left that keeps the next one from the store.
        async with store(path) as (again, _):
            again.take(poll(1, 1.0))
            await again.flush()
        assert len(samples(path)) == 1, what


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_any_error_of_a_commit_leaves_polls_waiting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        with monkeypatch.context() as broken:
            broken.setattr(StoreSession, "commit", raising(TROUBLES[trouble]))
            for time in range(3):
                writer.take(poll(time, float(time)))
                with pytest.raises(StoreError):
                    await writer.flush()
            assert not writer.status.writable
            assert writer.status.queued == 3
        await writer.flush()
    assert [time for time, _, _ in samples(path)] == [0, 1, 2]
    # The stack once, for whoever mends it.
    assert len([r for r in caplog.records if r.exc_info]) == 1


async def test_any_error_of_maintenance_leaves_commits_going(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, hands = tmp_path / "meterd.db", Hands(0)
    async with store(path, clock=hands) as (writer, _):
        writer.take(poll(1, 1.0))
        await writer.flush()
        with monkeypatch.context() as broken:
            broken.setattr(
                "meterd.store.compaction.hours.HourCompactor.seal", raising(KeyError("x"))
            )
            hands.now = 3 * HOUR
            with pytest.raises(StoreError, match="KeyError"):
                await writer.settle()
            writer.take(poll(3 * HOUR, 1.0))
            await writer.flush()
            assert writer.status.queued == 0
        await writer.settle()
    assert len(samples(path)) == 2


async def test_a_start_that_is_given_up_leaves_nothing_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    path, slow, reached = tmp_path / "meterd.db", threading.Event(), threading.Event()
    upgrade = migrate.upgrade

    def wait(*arguments: Any) -> None:
        reached.set()
        slow.wait(20)
        upgrade(*arguments)

    writer = Writer(url_of(path), commit=NEVER)
    with monkeypatch.context() as busy:
        busy.setattr(migrate, "upgrade", wait)
        opening = asyncio.ensure_future(writer.open())
        await asyncio.to_thread(reached.wait, 20)
        # As SIGTERM does.
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        slow.set()
        await asyncio.wait_for(writer.close(), 20)
    async with store(path) as (again, _):
        again.take(poll(1, 1.0))
        await again.flush()
    assert not caplog.records
