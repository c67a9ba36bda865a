import asyncio
import logging
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from meterd.errors import StoreError
from meterd.model.sample import Layout
from meterd.store.db import sqlite
from meterd.store.engine.spool_policy import SpoolOptions
from meterd.store.writer import Writer

from .rigs import NEVER, Hands, poll, raw, samples, store, url_of

HOUR = 3_600_000


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


def found(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def broken(writer: Writer) -> None:
    """As after any failure: the next commit opens its connection anew."""
    writer._engine.fail()


async def test_the_loop_goes_on_while_another_program_holds_the_store(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        writer.take(poll(0, 0.0))
        await writer.flush()
        with foreign_lock(path):
            flushing = asyncio.ensure_future(writer.flush())
            for moment in range(1, 51):
                writer.take(poll(moment, float(moment)))
                await asyncio.sleep(0.001)
            # Had the loop waited for the lock, the wait would be over.
            assert not flushing.done()
            assert len(await raw(reader)) == moment + 1
        await flushing
        await writer.flush()
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


NO_SPOOL = Path("/proc/no/such/folder/spool")


async def test_memory_is_bounded_and_what_is_dropped_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    path = tmp_path / "meterd.db"
    plan = SpoolOptions(memory=80, spool=NO_SPOOL)
    async with store(path, precautions=plan) as (writer, _):
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
    writer = Writer(url_of(path), commit=NEVER, precautions=SpoolOptions(spool=NO_SPOOL))
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
        # What the first one held is there, too, and under its names.
        writer.take(poll(2, 230.0))
        await writer.flush()
        path.unlink()
        writer.take(poll(3, 230.0))
        broken(writer)
        await writer.flush()
        await writer.flush()
        assert [row[0] for row in samples(path)] == [1, 2, 3]


async def test_a_damaged_store_is_put_aside_and_a_new_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        writer.take(poll(1, 230.0))
    path.write_bytes(b"no database at all\n" * 1000)
    async with store(path, clock=Hands(1_700_000_000_000)) as (writer, reader):
        writer.take(poll(2, 231.0))
        await writer.flush()
        assert writer.status.set_aside == 1
        assert await raw(reader) == [(2, 231.0)]
    aside = tmp_path / "meterd.db.corrupt-20231114T221320"
    assert aside.read_bytes() == b"no database at all\n" * 1000
    assert f"is kept as {aside}" in caplog.text


async def test_a_store_damaged_while_it_runs_loses_nothing_that_is_in_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, reader):
        for moment in range(5):
            writer.take(poll(moment, float(moment)))
            await writer.flush()
        broken(writer)
        path.write_bytes(bytes(65536))
        writer.take(poll(5, 5.0))
        await writer.flush()
        assert writer.status.writable
        assert writer.status.set_aside == 1
        await writer.flush()
        expected = [(moment, float(moment)) for moment in range(6)]
        assert await raw(reader) == expected
    assert [(time, value) for time, _, value in samples(path)] == expected
    assert found(tmp_path, "meterd.db.corrupt-*")


async def test_one_damaged_block_is_put_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    hands = Hands(0)
    async with store(path, clock=hands) as (writer, _):
        for moment in range(0, 3 * HOUR, 10_000):
            writer.take(poll(moment, 230.0))
            if moment % HOUR == HOUR - 10_000:
                await writer.flush()
        hands.now = 3 * HOUR
        await writer.settle()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE block SET body = x'010203' WHERE t0 = 0")
    async with store(path, clock=hands) as (writer, _):
        # A late poll of the damaged hour, which has to be merged with what is there.
        writer.take(poll(5_000, 231.0))
        hands.now = 26 * HOUR
        await writer.settle()
        assert writer.status.writable
    times = [time for time, _, _ in samples(path)]
    assert times == [5_000, *range(HOUR, 3 * HOUR, 10_000)]
    (kept,) = found(tmp_path, "meterd.damaged-block-*")
    assert kept.read_bytes() == b"\x01\x02\x03"


async def test_a_damaged_journal_row_does_not_keep_a_store_closed(tmp_path: Path) -> None:
    path = tmp_path / "meterd.db"
    async with store(path) as (writer, _):
        for moment in range(3):
            writer.take(poll(moment, 230.0))
            await writer.flush()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(
            "UPDATE journal SET body = x'010203' WHERE id = 1 + (SELECT min(id) FROM journal)"
        )
    with pytest.raises(StoreError, match="damaged"):
        samples(path)
    async with store(path) as (_, reader):
        assert [time for time, _ in await raw(reader)] == [0, 2]
    assert len(found(tmp_path, "meterd.damaged-journal-*")) == 1


async def test_a_full_disk_gets_the_reserve_and_a_new_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "meterd.db"
    reserve = tmp_path / "meterd.db.reserve"
    hands = Hands(60_000)
    async with store(path, clock=hands, commit=0.01) as (writer, _):
        while not reserve.exists() or reserve.stat().st_size < 4 << 20:
            await asyncio.sleep(0.01)
        with monkeypatch.context() as full:
            impatient(full, "max_page_count = 2")
            broken(writer)
            said = random.Random(7)  # what does not compress needs pages
            for moment in range(5000):
                writer.take(poll(moment, said.random()))
            assert await refused(writer, "full")
            assert not reserve.exists()
        broken(writer)
        await writer.flush()
        hands.elapsed += 1000
        while not reserve.exists():
            await asyncio.sleep(0.01)
    assert len(samples(path)) == 5000
