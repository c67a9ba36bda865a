import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout
from meterd.store import sqlite
from meterd.store.writer import Writer

from .rigs import NEVER, poll, raw, samples, store, url_of


@contextmanager
def foreign_lock(path: Path) -> Iterator[None]:
    """Another program in the middle of a write."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


def impatient(monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Writers opened from now on give up at once; `more` are further pragmas."""
    pragmas = [p for p in sqlite.WRITER_PRAGMAS if not p.startswith("busy_timeout")]
    monkeypatch.setattr(
        sqlite, "WRITER_PRAGMAS", ("busy_timeout = 20", *pragmas, *more), raising=True
    )


def broken(writer: Writer) -> None:
    """As after any failure: the next commit opens its connection anew."""
    writer._keeper.fail()


async def test_the_loop_goes_on_while_another_program_holds_the_store(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        writer.take(poll(0, 0.0))
        await writer.flush()
        longest, moment = 0.0, 0
        with foreign_lock(path):
            flushing = asyncio.ensure_future(writer.flush())
            end = time.monotonic() + 1.5
            while (began := time.monotonic()) < end:
                moment += 1
                writer.take(poll(moment, float(moment)))
                await asyncio.sleep(0.005)
                longest = max(longest, time.monotonic() - began)
            assert len(await raw(reader)) == moment + 1
        await flushing
        await writer.flush()
        # Waiting for the lock would have taken the whole 1.5 s.
        assert longest < 0.5
        assert await raw(reader) == [(t, float(t)) for t in range(moment + 1)]
    assert len(samples(path)) == moment + 1


async def test_polls_of_an_unwritable_time_are_kept_and_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meterd.store")
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        with foreign_lock(path):
            for moment in range(5):
                writer.take(poll(moment, float(moment)))
                with pytest.raises(StoreError, match="locked; another program"):
                    await writer.flush()
            assert writer.status.queued == 5
            assert not writer.status.writable
            assert "locked" in writer.status.error
            assert len(await raw(reader)) == 5
        await writer.flush()
        assert (writer.status.writable, writer.status.error) == (True, "")
        assert (writer.status.committed, writer.status.queued) == (5, 0)
    assert [row[0] for row in samples(path)] == [0, 1, 2, 3, 4]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


async def test_memory_is_bounded_and_what_is_dropped_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    async with store(path, limit=10) as (writer, _):
        with foreign_lock(path):
            for moment in range(15):
                writer.take(poll(moment, 230.0))
            with pytest.raises(StoreError):
                await writer.flush()
        assert (writer.status.queued, writer.status.dropped) == (10, 5)
    assert [row[0] for row in samples(path)] == list(range(5, 15))


async def test_what_cannot_be_kept_at_the_end_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    writer = Writer(url_of(path), commit=NEVER)
    await writer.open()
    with foreign_lock(path):
        writer.take(poll(1, 230.0))
        await writer.close()
    assert "1 samples are lost" in caplog.text


async def test_a_full_disk_keeps_polls_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    layout = Layout.of([(f"x.c{column}", "V") for column in range(40)])
    said = random.Random(7)  # what does not compress fills a disk
    values = [tuple(said.random() for _ in range(40)) for _ in range(400)]
    polls = [poll(t, *values[t], layout=layout) for t in range(400)]
    async with store(path) as (writer, reader):
        with monkeypatch.context() as full:
            impatient(full, "max_page_count = 30")
            broken(writer)
            failed = 0
            for one in polls:
                writer.take(one)
                if one.time % 20 == 0:
                    failed += await refused(writer, "full")
            assert failed >= 5
            assert 0 < writer.status.committed < 400 * 40
        await writer.flush()
        assert writer.status.writable
        found = await reader.range(["main"], None, 0, 1000, 0, "avg")
    assert sum(len(one.points) for one in found) == len(samples(path)) == 400 * 40
    assert all(v == values[t][int(one.quantity[3:])] for one in found for t, v in one.points)


async def test_a_read_only_store_keeps_polls_until_it_is_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        with monkeypatch.context() as only:
            # As the file system says it; a test that runs as root meets no file modes.
            impatient(only, "query_only = ON")
            broken(writer)
            writer.take(poll(1, 230.0))
            assert await refused(writer, "unavailable")
            assert "read-only" in writer.status.error
        writer.take(poll(2, 230.0))
        await writer.flush()
    assert [row[0] for row in samples(path)] == [1, 2]


async def refused(writer: Writer, code: str) -> bool:
    try:
        await writer.flush()
    except StoreError as error:
        return error.code == code
    return False


async def test_a_file_that_vanished_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        with foreign_lock(path):
            writer.take(poll(1, 230.0))
            assert await refused(writer, "unavailable")
        path.unlink()
        await writer.flush()
        assert len(samples(path)) == 1
