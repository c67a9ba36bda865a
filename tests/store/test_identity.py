"""Files that are deleted, replaced or moved while a writer has them open."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.store import database
from meterd.store.tools import check
from meterd.store.writer import Writer

from .rigs import NEVER, Hands, poll, raw, samples, store, url_of

HOUR = 3_600_000


def problems(path: Path) -> list[str]:
    return list(check.problems(database.find(url_of(path))))


def delete(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def named(path: Path, *ends: str) -> list[Path]:
    return [path.with_name(path.name + end) for end in ends]


WAYS: dict[str, Callable[[Path], None]] = {
    "database": lambda path: delete(path),
    "database, log and index": lambda path: delete(*named(path, "", "-wal", "-shm")),
    "log": lambda path: delete(*named(path, "-wal")),
    "index": lambda path: delete(*named(path, "-shm")),
    "log and index": lambda path: delete(*named(path, "-wal", "-shm")),
    "journal": lambda path: delete(*named(path, ".journal")),
    "lock": lambda path: delete(*named(path, ".lock")),
    "everything": lambda path: delete(*path.parent.glob(f"{path.name}*")),
    "database moved": lambda path: [path.rename(path.with_name("elsewhere.db")), None][1],
    "log overwritten by a copy": lambda path: _another(*named(path, "-wal")),
}


def _another(path: Path) -> None:
    """The same bytes under another inode."""
    body = path.read_bytes()
    path.unlink()
    path.with_name("another").write_bytes(body)
    path.with_name("another").rename(path)


@pytest.mark.parametrize("to_file", [False, True], ids=["table", "file"])
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_polled_is_lost_with_a_file(tmp_path: Path, way: str, to_file: bool) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    path = folder / "meterd.db"
    async with store(path, to_file=to_file) as (writer, reader):
        for time in range(5):
            writer.take(poll(time, float(time)))
            await writer.flush()
            assert len(await raw(reader)) == time + 1
        WAYS[way](path)
        for time in range(5, 10):
            writer.take(poll(time, float(time)))
            await writer.flush()
            # Of what no file holds any more, nothing is confirmed.
            assert [t for t, _, _ in samples(path)] == list(range(time + 1))
        assert writer.status.writable
        assert await raw(reader) == [(time, float(time)) for time in range(10)]
    assert [t for t, _, _ in samples(path)] == list(range(10))
    assert problems(path) == []
