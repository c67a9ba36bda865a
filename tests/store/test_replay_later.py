"""A start does not wait for the WAL: polls are taken at once, and readers wait for it."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from meterd.errors import StoreError
from meterd.store import reader as reader_module
from meterd.store.engine import storage_engine
from meterd.store.head.replay import replay
from meterd.store.reader import Reader
from meterd.store.writer import Writer

from .rigs import METER, NEVER, poll, raw, store, url_of

NAME = ("main", "voltage.l1", "V")


async def _left(path: Path) -> None:
    """A store whose polls are in the WAL only."""
    async with store(path) as (writer, _):
        for time in (1000, 2000, 3000):
            writer.take(poll(time, time / 10))
            writer.take(poll(time + 5, 1.0, 2.0, 3.0, device="other", layout=METER))
            await writer.flush()


async def test_polls_are_taken_while_the_wal_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    await _left(path)
    go_on = threading.Event()

    def slow(*args: Any) -> dict[int, int]:
        assert go_on.wait(20)
        return replay(*args)

    monkeypatch.setattr(storage_engine, "replay", slow)
    writer = Writer(url_of(path), commit=NEVER)
    reader = Reader(url_of(path), writer.memory)
    await asyncio.wait_for(writer.open(), 10)
    # Known at once: times must rise, and counters go on.
    assert writer.memory.newest() == {"main": 3000, "other": 3005}
    writer.take(poll(4000, 400.0))
    asked = asyncio.create_task(raw(reader))
    await asyncio.sleep(0.05)
    assert not asked.done()
    go_on.set()
    assert await asked == [(1000, 100.0), (2000, 200.0), (3000, 300.0), (4000, 400.0)]
    await writer.flush()
    assert writer.memory.newest() == {"main": 4000, "other": 3005}
    reader.close()
    await writer.close()
    async with store(path) as (_, again):
        assert [time for time, _ in await raw(again)] == [1000, 2000, 3000, 4000]


async def test_history_is_refused_where_the_wal_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    await _left(path)
    go_on = threading.Event()
    monkeypatch.setattr(storage_engine, "replay", lambda *_: {0: go_on.wait(20)})
    monkeypatch.setattr(reader_module, "_REPLAY_S", 0.01)
    writer = Writer(url_of(path), commit=NEVER)
    reader = Reader(url_of(path), writer.memory)
    await asyncio.wait_for(writer.open(), 10)
    with pytest.raises(StoreError, match="ask again") as refused:
        await raw(reader)
    assert refused.value.code == "unavailable"
    go_on.set()
    reader.close()
    await writer.close()


async def test_any_error_of_a_replay_leaves_polls_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    await _left(path)
    monkeypatch.setattr(reader_module, "_REPLAY_S", 0.01)
    writer = Writer(url_of(path), commit=NEVER)
    reader = Reader(url_of(path), writer.memory)
    with monkeypatch.context() as broken:

        def fails(*_: Any) -> dict[int, int]:
            raise KeyError("x")

        broken.setattr(storage_engine, "replay", fails)
        await writer.open()
        writer.take(poll(4000, 400.0))
        with pytest.raises(StoreError, match="KeyError"):
            await writer.flush()
        assert not writer.status.writable
        # Not without what the WAL has, as if it had never been.
        with pytest.raises(StoreError, match="ask again"):
            await raw(reader)
    await writer.flush()
    assert [time for time, _ in await raw(reader)] == [1000, 2000, 3000, 4000]
    reader.close()
    await writer.close()
